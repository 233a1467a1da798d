"""A network without a label on annotated volumes, beside the best threshold on the detector's score.

    python benchmarks/supplied.py --real DIR [--network cells-1]

`--real` is the folder that holds `cfos/` and `microglia/`. F1 is one-to-one within 10 µm, missed detections
counted, matched among what is called. "brightness" is the best of up to 1,000 thresholds on the detector's
score, chosen for each volume with the truth in hand; "best" that on the network's p, chosen in the same way.
The supplied network was taught on all of these volumes, so that its figures here are no test; what folds say
of volumes that were left out is on its card and in docs/measurements.md.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from sampling import REAL, WITHIN_UM, real_study

from cellkit.detect import classify, detect
from cellkit.match import match_points
from cellkit.tables import positions_um

THRESHOLDS = 1000


def measure(real: Path, kind: str, network: str) -> pd.DataFrame:
    """Return one row a volume: cells, F1, and the best F1 by thresholds on p and on the score."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        study = real_study(Path(folder) / "study", real, kind)
        detect(study, progress=False)
        classify(study, network, progress=False)
        for name in study.names:
            calls, voxel_um = study.candidates(name), study.image(name).voxel_um
            at, cells = positions_um(calls, voxel_um), positions_um(study.truth(name), voxel_um)

            def f1(called: np.ndarray, at: np.ndarray = at, cells: np.ndarray = cells) -> float:
                hits = len(match_points(at[called], cells, within_um=WITHIN_UM).found)
                return 2 * hits / max(int(called.sum()) + len(cells), 1)

            row = {"volume": f"{kind} {name}", "cells": len(cells), "F1": f1(calls["called"].to_numpy(bool))}
            for best, column in (("best", "p"), ("brightness", "score")):
                values = calls[column].to_numpy()
                least = np.unique(np.sort(values)[-10 * len(cells) :: max(1, len(cells) * 10 // THRESHOLDS)])
                row[best] = max(f1(values >= threshold) for threshold in least)
            rows.append(row)
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
