"""Where candidates and labels lie in micrometres, how wide cubes are there, and what an audit bars."""

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from cellkit.cubes import CubeGeometry
from cellkit.networks.card import NORMALISATION
from cellkit.study import Study
from cellkit.tables import positions_um

PLACE_UM = ["z_um", "y_um", "x_um"]


def cube_sides_um(study: Study, network: str | None = None) -> np.ndarray:
    """Return the sides of a cube along z, y, x, in µm, shape (3,): what a network sees around a place.

    Parameters
    ----------
    study : Study
    network : str, optional
        One of the study's; of another name, cellkit's own cube is meant. Without it, on each axis the widest
        of cellkit's own and of all networks of the study that can be taught.
    """
    cards = {card["name"]: card for card in study.cards()}
    if network is not None:
        cubes = [_cube(cards[network]) if network in cards else CubeGeometry()]
    else:
        taught = (
            card for card in cards.values() if card.get("normalisation", NORMALISATION) == NORMALISATION
        )
        cubes = [CubeGeometry(), *map(_cube, taught)]
    return np.max([cube.sides_um(study.settings.diameter_um) for cube in cubes], axis=0)


def _cube(card: dict) -> CubeGeometry:
    return CubeGeometry(**card.get("cube", {}))


def add_micrometres(study: Study, places: pd.DataFrame) -> pd.DataFrame:
    """Return the places with `z_um, y_um, x_um` beside their voxels, numbered anew."""
    names, image = np.unique(places["image"].to_numpy(dtype=str), return_inverse=True)
    sides = np.array([study.image(name).voxel_um for name in names]).reshape(-1, 3)[image]
    um = positions_um(places, sides)
    return places.reset_index(drop=True).assign(**dict(zip(PLACE_UM, um.T, strict=True)))


def near(table: pd.DataFrame, places: pd.DataFrame, within_um: np.ndarray, *, norm: float) -> np.ndarray:
    """Say which rows lie within these lengths of a place of the same image and frame."""
    near = np.zeros(len(table), dtype=bool)
    groups = places.groupby(["image", "frame"]).indices
    for key, rows in table.groupby(["image", "frame"]).indices.items():
        if key in groups:
            there = places[PLACE_UM].to_numpy(dtype="float64")[groups[key]] / within_um
            here = table[PLACE_UM].to_numpy(dtype="float64")[rows] / within_um
            near[rows] = KDTree(there).query(here, p=norm)[0] < 1
    return near


def barred(study: Study, candidates: pd.DataFrame, *, cube: CubeGeometry | None = None) -> np.ndarray:
    """Say which candidates an audit keeps out of training: audited ones and those whose cubes overlap one.

    Parameters
    ----------
    study : Study
        The places of its audits, and its labels of origin "audit", are what bars.
    candidates : DataFrame
        Columns `image, frame, z, y, x`, in voxels.
    cube : CubeGeometry, optional
        What the network that is to be trained sees; without it the widest that a network of the study may see
        (`cube_sides_um`).

    Returns
    -------
    ndarray of bool, shape (n,)
        True: must neither be drawn for training nor train.
    """
    audits = [add_micrometres(study, study.audit(name)[0]) for name in study.audits()]
    labels = study.labels()
    places = pd.concat([*audits, labels[labels["origin"] == "audit"]])
    sides = cube_sides_um(study) if cube is None else np.asarray(cube.sides_um(study.settings.diameter_um))
    return near(add_micrometres(study, candidates), places, sides, norm=np.inf)
