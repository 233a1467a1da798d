"""How long all layers take to learn from so many labels, and in how much memory.

    python benchmarks/retraining.py [--labels 2000] [--seed 0]

Two sample studies as `other_samples.py` makes them; half of the labels are drawn at random from the
candidates of each and answered by the known truth. The first learns with the second as its pool, with the
settings that `retrain` has by default. Cutting the cubes is within the time, detecting and calling before it
is not.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

from other_samples import make_study

from cellkit.annotate import answer_from_truth, draw_batch
from cellkit.detect import classify, detect
from cellkit.retrain import history, retrain
from cellkit.study import Study


def labelled(folder: Path, seed: int, labels: int) -> Study:
    """Return a sample study with so many labels."""
    study = make_study(folder, seed)
    detect(study, progress=False)
    classify(study, "cells-1", progress=False)
    answer_from_truth(study, draw_batch(study, "1", n=labels, by="random"))
    return study


def main() -> None:
    """Teach once and print labels, seconds, epochs and memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        studies = [
            labelled(Path(folder) / f"{seed}", seed, options.labels // 2)
            for seed in (options.seed, options.seed + 1)
        ]
        start = time.perf_counter()
        network = retrain(studies[0], name="net-1", pools=studies[1:])
        seconds = time.perf_counter() - start
        epochs = history(studies[0], "net-1")
        n = sum(len(study.training_labels()) for study in studies)
        kept = int(epochs.loc[epochs["kept"] > 0, "epoch"].max()) if (epochs["kept"] > 0).any() else 0
        print(f"{n} labels: {seconds:.0f} s (asked 600), {len(epochs)} epochs, epoch {kept} kept, ", end="")
        print(f"{epochs['seconds'].median():.1f} s an epoch, {network.name} saved; ", end="")
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main()
