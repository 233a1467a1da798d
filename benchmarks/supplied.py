"""A network without a label on annotated volumes, beside the best threshold on the detector's score.

    python benchmarks/supplied.py --real DIR [--network cells-1]

`--real` is the folder that holds `cfos/` and `microglia/`. F1 is one-to-one within 10 µm, missed detections
counted, matched among what is called. "brightness" is the best of up to 1,000 thresholds on the detector's
score, chosen for each volume with the truth in hand; "best" that on the network's p, chosen in the same way;
"grey value" that on the image itself: its local maxima after smoothing with a sigma of a quarter diameter.
The supplied network was taught on all of these volumes, so that its figures here are no test; what folds say
of volumes that were left out is on its card and in docs/measurements.md.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from sampling import REAL, WITHIN_UM, real_study
from scipy.ndimage import gaussian_filter, maximum_filter

from cellkit.detect import classify, detect
from cellkit.images import Image
from cellkit.match import score_points
from cellkit.tables import positions_um

THRESHOLDS = 1000


def maxima(image: Image, diameter_um: float) -> tuple[np.ndarray, np.ndarray]:
    """Return where the smoothed signal is a maximum within half a diameter, in µm, (n, 3), and its values."""
    diameter = diameter_um / np.asarray(image.voxel_um)
    smoothed = gaussian_filter(np.asarray(image.read("signal"), np.float32), diameter / 4)
    sides = tuple(np.maximum(3, 2 * np.rint(diameter / 2).astype(int) + 1))
    top = np.argwhere(smoothed == maximum_filter(smoothed, sides))
    return top * np.asarray(image.voxel_um), smoothed[tuple(top.T)]


def f1(called: np.ndarray, cells: np.ndarray) -> float:
    """Return the F1 of called places for cells, both (n, 3) in µm."""
    return score_points(called, cells, within_um=WITHIN_UM).f1


def best(at: np.ndarray, values: np.ndarray, cells: np.ndarray) -> float:
    """Return the F1 of the threshold on these values that is best for the volume."""
    least = np.unique(np.sort(values)[-10 * len(cells) :: max(1, len(cells) * 10 // THRESHOLDS)])
    return max(f1(at[values >= threshold], cells) for threshold in least)


def measure(real: Path, kind: str, network: str) -> pd.DataFrame:
    """Return one row a volume: cells, F1, and the best F1 by thresholds on p, score and grey value."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        study = real_study(Path(folder) / "study", real, kind)
        detect(study, progress=False)
        classify(study, network, progress=False)
        for name in study.names:
            image, calls = study.image(name), study.candidates(name)
            at, cells = positions_um(calls, image.voxel_um), positions_um(study.truth(name), image.voxel_um)
            rows.append(
                {
                    "volume": f"{kind} {name}",
                    "cells": len(cells),
                    "F1": f1(at[calls["called"]], cells),
                    "best": best(at, calls["p"].to_numpy(), cells),
                    "brightness": best(at, calls["score"].to_numpy(), cells),
                    "grey value": best(*maxima(image, study.settings.diameter_um), cells),
                }
            )
    return pd.DataFrame(rows)


def main() -> None:
    """Measure a network on all volumes and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--network", default="cells-1", help="a name, or the folder of a network")
    options = parser.parse_args()
    table = pd.concat([measure(options.real, kind, options.network) for kind in REAL])
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
