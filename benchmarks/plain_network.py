"""A plain small 3D network, trained from scratch on balanced cubes of two cfos volumes, judged on the third.

    python benchmarks/plain_network.py --real DIR [--cubes 1000] [--seeds 1] [--judge 753]

Beside it stands what `benchmarks/real_loop.py` reaches with 500 mined labels. Here there is no supplied
network and no context of a place; half of the cubes are cells and half are not, drawn at random among
all candidates of the two volumes, in proportion to their cells. Three convolutions, a mean over the
cube, one logit; 30 epochs, flips. F1 is one-to-one within 10 µm, missed detections counted: "taught" at
the threshold on the output that is best on what did not train of the two volumes, "0.5" at a half,
"hindsight" at the best on the judging volume; each the median over seeds, which draw the cubes and the
initial weights.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from real_loop import VOLUMES, VOXEL_UM, WITHIN_UM, make_study

from cellkit.cubes import CubeGeometry, cut_cubes
from cellkit.detect import detect
from cellkit.match import match_points, score_points
from cellkit.networks.backend import load_keras
from cellkit.study import Study
from cellkit.tables import positions_um

GEOMETRY = CubeGeometry()
EPOCHS, BATCH, RATE = 30, 32, 1e-3
THRESHOLDS = np.linspace(0.02, 0.98, 49)


def look(study: Study, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the cubes of all candidates of a volume, signal alone, and which of them are cells."""
    table, image = study.candidates(name), study.image(name)
    settings = {"intensities": study.intensities(name), "diameter_um": study.settings.diameter_um}
    cubes = cut_cubes(image, table, geometry=GEOMETRY, **settings)[..., :1]
    at, true = positions_um(table, VOXEL_UM), positions_um(study.truth(name), VOXEL_UM)
    found = match_points(at, true, within_um=WITHIN_UM).found
    return cubes.astype(np.float16), np.isin(np.arange(len(table)), found)


def draw(cells: dict[str, np.ndarray], wanted: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw rows of each volume, half cells and half not, a volume's share that of its cells."""
    most = min(wanted // 2, sum(int(cell.sum()) for cell in cells.values()))
    share = most / sum(int(cell.sum()) for cell in cells.values())
    return {
        name: np.concatenate([
            rng.choice(np.flatnonzero(cell == one), round(share * cell.sum()), replace=False)
            for one in (True, False)
        ])
        for name, cell in cells.items()
    }  # fmt: skip


def train(cubes: np.ndarray, cells: np.ndarray, seed: int):
    """Return a plain network that was trained on cubes (n, z, y, x, 1)."""
    keras = load_keras()
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    rng = np.random.default_rng(seed)
    model = keras.Sequential([
        layers.Input(cubes.shape[1:]),
        layers.Conv3D(16, 3, strides=(1, 2, 2), padding="same", activation="relu"),
        layers.Conv3D(32, 3, padding="same", activation="relu"),
        layers.MaxPooling3D(2),
        layers.Conv3D(64, 3, padding="same", activation="relu"),
        layers.GlobalAveragePooling3D(),
        layers.Dense(1, activation="sigmoid", dtype="float32"),
    ])  # fmt: skip
    model.compile(optimizer=keras.optimizers.Adam(RATE), loss="binary_crossentropy")
    for _ in range(EPOCHS):
        axes = [axis for axis in (1, 2, 3) if rng.random() < 0.5]
        model.fit(np.flip(cubes, axes), cells.astype(np.float32), batch_size=BATCH, epochs=1, verbose=0)
    return model


def f1(study: Study, name: str, called: np.ndarray) -> float:
    """Score what is called against all annotated cells of a volume."""
    at = positions_um(study.candidates(name)[called], VOXEL_UM)
    return score_points(at, positions_um(study.truth(name), VOXEL_UM), within_um=WITHIN_UM).f1


def run(study: Study, seen: dict, judge: str, wanted: int, seed: int) -> dict[str, float]:
    """Train on two volumes and return F1 on the third at three thresholds."""
    others = [name for name in VOLUMES if name != judge]
    rows = draw({name: seen[name][1] for name in others}, wanted, np.random.default_rng(seed))
    cubes, cells = (np.concatenate([seen[name][i][rows[name]] for name in others]) for i in (0, 1))
    network = train(cubes, cells, seed)
    p = {name: network.predict(seen[name][0], batch_size=512, verbose=0)[:, 0] for name in VOLUMES}
    left = {name: np.setdiff1d(np.arange(len(p[name])), rows[name]) for name in others}
    taught = np.mean(
        [[_f1_left(seen[name][1], p[name], left[name], t) for t in THRESHOLDS] for name in others], axis=0
    )
    there = [f1(study, judge, p[judge] >= threshold) for threshold in THRESHOLDS]
    at_half = f1(study, judge, p[judge] >= 0.5)
    return {
        "cubes": len(cubes),
        "taught": there[int(np.argmax(taught))],
        "0.5": at_half,
        "hindsight": max(there),
    }


def _f1_left(cell: np.ndarray, p: np.ndarray, left: np.ndarray, threshold: float) -> float:
    """Return F1 among candidates that did not train, cells weighted up to the share they have in all."""
    weight = np.where(
        cell, cell.sum() / max(cell[left].sum(), 1), (~cell).sum() / max((~cell)[left].sum(), 1)
    )[left]
    called, here = p[left] >= threshold, cell[left]
    hits = weight[called & here].sum()
    return float(2 * hits / max(weight[called].sum() + weight[here].sum(), 1))


def main() -> None:
    """Print one row a judging volume, medians over seeds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--cubes", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--judge", choices=VOLUMES, action="append")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        study = make_study(Path(folder) / "study", options.real, VOLUMES[0])
        detect(study, progress=False)
        seen = {name: look(study, name) for name in VOLUMES}
        for judge in options.judge or VOLUMES:
            for seed in range(options.seeds):
                rows.append({"judge": judge, "seed": seed} | run(study, seen, judge, options.cubes, seed))
                print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    print(table.drop(columns="seed").groupby("judge").median().round(3).to_string())


if __name__ == "__main__":
    main()
