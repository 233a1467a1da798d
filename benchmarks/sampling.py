"""Which way of choosing labels needs the fewest: six of them, judged by a head on a frozen embedding.

    python benchmarks/sampling.py [--real DIR] [--seeds 40] [--network cells-1] [--cache DIR] [--out FILE.png]
                                  [--only "sample study"] [--batch 20] [--budget 640]

Data: a made-up population with rare kinds of cells and artefacts that mimic them; the sample study; with
`--real` (the folder that holds `cfos/` and `microglia/`) all their volumes. Of every volume the last third
along x judges and the rest, a gap of 30 µm apart, is the pool; of the sample study the third animal judges.
All strategies start from the same 40 random labels, draw batches of `--batch`, and train a head as a study
does: it begins at what the network says (of the made-up population none says anything), and its strength is
found by cross-validation, anew whenever the labels are half as many again. Until there are ten labels of each
class, batches are chosen by what the network says. F1 is over judging candidates, at the threshold that the
pool's probabilities foretell. `gain` is the mean difference from random over all batches, `worst` that of the
worst batch, each with its 95 % half-width; `95%` and `98%` are the labels needed to reach that share of F1
with all labels.
"""

import argparse
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.decomposition import PCA
from sklearn.kernel_approximation import Nystroem
from sklearn.metrics import f1_score

from cellkit.detect import detect
from cellkit.labels.diversity import varied_rows
from cellkit.match import match_points
from cellkit.networks.calibration import choose_threshold
from cellkit.networks.heads import Head, fit_head, refit_head
from cellkit.networks.predict import embed
from cellkit.networks.store import load_network
from cellkit.study import Study, create_study
from cellkit.synthetic import create_sample_study
from cellkit.tables import positions_um

START, BATCH, BUDGET = 40, 20, 640
FEW, ANEW, GROUPS = 10, 1.5, 20
POOL = 4000
AXES = 24
WITHIN_UM, GAP_UM = 10.0, 30.0
REAL = {
    "cfos": (("753", "969", "1147"), (6.0, 1.62, 1.62)),
    "microglia": (("1874", "4923", "6506", "7466"), (1.0, 1.0, 1.0)),
}
STRATEGIES = ("random", "uncertain", "diverse", "uncertain x diverse", "categories", "mixed")


class Data(NamedTuple):
    """Features and truth of the pool and of the candidates that judge; the logits a network says of both."""

    name: str
    x: np.ndarray
    y: np.ndarray
    judge_x: np.ndarray
    judge_y: np.ndarray
    said: np.ndarray | None = None
    judge_said: np.ndarray | None = None


class State(NamedTuple):
    """What is known when a batch is drawn: features, probabilities, threshold, labelled rows, truth."""

    x: np.ndarray
    p: np.ndarray
    threshold: float
    labelled: np.ndarray
    y: np.ndarray
    called_then: np.ndarray


def made_up(rng: np.random.Generator, *, n: int = 6000) -> Data:
    """10 % cells, of four kinds, some rare; a fifth of the artefacts mimic the kinds. The head is curved."""
    centres = rng.normal(size=(4, 6))
    centres *= 2.6 * np.sqrt(6) / np.linalg.norm(centres, axis=1, keepdims=True)
    kind = rng.choice(4, n, p=[0.6, 0.2, 0.12, 0.08])
    y = rng.random(n) < 0.1
    mimic = ~y & (rng.random(n) < 0.2)
    x = rng.normal(size=(n, 6))
    x[y] = centres[kind[y]] + 0.5 * rng.normal(size=(y.sum(), 6))
    x[mimic] = 0.8 * centres[kind[mimic]] + 0.5 * rng.normal(size=(mimic.sum(), 6))
    x = Nystroem(gamma=0.05, n_components=200, random_state=0).fit(x).transform(x)
    half = n // 2
    return Data("made up", x[:half], y[:half], x[half:], y[half:])


