"""The loop of notebooks 01 to 05 on sample studies that nobody has tuned anything on.

    python benchmarks/other_samples.py [--seeds 10] [--out FILE.csv]

Each study has three animals as the sample study has them, made from other seeds. The known truth answers; the
supplied network and the retrained one are judged on all cells of animal-3, one-to-one within half a diameter,
those included that the detector missed.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from cellkit.annotate import answer_from_truth, draw_batch
from cellkit.detect import classify, detect
from cellkit.match import score_points
from cellkit.retrain import retrain, retrain_head
from cellkit.review import draw_audit
from cellkit.study import Study, create_study
from cellkit.synthetic import make_volume, write_volume
from cellkit.synthetic.sample import ANIMALS, DIAMETER_UM
from cellkit.tables import positions_um, write_table

BATCH = 300


def make_study(folder: Path, seed: int) -> Study:
    """Make three animals from a seed and return a study of them."""
    images = []
    for number, (name, settings) in enumerate(ANIMALS.items()):
        volume = make_volume(settings, 10_000 + 10 * seed + number)
        write_table(volume.truth, folder / "truth" / f"{name}.csv")
        images.append({
            "name": name,
            "animal": name,
            "path": write_volume(volume, folder / "images" / f"{name}.tif"),
            "voxel_um": settings.voxel_um,
            "roles": ("signal", "background"),
            "role": "judge" if name == "animal-3" else "train",
        })  # fmt: skip
    return create_study(folder, images=images, diameter_um=DIAMETER_UM, seed=seed)


def f1(study: Study) -> float:
    """Return the F1 of the calls on animal-3, missed detections counted."""
    calls, voxel_um = study.candidates("animal-3"), ANIMALS["animal-3"].voxel_um
    true = study.truth("animal-3")
    called, cells = calls[calls["called"]], true[true["kind"] == "cell"]
    within_um = DIAMETER_UM / 2
    return score_points(positions_um(called, voxel_um), positions_um(cells, voxel_um), within_um=within_um).f1


def run(seed: int) -> dict[str, float]:
    """Go round the loop once, as the notebooks do, and return F1 before and after."""
    with tempfile.TemporaryDirectory() as folder:
        study = make_study(Path(folder), seed)
        detect(study, progress=False)
        classify(study, progress=False)
        draw_audit(study, n=400)
        before = f1(study)
        for name, way in (("1", "mixed"), ("2", "category")):
            answer_from_truth(study, draw_batch(study, name, n=BATCH, by=way))
            if name == "1":
                retrain_head(study, name="head-1")
                classify(study, progress=False)
        head = f1(study)
        retrain(study, name="net-1")
        classify(study, "net-1", progress=False)
        return {"seed": seed, "supplied": before, "head, 300 labels": head, "net-1, 600 labels": f1(study)}


def main() -> None:
    """Print one row a study, and how much retraining gains over all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for seed in range(options.seeds):
        rows.append(run(seed))
        print(", ".join(f"{name} {value:.3f}" for name, value in rows[-1].items()), flush=True)
    table = pd.DataFrame(rows)
    gain = (table["net-1, 600 labels"] - table["supplied"]).to_numpy()
    drawn = np.random.default_rng(0).choice(gain, (10_000, len(gain))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    print(table.drop(columns="seed").median().round(3).to_dict())
    print(f"mean gain in F1 {gain.mean():.3f} ({low:.3f} to {high:.3f})")
    if options.out:
        table.to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
