"""A seeded volume of two channels and the table of what is in it."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from cellkit.synthetic.artefacts import paint_artefacts
from cellkit.synthetic.camera import blur, illuminate, photograph
from cellkit.synthetic.paint import Place
from cellkit.synthetic.settings import VolumeSettings
from cellkit.synthetic.somas import paint_somas
from cellkit.synthetic.tissue import paint_tissue, paint_vessels


class Volume(NamedTuple):
    """Two channels, uint16 of shape (z, y, x), and the truth: one row a place, positions in voxels."""

    signal: np.ndarray
    background: np.ndarray
    truth: pd.DataFrame
    settings: VolumeSettings

    @property
    def cells(self) -> pd.DataFrame:
        """Rows of the truth that are cells."""
        return self.truth[self.truth["class"] == "cell"].reset_index(drop=True)


def make_volume(settings: VolumeSettings, seed: int) -> Volume:
    """Make a volume with somas, and with artefacts that look like them.

    Parameters
    ----------
    settings : VolumeSettings
        What is in it and how it is seen.
    seed : int
        The same settings and seed make the same voxels.

    Returns
    -------
    Volume
        `truth` has the columns `z, y, x` (voxels), `diameter_um`, `brightness` (contrast to tissue of
        level 1), `kind` ("cell" or one of ARTEFACT_KINDS) and `class` ("cell" or "artefact").
        Cells come first. Artefacts are places where a detector may pick them up, unless a cell is near.
    """
    ground, vessels, somas, dirt, light, camera = np.random.default_rng(seed).spawn(6)
    canvas, places = paint_tissue(settings, ground)
    places += paint_vessels(canvas, settings, vessels)
    cells = paint_somas(canvas, settings.somas, somas)
    places += paint_artefacts(canvas, settings, dirt, cells=cells)
    seen = blur(canvas, settings.optics)
    places += illuminate(seen, settings, light)
    optics = settings.optics
    return Volume(
        photograph(seen.signal, optics.photons, optics, camera),
        photograph(seen.background, optics.background_photons, optics, camera),
        truth_table(cells, places, settings),
        settings,
    )


def truth_table(cells: list[Place], artefacts: list[Place], settings: VolumeSettings) -> pd.DataFrame:
    """Return one row a place, cells first, without the artefacts that near a cell's centre."""
    if cells and artefacts:
        nearest = KDTree(_stacked(cells)).query(_stacked(artefacts))[0]
        artefacts = [artefacts[i] for i in np.flatnonzero(nearest > 0.75 * settings.diameter_um)]
    places = [*cells, *artefacts]
    at = _stacked(places) / np.asarray(settings.voxel_um)
    table = pd.DataFrame(at.round(3), columns=["z", "y", "x"])
    table["diameter_um"] = np.asarray([p.diameter_um for p in places]).round(3)
    table["brightness"] = np.asarray([p.brightness for p in places]).round(3)
    table["kind"] = [p.kind for p in places]
    return table.assign(**{"class": [p.kind for p in cells] + ["artefact"] * len(artefacts)})


def _stacked(places: list[Place]) -> np.ndarray:
    return np.stack([np.zeros(3), *(p.at_um for p in places)])[1:]
