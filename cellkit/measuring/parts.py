"""Parts of the candidates that numbers are told for: regions, depth, brightness."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from cellkit.measuring.audits import REGION
from cellkit.study import Study
from cellkit.tables import PLACE_COLUMNS

By = str | Callable[[pd.DataFrame], Sequence[str]]
THIRDS = {
    "depth": ("top third", "middle third", "bottom third"),
    "brightness": ("dim third", "middle third", "bright third"),
}


def part_of(study: Study, places: pd.DataFrame, by: By) -> np.ndarray:
    """Say which part each place belongs to, shape (n,), "" for none.

    Parameters
    ----------
    study : Study
    places : DataFrame
        Candidates or places of an audit: `image, frame, z, y, x`, in voxels.
    by : str or callable
        "animal"; "depth", thirds of each image's planes; "brightness", thirds of the `score` of each image's
        candidates; the name of a column of the candidates, such as "region"; or a function that takes a table
        of candidates and returns a name for each.

    Raises
    ------
    ValueError
        If it is none of these, or the function does not return one name for each.
    """
    if callable(by):
        named = np.asarray(by(places), dtype=object)
        if named.shape != (len(places),):
            raise ValueError(
                f"A function of parts must return one name for each place; got {named.shape} for "
                f"{len(places)}. Mend it."
            )
        return np.array([str(name) for name in named], dtype=object)
    if by == "animal":
        return np.array([study.entry(image).animal for image in places["image"]], dtype=object)
    if by == "depth":
        planes = {name: study.image(name).shape[2] for name in places["image"].unique()}
        share = (places["z"].to_numpy() + 0.5) / places["image"].map(planes).to_numpy()
        return np.array(THIRDS[by], dtype=object)[np.clip((3 * share).astype(int), 0, 2)]
    return _from_candidates(study, places, by)


def _from_candidates(study: Study, places: pd.DataFrame, by: str) -> np.ndarray:
    candidates = study.candidates()
    if by == "brightness":
        rank = candidates.groupby("image")["score"].rank(pct=True).to_numpy()
        third = np.clip(np.ceil(3 * rank).astype(int) - 1, 0, 2)
        candidates[by] = np.array(THIRDS[by], dtype=object)[third]
    if by not in candidates:
        has = ", ".join(["animal", *THIRDS, *([REGION] if REGION in candidates else [])])
        raise ValueError(
            f"Numbers are told by {has}, a column of the candidates or a function; got {by!r}. "
            "Give candidates such a column with review.name_parts(study, ...)."
        )
    known = candidates[[*PLACE_COLUMNS, by]].drop_duplicates(list(PLACE_COLUMNS))
    found = places[list(PLACE_COLUMNS)].merge(known, on=list(PLACE_COLUMNS), how="left")[by]
    return found.fillna("").astype("str").to_numpy(dtype=object)


def name_parts(study: Study, function: Callable[[pd.DataFrame], Sequence[str]], column: str = REGION) -> None:
    """Give every candidate the name of a part, such as its region of an atlas, and keep it with them.

    Parameters
    ----------
    study : Study
        With candidates; the column goes when they are detected anew.
    function : callable
        Takes the candidates of one image, `image, frame, z, y, x` in voxels, and returns a name for each.
    column : str
        What to call it.
    """
    for image in study.names:
        table = study.candidates(image)
        if len(table):
            named = table.assign(**{column: part_of(study, table, function)})
            study.save_candidates(image, named, made_by=study.made_by(image))
