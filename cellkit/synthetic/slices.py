"""Slices of tissue with a nuclear marker, and a second channel that is ON in some cells and OFF in others."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from cellkit.synthetic.artefacts import paint_artefacts
from cellkit.synthetic.camera import blur, illuminate, photograph
from cellkit.synthetic.paint import Canvas, Place, Rng, draw
from cellkit.synthetic.settings import (
    ArtefactSettings,
    OpticsSettings,
    Range,
    SomaSettings,
    TissueSettings,
    VolumeSettings,
)
from cellkit.synthetic.somas import paint_soma, place_somas
from cellkit.synthetic.tissue import paint_tissue, paint_vessels
from cellkit.synthetic.volume import truth_table

THIN = VolumeSettings(
    shape=(1, 256, 256),
    voxel_um=(8.0, 0.65, 0.65),
    somas=SomaSettings(n=140, diameter_um=(7.0, 11.0), contrast=(1.5, 5.0), hollow=0.0, processes=0.0),
    tissue=TissueSettings(outside=0.06, vessels=2, layers=0.1, unlabelled=0.0),
    artefacts=ArtefactSettings(autofluorescent=25, debris=4, haze=6, fibres=6, streaks=0),
    optics=OpticsSettings(psf_um=(0.8, 0.5, 0.5), scattered=(0.1, 0.1), photons=40, background_photons=40),
)


@dataclass(frozen=True)
class SliceSettings:
    """Slices in which a share of the nuclei express something.

    Attributes
    ----------
    ground : VolumeSettings
        Tissue, nuclei, artefacts and microscope; one plane.
    on : float
        Share of the cells that are ON.
    level_on, level_off : tuple of 2 float
        Expression of ON and of OFF cells, in multiples of the tissue's level: graded, with a narrow gap.
    """

    ground: VolumeSettings = field(default_factory=lambda: THIN)
    on: float = 0.4
    level_on: Range = (0.6, 5.0)
    level_off: Range = (0.02, 0.35)


class Slice(NamedTuple):
    """Two channels, uint16 of shape (y, x), and the truth: one row a place, positions in voxels, z = 0."""

    marker: np.ndarray
    expression: np.ndarray
    truth: pd.DataFrame
    settings: SliceSettings


def make_slices(n: int, settings: SliceSettings | None = None, *, seed: int) -> list[Slice]:
    """Make `n` slices that differ as slices of one brain do.

    Parameters
    ----------
    n : int
        How many slices.
    settings : SliceSettings, optional
        What is on them; ``SliceSettings()`` where it is left out.
    seed : int
        The same settings and seed make the same pixels.

    Returns
    -------
    list of Slice
        `truth` has the columns of `make_volume`; `class` is "on", "off" or "artefact", and
        `brightness` of a cell is its expression.
    """
    settings = settings or SliceSettings()
    return [_make_slice(settings, rng) for rng in np.random.default_rng(seed).spawn(n)]


def _make_slice(settings: SliceSettings, rng: Rng) -> Slice:
    ground = settings.ground
    optics = replace(ground.optics, photons=ground.optics.photons * rng.uniform(0.7, 1.4))
    canvas, places = paint_tissue(ground, rng)
    places += paint_vessels(canvas, ground, rng)
    cells = _paint_cells(canvas, settings, rng)
    places += paint_artefacts(canvas, ground, rng, cells=cells)
    seen = blur(canvas, optics)
    places += illuminate(seen, ground, rng)
    truth = truth_table(cells, [p._replace(at_um=p.at_um * (0, 1, 1)) for p in places], ground)
    return Slice(
        photograph(seen.signal, optics.photons, optics, rng)[0],
        photograph(seen.background, optics.background_photons, optics, rng)[0],
        truth,
        settings,
    )


def _paint_cells(canvas: Canvas, settings: SliceSettings, rng: Rng) -> list[Place]:
    """Paint nuclei into the first channel and, shaped alike, their expression into the second."""
    somas, cells = settings.ground.somas, []
    for centre, radius in zip(*place_somas(canvas, somas, rng), strict=True):
        is_on = rng.uniform() < settings.on
        level = draw(rng, settings.level_on if is_on else settings.level_off)
        marker = draw(rng, somas.contrast)
        paint_soma(canvas, centre, radius, settings=somas, light=(marker, level), rng=rng)
        cells.append(Place(centre * (0, 1, 1), 2 * radius, level, "on" if is_on else "off"))
    return cells
