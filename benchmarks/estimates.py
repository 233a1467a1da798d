"""Show on simulated truth that intervals, counts, comparisons and warnings do what they say.

    python benchmarks/estimates.py [--only T1 T3] [--repeats 2000]

Prints for each target what is asked and what was measured. All seeds are fixed. T8 is `new_microscope.py`; T9
and T10 are about training and disks, and `tests/test_train_mode.py` holds the one and names the other.
"""

import argparse
import time

import numpy as np
import sampling
import simulated as sim
from scipy.special import expit, logit

from cellkit.estimates import (
    Interval,
    add_intervals,
    adjusted_share,
    audit_design,
    calibration_error,
    canary,
    check_probabilities,
    confusion,
    detector_recall,
    draw_boxes,
    horvitz_thompson,
    mcnemar,
    metric_differences,
    missed_total,
    out_of_fold,
    powered_share,
    ratio_total,
    reliability,
    stratified_share,
    stratified_total,
    suspect_labels,
    wilson,
)
from cellkit.networks.calibration import calibrate

Trials = dict[str, list[tuple[Interval, float]]]


def said(trials: Trials) -> dict[str, dict[str, float]]:
    """Return bias, RMSE, mean half-width (shares of the truth) and coverage of every estimate."""
    out = {}
    for name, each in trials.items():
        value, low, high, true = np.array([(*interval, truth) for interval, truth in each]).T
        off = value / true - 1
        out[name] = {
            "bias": float(off.mean()),
            "rmse": float(np.sqrt((off**2).mean())),
            "half_width": float(((high - low) / 2 / true).mean()),
            "cover": float(((low <= true) & (true <= high)).mean()),
        }
    return out


def count_trials(world: sim.World, *, repeats: int, n: int = 400, seed: int = 0) -> tuple[Trials, float]:
    """Count one world again and again; return the estimates, and how often its probabilities are doubted."""
    rng, trials, doubted = np.random.default_rng(seed), {}, []
    for _ in range(repeats):
        y, p, q = sim.populate(world, rng)
        rows, design, stratum = sim.audit(q, n, rng)
        simple = rng.choice(len(y), n, replace=False)
        frame_q = np.bincount(stratum, weights=q) / design.sizes
        naive, em = float((p > 0.5).mean()), float(q.mean())
        found = {
            "stratified": stratified_share(y[rows], design),
            "powered": powered_share(y[rows], q[rows], design, frame_q),
            "random": wilson(int(y[simple].sum()), n),
            "adjusted": adjusted_share(int((p > 0.5).sum()), len(p), sim.error_rates(rng)),
            "EM": Interval(em, em, em),
            "naive": Interval(naive, naive, naive),
        }
        for name, interval in found.items():
            trials.setdefault(name, []).append((interval, float(y.mean())))
        doubted.append(not check_probabilities(y[rows], q[rows], design).holds)
    return trials, float(np.mean(doubted))


def box_trials(*, repeats: int, m: int = 40, seed: int = 0) -> Trials:
    """Estimate missed cells, recall, and totals of grids of boxes whose cells are known."""
    rng, trials = np.random.default_rng(seed), {}
    for _ in range(repeats):
        cells, hits, detected = sim.fill_boxes(rng)
        box, chance = draw_boxes(detected, m, rng)
        truth = np.repeat([True, False], [hits.sum(), (detected - hits).sum()])
        score = np.where(truth, 1.75, -1.75) + rng.normal(size=len(truth))
        q = 1 / (1 + np.exp(-3.5 * score) * (~truth).sum() / truth.sum())
        rows, design, _ = sim.audit(q, 400, rng)
        missed = missed_total((cells - hits)[box], chance)
        both = add_intervals(stratified_total(truth[rows], design), missed)
        for name, interval, true in [
            ("missed", missed, (cells - hits).sum()),
            ("recall", detector_recall(hits[box], cells[box], chance), hits.sum() / cells.sum()),
            ("ratio total", ratio_total(cells[box], detected[box], chance, detected.sum()), cells.sum()),
            ("count with misses", both, cells.sum()),
            ("count without", stratified_total(truth[rows], design), cells.sum()),
        ]:
            trials.setdefault(name, []).append((interval, float(true)))
    return trials


EXPECTED = dict(zip(sim.WORLDS, (0.099, 0.101, 0.133, 0.039, 0.048, 0.050, 0.019, 0.026, 0.024), strict=True))


