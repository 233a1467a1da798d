"""The loop on real volumes: two cfos volumes train, the third judges, the annotated truth answers.

    python benchmarks/real_loop.py --real DIR --base CACHE/finished/without-cfos [--rounds 4] [--judge 753]

`--real` is the folder that holds `cfos/` (README, "Real volumes"). The network that ships has learnt from all
three volumes, so the loop starts from one that has seen none of them, `training/supplied.py --without cfos`.
Or, with `--networks CACHE/finished`, from the fold that has not seen the judging volume alone: then labels of
the other two are no news to it, and what it says of them is better than what it says of others. Per round it
prints the labels, the labels by category, F1 on the judging volume (one-to-one within 10 µm, missed ones
counted) and the seconds of every step; beside them the F1 of a threshold on the detector's score, chosen on
the two training volumes, and chosen with hindsight on the judging volume itself.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from cellkit.annotate import answer_from_truth, draw_batch
from cellkit.detect import classify, detect
from cellkit.match import Score, score_points
from cellkit.retrain import retrain
from cellkit.study import Study, create_study
from cellkit.tables import positions_um

VOLUMES = ("753", "969", "1147")
FOLD_OF = {"753": "fold-0", "969": "fold-1", "1147": "fold-2"}
VOXEL_UM = (6.0, 1.62, 1.62)
DIAMETER_UM = 10.0
WITHIN_UM = 10.0


def make_study(folder: Path, real: Path, judge: str) -> Study:
    """Create a study of the three volumes in which one judges; the annotated centres are its truth."""
    images = [
        {
            "name": name,
            "animal": name,
            "path": str(real / "cfos" / f"{name}_img.tif"),
            "channels": ["signal"],
            "voxel_um": VOXEL_UM,
            "role": "judge" if name == judge else "train",
        }
        for name in VOLUMES
    ]
    (folder / "truth").mkdir(parents=True)
    for name in VOLUMES:
        centres = pd.read_csv(real / "cfos" / f"{name}_centres.csv")
        centres[["z", "y", "x"]].to_csv(folder / "truth" / f"{name}.csv", index=False)
    return create_study(folder, images=images, diameter_um=DIAMETER_UM, seed=0)


def judge_calls(study: Study, judge: str) -> Score:
    """Score what is called a cell against all annotated cells of the judging volume."""
    calls = study.candidates(judge)
    called = positions_um(calls[calls["called"]], VOXEL_UM)
    return score_points(called, positions_um(study.truth(judge), VOXEL_UM), within_um=WITHIN_UM)


def brightness(study: Study, judge: str) -> dict[str, float]:
    """Return the F1 of a threshold on the detector's score: as the other volumes have it, and at best."""
    thresholds = np.geomspace(3, 40, 30)
    reached = {name: [_bright_f1(study, name, least) for least in thresholds] for name in VOLUMES}
    others = np.mean([reached[name] for name in VOLUMES if name != judge], axis=0)
    return {
        "brightness_f1": reached[judge][int(np.argmax(others))],
        "brightness_hindsight_f1": max(reached[judge]),
    }


def _bright_f1(study: Study, name: str, least: float) -> float:
    found = study.candidates(name)
    found = positions_um(found[found["score"] >= least], VOXEL_UM)
    return score_points(found, positions_um(study.truth(name), VOXEL_UM), within_um=WITHIN_UM).f1


def timed(seconds: dict[str, float], step: str, work, *args, **settings):
    """Do one step and note how long it took."""
    start = time.perf_counter()
    result = work(*args, **settings)
    seconds[step] = seconds.get(step, 0.0) + time.perf_counter() - start
    return result


def run(options: argparse.Namespace, judge: str) -> list[dict]:
    """Return one record a round; round 0 is the network that has not seen the judging volume."""
    base = options.base or options.networks / FOLD_OF[judge]
    with tempfile.TemporaryDirectory() as folder:
        study = make_study(Path(folder) / "study", options.real, judge)
        seconds: dict[str, float] = {}
        timed(seconds, "detect", detect, study, progress=False)
        timed(seconds, "classify", classify, study, base, progress=False)
        records = [record(study, judge, 0, seconds) | brightness(study, judge)]
        for number in range(1, options.rounds + 1):
            seconds = {}
            queue = timed(seconds, "sample", draw_batch, study, str(number), n=options.labels, by="mixed")
            timed(seconds, "answer", answer_from_truth, study, queue, within_um=WITHIN_UM)
            before = study.labelled_candidates()
            network = timed(seconds, "retrain", retrain, study, name=f"net-{number}", base=base)
            timed(seconds, "classify", classify, study, network.card.name, progress=False)
            records.append(record(study, judge, number, seconds, before))
        return records


def record(study: Study, judge: str, number: int, seconds: dict[str, float], before=None) -> dict:
    """Print and return the figures of one round; categories are those at the time of labelling."""
    score = judge_calls(study, judge)
    row = {"judge": judge, "round": number, "labels": len(study.labels())}
    if before is not None:
        row |= before.loc[before["category"] != "", "category"].value_counts().to_dict()
    row |= {"precision": score.precision, "recall": score.recall, "f1": score.f1}
    row |= {f"{step}_s": taken for step, taken in seconds.items()}
    print(
        ", ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True
    )
    return row


def main() -> None:
    """Run the loop for every judging volume and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, required=True)
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--networks", type=Path, help="folder of the networks that have not seen the judge")
    start.add_argument("--base", type=Path, help="one network to start from whoever judges")
    parser.add_argument("--judge", choices=VOLUMES, action="append")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--labels", type=int, default=250)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    records = [row for judge in options.judge or VOLUMES for row in run(options, judge)]
    table = pd.DataFrame(records)
    print(table.round(3).to_string(index=False))
    if options.out:
        table.to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