def look(study: Study, network_name: str) -> pd.DataFrame:
    """Return the candidates of a study: truth (`cell`), side (`side`), `p`, embedding (`e0`, `e1`, ...)."""
    detect(study, progress=False)
    network, parts = load_network(network_name), []
    for name in study.names:
        table, image = study.candidates(name), study.image(name)
        settings = {"intensities": study.intensities(name), "diameter_um": study.settings.diameter_um}
        p, embedding = embed(network, image, table, **settings)
        truth = study.truth(name)
        cells = truth[truth["kind"] == "cell"] if "kind" in truth else truth
        at = positions_um(table, image.voxel_um)
        found = match_points(at, positions_um(cells, image.voxel_um), within_um=WITHIN_UM).found
        columns = pd.DataFrame(embedding, columns=[f"e{i}" for i in range(embedding.shape[1])])
        part = pd.DataFrame(
            {"cell": np.isin(np.arange(len(table)), found), "image": name, "side": "pool", "p": p}
        )
        if study.entry(name).role == "judge":
            part["side"] = "judge"
        elif "judge" not in {study.entry(each).role for each in study.names}:
            cut = at[:, 2].min() + np.ptp(at[:, 2]) * 2 / 3
            part["side"] = np.select([at[:, 2] > cut, at[:, 2] > cut - GAP_UM], ["judge", "gap"], "pool")
        parts.append(pd.concat([part, columns], axis=1))
    return pd.concat(parts, ignore_index=True)


def real_study(folder: Path, real: Path, name: str) -> Study:
    """Create a study of the volumes of one kind, with their annotated centres as truth."""
    volumes, voxel_um = REAL[name]
    (folder / "truth").mkdir(parents=True)
    images = []
    for volume in volumes:
        table = pd.read_csv(real / name / f"{volume}_centres.csv")
        table[["z", "y", "x"]].to_csv(folder / "truth" / f"{volume}.csv", index=False)
        path = str(real / name / f"{volume}_img.tif")
        images.append(
            {"name": volume, "animal": volume, "path": path, "channels": ["signal"], "voxel_um": voxel_um}
        )
    return create_study(folder, images=images, diameter_um=10.0, seed=0)


def as_data(name: str, table: pd.DataFrame) -> Data:
    """Return the embedding on its first axes, scaled alike, of a random pool and of all that judges."""
    features = table.filter(regex=r"^e\d+$").to_numpy("float64")
    pool = table.index[table["side"] == "pool"].to_numpy()
    pool = np.random.default_rng(0).choice(pool, min(POOL, len(pool)), replace=False)
    judge = table.index[table["side"] == "judge"].to_numpy()
    spread = features[pool].std(axis=0)
    scaled = (features - features[pool].mean(axis=0)) / np.where(spread > 1e-6, spread, 1)
    axes = PCA(min(AXES, scaled.shape[1]), random_state=0).fit(scaled[pool])
    x, y = axes.transform(scaled) / np.sqrt(axes.explained_variance_[0]), table["cell"].to_numpy()
    said = logit(np.clip(table["p"].to_numpy("float64"), 1e-6, 1 - 1e-6))
    return Data(name, x[pool], y[pool], x[judge], y[judge], said[pool], said[judge])


def fit(data: Data, rows: np.ndarray, like: Head | None = None) -> Head | None:
    """Return a head taught by these rows of the pool; None while there is one class only."""
    x, y, said = data.x[rows], data.y[rows], None if data.said is None else data.said[rows]
    if not 0 < y.sum() < len(y):
        return None
    if like is not None:
        return refit_head(like, x, y, before=said)
    return fit_head(x, y, groups=np.arange(len(y)) % GROUPS, before=said)


def judged(head: Head | None, data: Data) -> tuple[np.ndarray, float, float]:
    """Return the pool's probabilities, the threshold they foretell, and F1 on the judging candidates."""

    def probability(x: np.ndarray, said: np.ndarray | None) -> np.ndarray:
        before = np.zeros(len(x)) if said is None else said
        return expit(before if head is None else x @ head.kernel + head.bias + head.kept * before)

    p, judge_p = probability(data.x, data.said), probability(data.judge_x, data.judge_said)
    threshold = choose_threshold(p, p) if np.ptp(p) else 0.5
    return p, threshold, float(f1_score(data.judge_y, judge_p >= threshold, zero_division=0))