def t1_t2(repeats: int) -> None:
    """Corrected counts: bias, interval, and how many random labels one label is worth."""
    print("T1 asked: |bias| < 2 %, RMSE at most 15 % above the expected, coverage >= 0.92, mean 0.94-0.96")
    print("T2 asked: at least 7 times as efficient as random labels, in all nine")
    cover, worth = [], []
    for world in sim.WORLDS:
        trials, doubted = count_trials(world, repeats=repeats)
        found = said(trials)
        ours, others = (
            found["stratified"],
            ", ".join(
                f"{name} bias {each['bias']:+.0%} RMSE {each['rmse']:.0%}"
                for name, each in found.items()
                if name not in {"stratified", "powered"}
            ),
        )
        cover.append(ours["cover"])
        worth.append((found["random"]["rmse"] / ours["rmse"]) ** 2)
        print(
            f"  {world.name:20} bias {ours['bias']:+.2%} RMSE {ours['rmse']:.1%} (expected "
            f"{EXPECTED[world]:.1%}) cover {ours['cover']:.3f} half-width {ours['half_width']:.1%} "
            f"worth {worth[-1]:.1f}; powered RMSE {found['powered']['rmse']:.1%} cover "
            f"{found['powered']['cover']:.3f}; {others}; probabilities doubted {doubted:.2f}",
            flush=True,
        )
    print(f"T1 measured: coverage {min(cover):.3f} at least, {np.mean(cover):.3f} on average")
    print(f"T2 measured: {min(worth):.1f} times at least")


def t3(repeats: int) -> None:
    """Cells that the detector missed."""
    print("T3 asked: ratio total covers 0.93-0.97 with 40 boxes; so does the count with misses")
    for m in (20, 40, 80, 160):
        for name, each in said(box_trials(repeats=repeats, m=m)).items():
            print(
                f"  {m:3} boxes, {name:18} bias {each['bias']:+.1%} RMSE {each['rmse']:.1%} "
                f"half-width {each['half_width']:.1%} cover {each['cover']:.3f}",
                flush=True,
            )


def canary_trials(by: str, split: str, *, repeats: int, seed: int = 0) -> np.ndarray:
    """Return how well random labels of groups or animals are learnt across a split by these units."""
    rng, learnt = np.random.default_rng(seed), []
    for _ in range(repeats):
        cubes = sim.overlapping_cubes(rng)
        judged = sim.held_out(cubes.units[split], rng)
        learnt.append(canary(cubes.features, cubes.units[by], ~judged, judged, by=by).accuracy)
    return np.array(learnt)


