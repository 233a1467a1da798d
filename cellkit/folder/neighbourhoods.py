"""How crowded it is around places of a study: what networks are told beside a cube."""

import numpy as np
import pandas as pd

from cellkit.finding.crowding import crowding
from cellkit.study import Study


def with_crowding(study: Study, places: pd.DataFrame) -> pd.DataFrame:
    """Return places (`image, frame, z, y, x` in voxels) with the column `crowding` of `finding.crowding`.

    It is 0, the usual, in images without candidates.
    """
    around = np.zeros(len(places))
    for name, rows in places.groupby("image").indices.items():
        image, candidates = str(name), study.candidates(str(name))
        if len(candidates):
            around[rows] = crowding(
                places.iloc[rows], candidates, voxel_um=study.voxel_um[image],
                shape=study.image(image).shape[2:], diameter_um=study.settings.diameter_um,
            )  # fmt: skip
    return places.assign(crowding=around)
