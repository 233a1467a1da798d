"""Settings drawn wide, so that a network trained on their volumes has seen many microscopes and tissues."""

import numpy as np

from cellkit.synthetic.paint import Rng, draw
from cellkit.synthetic.settings import (
    ArtefactSettings,
    OpticsSettings,
    Shape,
    SomaSettings,
    TissueSettings,
    VolumeSettings,
)
from cellkit.tables import ZYX

MOST = 600
FAINTEST = 8.0


def random_settings(rng: Rng, *, shape: Shape = (48, 192, 192)) -> VolumeSettings:
    """Draw settings of a volume: diameters of 5 to 40 µm on 4 to 14 voxels, sparse and crowded.

    Parameters
    ----------
    rng : Generator
        Where the draw comes from.
    shape : tuple of 3 int
        Voxels of the volume along z, y, x.
    """
    diameter = draw(rng, (5.0, 38.0))
    across = diameter / draw(rng, (4.0, 14.0))
    voxel_um = (min(across * draw(rng, (1.0, 4.0)), diameter / 1.4), across, across)
    cubed = float(np.prod(shape) * np.prod(voxel_um) / diameter**3)
    photons = draw(rng, (10.0, 1000.0))
    voxels = 0.5 * diameter**3 / np.prod(voxel_um)
    faintest = max(draw(rng, (0.1, 0.8)), FAINTEST / np.sqrt(photons * voxels))
    contrast = (faintest, faintest * draw(rng, (3.0, 15.0)))
    return VolumeSettings(
        shape=shape,
        voxel_um=voxel_um,
        somas=_somas(rng, cubed, diameter, contrast),
        tissue=_tissue(rng, cubed, faintest),
        artefacts=_artefacts(rng, cubed, contrast),
        optics=_optics(rng, diameter, voxel_um, photons),
    )


def _somas(rng: Rng, cubed: float, diameter: float, contrast: tuple[float, float]) -> SomaSettings:
    spread = rng.uniform(1.05, 1.5)
    return SomaSettings(
        n=_count(rng, cubed, (0.008, 0.15)),
        diameter_um=(diameter / spread, diameter * spread),
        contrast=contrast,
        clustered=rng.uniform(0, 0.6),
        layered=rng.uniform(0, 0.8),
        hollow=rng.uniform(0, 1) ** 2,
        irregular=rng.uniform(0.05, 0.45),
        processes=rng.uniform(0, 1),
        bleed=rng.uniform(0, 0.15),
    )


def _tissue(rng: Rng, cubed: float, faintest: float) -> TissueSettings:
    return TissueSettings(
        outside=max(0.0, rng.uniform(-0.15, 0.3)),
        layers=rng.uniform(0.02, 0.3),
        mottle=faintest * rng.uniform(0.05, 0.5),
        unlabelled=max(0.0, rng.uniform(-0.05, 0.2)),
        darkness=min(0.7, faintest * rng.uniform(0.2, 1.2)),
        vessels=min(25, _count(rng, cubed, (0.0003, 0.003))),
        wall=(faintest / 2, faintest * draw(rng, (1.0, 10.0))),
    )


def _artefacts(rng: Rng, cubed: float, contrast: tuple[float, float]) -> ArtefactSettings:
    return ArtefactSettings(
        autofluorescent=_count(rng, cubed, (0.005, 0.1)),
        debris=_count(rng, cubed, (0.0005, 0.01)),
        haze=_count(rng, cubed, (0.001, 0.015)),
        fibres=min(200, _count(rng, cubed, (0.002, 0.03))),
        streaks=_count(rng, cubed, (0.0005, 0.02)),
        contrast=(contrast[0] * rng.uniform(0.5, 1), contrast[1] * rng.uniform(0.7, 1.5)),
        in_background=(rng.uniform(0.1, 0.5), rng.uniform(0.8, 2)),
    )


def _optics(rng: Rng, diameter: float, voxel_um: ZYX, photons: float) -> OpticsSettings:
    lateral = max(0.4 * voxel_um[1], diameter * rng.uniform(0.03, 0.12))
    axial = max(0.4 * voxel_um[0], lateral * draw(rng, (1.0, 5.0)))
    tissue, offset = draw(rng, (20.0, 3000.0)), rng.uniform(0, 300)
    first, gain = rng.uniform(0.05, 0.3), tissue / photons
    return OpticsSettings(
        psf_um=(min(axial, 0.8 * diameter), lateral, lateral),
        tilt=float(rng.choice([0.0, 0.0, rng.uniform(-0.4, 0.4)])),
        scattered=(first, first + rng.uniform(0, 0.4)),
        shading=rng.uniform(0, 0.6),
        stripes=rng.uniform(0, 0.12),
        photons=photons,
        background_photons=photons * draw(rng, (0.3, 2.0)),
        gain=gain,
        offset=offset,
        read_noise=gain * np.sqrt(photons) * rng.uniform(0.05, 0.6),
        full=next(full for full in (255, 4095, 65535) if full > 8 * tissue + offset),
    )


def _count(rng: Rng, cubed: float, density: tuple[float, float]) -> int:
    """Draw how many of a kind lie in a volume of `cubed` soma diameters cubed."""
    return min(MOST, round(cubed * draw(rng, density)))