def choose(state: State, way: str, k: int, rng: np.random.Generator) -> np.ndarray:
    """Return `k` rows without a label, chosen this way."""
    free = np.flatnonzero(~state.labelled)
    inside = np.clip(state.p, 1e-4, 1 - 1e-4)
    margin = np.abs(logit(inside) - logit(np.clip(state.threshold, 1e-4, 1 - 1e-4)))[free]
    if way == "random":
        return rng.choice(free, k, replace=False)
    if way == "uncertain":
        return free[np.argsort(margin, kind="stable")[:k]]
    known = state.x[state.labelled]
    if way == "diverse":
        some = rng.choice(free, min(1000, len(free)), replace=False)
        return some[varied_rows(state.x[some], k, rng, known=known)]
    if way == "uncertain x diverse":
        near = free[np.argsort(margin, kind="stable")[: 10 * k]]
        return near[varied_rows(state.x[near], k, rng, known=known)]
    if way == "categories":
        return by_category(state, k, rng)
    parts, labelled = [], state.labelled.copy()
    for part, share in (("random", 0.1), ("uncertain x diverse", 0.7), ("emptiest", 0.2)):
        now = state._replace(labelled=labelled)
        m = round(share * k)
        rows = by_category(now, m, rng, emptiest=True) if part == "emptiest" else choose(now, part, m, rng)
        labelled[rows] = True
        parts.append(rows)
    return np.concatenate(parts)


