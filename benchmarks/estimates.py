"""Show on simulated truth that intervals, counts, comparisons and warnings do what they say.

    python benchmarks/estimates.py [--only T1 T3] [--repeats 2000]

Prints for each target what is asked and what was measured. All seeds are fixed.
"""

import argparse
import time

import numpy as np
import simulated as sim

from cellkit.estimates import (
    Interval,
    add_intervals,
    adjusted_share,
    check_probabilities,
    detector_recall,
    draw_boxes,
    missed_total,
    powered_share,
    ratio_total,
    stratified_share,
    stratified_total,
    wilson,
)

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
    print(
        "T1 asked: |bias| < 2 %, RMSE within 15 % of the expected, coverage >= 0.92 and 0.94-0.96 on average"
    )
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


TARGETS = {"T1": t1_t2, "T2": t1_t2, "T3": t3}


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
