"""What the detector knows around places of a study: what networks are told beside a cube."""

import pandas as pd

from cellkit.finding.context import with_context
from cellkit.study import Study


def in_context(study: Study, places: pd.DataFrame) -> pd.DataFrame:
    """Return places (`image, frame, z, y, x` in voxels) with `crowding` and `prominence`.

    Both are 0, the usual, in images without candidates.
    """
    places = places.assign(crowding=0.0, prominence=0.0)
    columns = [places.columns.get_loc(name) for name in ("crowding", "prominence")]
    for name, rows in places.groupby("image").indices.items():
        candidates = study.candidates(str(name))
        if len(candidates):
            image = study.image(str(name))
            told = with_context(
                places.iloc[rows], candidates, voxel_um=image.voxel_um, shape=image.shape[2:],
                diameter_um=study.settings.diameter_um, roles=image.roles,
            )  # fmt: skip
            places.iloc[rows, columns] = told[["crowding", "prominence"]].to_numpy()
    return places