def by_category(state: State, k: int, rng: np.random.Generator, *, emptiest: bool = False) -> np.ndarray:
    """Return rows for the four categories evenly (or for the emptiest), as far as `p` foretells them."""
    called, rows = state.p >= state.threshold, np.empty(0, dtype=np.int64)
    chance = np.where(called, 1 - state.p, state.p)
    told = state.labelled
    have = np.array(
        [(told & (state.called_then == c) & ((state.y == c) != w)).sum() for c in (1, 0) for w in (0, 1)]
    )
    lacking = np.maximum((have.sum() + k) / 4 - have, 0)
    if emptiest:
        lacking = np.eye(4)[lacking.argmax()]
    shares = np.diff(np.round(np.cumsum(lacking) / lacking.sum() * k).astype(int), prepend=0)
    for (c, wrong), share in zip([(1, 0), (1, 1), (0, 0), (0, 1)], shares, strict=True):
        free = np.setdiff1d(np.flatnonzero(~told & (called == c)), rows)
        order = free[np.argsort(-chance[free] if wrong else chance[free], kind="stable")]
        best = order[: max(len(order) // 20, 3 * share) if wrong else max(len(order) // 2, share)]
        rows = np.append(rows, rng.choice(best, min(share, len(best)), replace=False))
    others = np.setdiff1d(np.flatnonzero(~told), rows)
    return np.append(rows, rng.choice(others, k - len(rows), replace=False))


def curve(data: Data, way: str, seed: int, budget: int = BUDGET, batch: int = BATCH) -> np.ndarray:
    """Return F1 after START, START + batch, ... labels; all ways share a seed's first labels."""
    rows = np.random.default_rng(seed).choice(len(data.x), START, replace=False)
    rng = np.random.default_rng([seed, STRATEGIES.index(way)])
    called_then, reached, head, tuned = np.zeros(len(data.x), bool), [], None, 0
    for n in range(START, budget + 1, batch):
        known = head is not None and n < ANEW * tuned
        head, tuned = fit(data, rows, head if known else None), tuned if known else n
        p, threshold, f1 = judged(head, data)
        reached.append(f1)
        if data.said is not None and np.bincount(data.y[rows], minlength=2).min() < FEW:
            p, threshold, _ = judged(None, data)
        labelled = np.isin(np.arange(len(data.x)), rows)
        state = State(data.x, p, threshold, labelled, data.y, called_then)
        more = choose(state, way, min(batch, int((~labelled).sum())), rng)
        called_then[more] = p[more] >= threshold
        rows = np.append(rows, more)
    return np.array(reached)


def labels_to_reach(f1: np.ndarray, goal: float, batch: int = BATCH) -> float:
    """Return after how many labels a mean curve reaches the goal and stays; endless if it does not."""
    below = np.flatnonzero(f1 < goal)
    at = below[-1] + 1 if len(below) else 0
    return START + batch * at if at < len(f1) else np.inf


def compare(
    data: Data, seeds: int, budget: int = BUDGET, batch: int = BATCH
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Return a row for each strategy, and the curves (seeds, batches); on all cores."""
    full = judged(fit(data, np.arange(len(data.x))), data)[2]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as cores:
        waiting = {
            way: [cores.submit(curve, data, way, s, budget, batch) for s in range(seeds)]
            for way in STRATEGIES
        }
        curves = {way: np.stack([each.result() for each in every]) for way, every in waiting.items()}
    again = np.random.default_rng(0).integers(0, seeds, (1000, seeds))
    rows = []
    for way, each in curves.items():
        gain = (each - curves["random"]).mean(axis=1)
        row = {"data": data.name, "full F1": full, "strategy": way, "gain": gain.mean()}
        row["gain ±"] = 1.96 * gain.std(ddof=1) / np.sqrt(seeds) if seeds > 1 else np.nan
        paired = each - curves["random"]
        at = paired.mean(axis=0).argmin()
        row |= {"worst": paired[:, at].mean(), "worst ±": 1.96 * paired[:, at].std() / np.sqrt(seeds)}
        for share in (0.95, 0.98):
            drawn = [labels_to_reach(each[rows].mean(axis=0), share * full, batch) for rows in again]
            low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
            needed = labels_to_reach(each.mean(axis=0), share * full, batch)
            row |= {f"{share:.0%}": needed, f"{share:.0%} low": low, f"{share:.0%} high": high}
        rows.append(row)
    return pd.DataFrame(rows), curves


def all_data(real: Path | None, network: str, cache: Path | None) -> list[Data]:
    """Return the made-up population, the sample study, and the real volumes if they are there."""
    data = [made_up(np.random.default_rng(0))]
    for name in ["sample study", *(REAL if real else [])]:
        kept = cache / f"{name}-{Path(network).name}.parquet" if cache else None
        if kept and kept.exists():
            data.append(as_data(name, pd.read_parquet(kept)))
            continue
        with tempfile.TemporaryDirectory() as folder:
            at = Path(folder) / "study"
            study = create_sample_study(at) if name == "sample study" else real_study(at, real, name)
            table = look(study, network)
        if kept:
            cache.mkdir(parents=True, exist_ok=True)
            table.to_parquet(kept)
        data.append(as_data(name, table))
    return data


def draw_curves(
    found: dict[str, dict[str, np.ndarray]], full: dict[str, float], path: Path, batch: int
) -> None:
    """Save the mean curves with the standard error of the paired difference from random."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(found), figsize=(3.6 * len(found), 3.4), layout="constrained", squeeze=False
    )
    colours = ["#000000", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00"]
    for axis, (name, curves) in zip(axes[0], found.items(), strict=True):
        for (way, each), colour in zip(curves.items(), colours, strict=True):
            labels = START + batch * np.arange(each.shape[1])
            mean = each.mean(axis=0)
            error = (each - curves["random"]).std(axis=0, ddof=1) / np.sqrt(len(each))
            axis.plot(labels, mean, color=colour, label=way, lw=2.4 if way == "mixed" else 1.4)
            axis.fill_between(labels, mean - error, mean + error, color=colour, alpha=0.15, lw=0)
        axis.axhline(full[name], color="0.5", ls=":", lw=1)
        axis.set(
            title=name,
            xlabel="labels",
            ylim=(min(each.mean(axis=0).min() for each in curves.values()) - 0.02, None),
        )
    axes[0, 0].set_ylabel("F1 on what never trained")
    axes[0, -1].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Compare the strategies on all data and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--network", default="cells-1", help="a name, or the folder of a network")
    parser.add_argument("--cache", type=Path, help="a folder that keeps embeddings between runs")
    parser.add_argument("--out", type=Path, help="a picture of the curves")
    parser.add_argument("--only", help="the name of one set of data")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--budget", type=int, default=BUDGET)
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # of each process, one a core
    found, full = {}, {}
    for data in all_data(options.real, options.network, options.cache):
        if options.only not in (None, data.name):
            continue
        table, curves = compare(data, options.seeds, options.budget, options.batch)
        found[data.name], full[data.name] = curves, table["full F1"].iloc[0]
        cells = f"{data.y.mean():.0%} cells among {len(data.y):,}"
        print(f"{data.name}: {cells}; judged on {len(data.judge_y):,}, F1 with all {full[data.name]:.3f}")
        print(table.drop(columns=["data", "full F1"]).round(3).to_string(index=False), flush=True)
    if options.out:
        draw_curves(found, full, options.out, options.batch)


if __name__ == "__main__":
    main()