def t4(repeats: int) -> None:
    """Random labels are learnt across a split that leaks, and across no other."""
    print(
        "T4 asked: mean balanced accuracy <= 0.55 (labels of groups) and <= 0.65 (of animals) across a split"
    )
    print("  by group or animal that does not leak; > 0.9 across one that does")
    for by, split, leaks in [
        ("group", "cube", True),
        ("group", "group", False),
        ("animal", "cube", True),
        ("animal", "group", True),
        ("animal", "animal", False),
    ]:
        learnt = canary_trials(by, split, repeats=max(1, repeats // 100))
        wanted = "> 0.9" if leaks else "no leak"
        print(f"  random labels of each {by}, split by {split}: {learnt.mean():.3f} ({wanted})", flush=True)


def suspect_trials(*, repeats: int, seed: int = 0, **settings: float) -> tuple[float, float]:
    """Return the share of flagged labels that are wrong, and the share of wrong ones that are flagged."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(repeats):
        world = sim.noisy_labels(rng, **settings)
        p = out_of_fold(world.features, world.labels, world.groups)
        flagged = suspect_labels(world.labels, p).rows
        hits = world.wrong[flagged].sum()
        found.append((hits / max(len(flagged), 1), hits / world.wrong.sum()))
    precision, recall = np.mean(found, axis=0)
    return float(precision), float(recall)


def t5(repeats: int) -> None:
    """Wrong labels are found."""
    print("T5 asked, 5 % wrong: precision >= 0.75, recall >= 0.80 at AUC 0.99; >= 0.45, >= 0.70 at 0.96")
    for auc, wrong, cells in [
        (0.99, 0.05, 0.5), (0.96, 0.05, 0.5), (0.993, 0.01, 0.5), (0.993, 0.05, 0.5), (0.993, 0.1, 0.5),
        (0.993, 0.01, 0.1), (0.993, 0.05, 0.1), (0.993, 0.1, 0.1),
    ]:  # fmt: skip
        found = suspect_trials(repeats=max(2, repeats // 60), auc=auc, wrong=wrong, cells=cells)
        print(
            f"  AUC {auc}, {wrong:.0%} wrong, {cells:.0%} cells: precision {found[0]:.2f}, "
            f"recall {found[1]:.2f}",
            flush=True,
        )


def calibration_trials(labels: int, *, repeats: int, seed: int = 0) -> dict[str, float]:
    """Return how often logits that are twice too large, plus 1, pass on 500 answers before and after."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(repeats):
        y = rng.random(labels + 500) < 0.3
        right = sim.APART * sim.scores(y, rng) + logit(0.3)
        logits, told = 2 * right + 1, np.arange(len(y)) < labels
        slope, offset = calibrate(logits[told], y[told])
        weight = np.ones(500)
        before = calibration_error(y[~told], expit(logits[~told]), weight)
        after = calibration_error(y[~told], expit(slope * logits[~told] + offset), weight)
        found.append((before.passes, after.passes, before.value, after.value, slope))
    names = ("passes before", "passes after", "error before", "error after", "slope")
    return dict(zip(names, np.mean(found, axis=0).tolist(), strict=True))


def t6(repeats: int) -> None:
    """Recalibration, and the prevalence after balanced training."""
    print("T6 asked: calibration error below its own 95 % null after recalibration with 500 labels")
    for labels in (200, 500, 1000):
        found = calibration_trials(labels, repeats=max(20, repeats // 10))
        print(f"  {labels} labels: " + ", ".join(f"{name} {x:.3f}" for name, x in found.items()), flush=True)
    rng, inside, naive = np.random.default_rng(0), [], []
    for _ in range(max(20, repeats // 10)):
        y, p, q = sim.populate(sim.World(0.05), rng)
        rows, design, _ = sim.audit(q, 400, rng)
        count = stratified_total(y[rows], design)
        inside.append(count.low <= q.sum() <= count.high)
        naive.append(count.low <= (p > 0.5).sum() <= count.high)
    print(
        f"  5 % cells after balanced training: the sum of corrected p lies in the audit's interval "
        f"{np.mean(inside):.2f}, the number called {np.mean(naive):.2f}"
    )


def paired_trials(cells: float, n: int, alike: float, *, repeats: int, seed: int = 0) -> dict[str, float]:
    """Return how often two equally good networks are told apart at a level of 5 %."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(repeats):
        y, first, second, design = sim.equal_networks(cells, n, rng, alike=alike)
        f1 = metric_differences(y, first, second, design)["F1"]
        found.append(
            (
                f1.low > 0 or f1.high < 0,
                mcnemar(first == y, second == y, design).probability < 0.05,
                mcnemar(first == y, second == y).probability < 0.05,
            )
        )
    names = ("F1 interval", "weighted test", "exact test without weights")
    return dict(zip(names, np.mean(found, axis=0).tolist(), strict=True))


def paired(repeats: int) -> None:
    """Tell equally good networks apart no more often than the level says."""
    print("paired asked: 5 % +- 1.5 % of equally good networks are told apart")
    for cells, n, alike in [
        (0.02, 400, 0.5),
        (0.1, 400, 0.5),
        (0.3, 400, 0.5),
        (0.3, 400, 0.9),
        (0.3, 200, 0.5),
    ]:
        found = paired_trials(cells, n, alike, repeats=repeats)
        said_of = ", ".join(f"{name} {x:.3f}" for name, x in found.items())
        print(f"  {cells:.0%} cells, {n} answers, {alike:.0%} alike: {said_of}", flush=True)


def t7(repeats: int) -> None:
    """Mixed batches against random ones, on made-up populations; see `sampling.py` for real volumes."""
    seeds, worlds = max(2, repeats // 100), 3
    print(f"T7 asked: 95 % of the full F1 with half of random's labels; never > 1 point below; {seeds} seeds")
    for world in range(worlds):
        table, _ = sampling.compare(sampling.made_up(np.random.default_rng(world)), seeds)
        of = table.set_index("strategy")
        needed = ", ".join(
            f"{share}: random {of[share]['random']:.0f}, mixed {of[share]['mixed']:.0f}"
            for share in ("95%", "98%")
        )
        gain, worst = of["gain"]["mixed"], of["worst"]["mixed"]
        print(
            f"  population {world}: labels to {needed}; mixed above random by {gain:+.3f} F1 on average, "
            f"{worst:+.3f} at worst",
            flush=True,
        )


def t11(repeats: int) -> None:
    """No estimator takes a label without its probability."""
    print("T11 asked: no estimator accepts a label without the probability of having been drawn")
    weight, y = np.array([10.0, np.nan, 10.0]), np.array([True, False, True])
    refused = 0
    attempts = [
        lambda: audit_design(np.zeros(3), weight),
        lambda: horvitz_thompson(y, weight),
        lambda: calibration_error(y, y, weight),
        lambda: reliability(y, y, weight),
        lambda: confusion(y, y, weight),
        lambda: missed_total(y, 1 / weight),
    ]
    for attempt in attempts:
        try:
            attempt()
        except ValueError:
            refused += 1
    print(f"  refused {refused} of {len(attempts)}; all others take a design, which only these weights make")


TARGETS = {
    "T1": t1_t2,
    "T2": t1_t2,
    "T3": t3,
    "T4": t4,
    "T5": t5,
    "T6": t6,
    "T7": t7,
    "paired": paired,
    "T11": t11,
}


def main() -> None:
    """Run the targets that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--repeats", type=int, default=2000)
    options = parser.parse_args()
    for target in dict.fromkeys(TARGETS[name] for name in options.only):
        start = time.perf_counter()
        target(options.repeats)
        print(f"  ({time.perf_counter() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
