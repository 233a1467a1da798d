"""What a synthetic volume looks like: frozen records, and a wide draw of them for training."""

from dataclasses import dataclass, field

import numpy as np

from cellkit.tables import ZYX

Range = tuple[float, float]
Shape = tuple[int, int, int]

ARTEFACT_KINDS = (
    "autofluorescence",
    "vessel wall",
    "tissue edge",
    "debris",
    "stripe",
    "haze",
    "fibre",
    "precipitate",
)


@dataclass(frozen=True)
class SomaSettings:
    """The cells.

    Attributes
    ----------
    n : int
        How many; fewer where they do not fit.
    diameter_um : tuple of 2 float
        Smallest and largest diameter.
    contrast : tuple of 2 float
        Faintest and brightest soma, above the tissue and in multiples of its level; drawn log-uniformly.
    clustered : float
        Share that touches another one, in clusters of at most four.
    layered : float
        0: spread evenly; 1: crowded in layers and nearly absent elsewhere.
    hollow : float
        Share with a dark nucleus: a ring of cytoplasm.
    irregular : float
        How far the shape is from a ball; 0 to 0.5.
    processes : float
        Share with one to three short processes.
    bleed : float
        Share of a soma's light that is seen in the background channel.
    """

    n: int = 300
    diameter_um: Range = (10.0, 20.0)
    contrast: Range = (0.5, 4.0)
    clustered: float = 0.3
    layered: float = 0.35
    hollow: float = 0.3
    irregular: float = 0.3
    processes: float = 0.5
    bleed: float = 0.04


@dataclass(frozen=True)
class TissueSettings:
    """What lies between the cells.

    Attributes
    ----------
    outside : float
        Share of the volume outside the tissue, beyond a bright edge.
    layers, mottle : float
        Standard deviation of the tissue's brightness over many diameters, and over one.
    unlabelled, darkness : float
        Unlabelled cells, seen as holes: how many for each soma diameter cubed, and how dark.
    vessels : int
        How many blood vessels run through the volume.
    wall : tuple of 2 float
        Contrast of their walls; 0 leaves a dark lumen alone.
    """

    outside: float = 0.08
    layers: float = 0.12
    mottle: float = 0.08
    unlabelled: float = 0.1
    darkness: float = 0.5
    vessels: int = 5
    wall: Range = (0.3, 3.0)


@dataclass(frozen=True)
class ArtefactSettings:
    """What a detector picks up and is no cell: how many of each kind, and how bright.

    Attributes
    ----------
    autofluorescent, debris, haze, fibres, streaks, precipitates : int
        How many. Precipitates come with some stains only: supplied networks are not trained on them, so
        that a study that has them must teach its network.
    contrast : tuple of 2 float
        Faintest and brightest of them, as for somas; debris is far brighter.
    in_background : tuple of 2 float
        How bright autofluorescence is in the background channel, relative to the signal channel.
    """

    autofluorescent: int = 250
    debris: int = 20
    haze: int = 40
    fibres: int = 50
    streaks: int = 40
    precipitates: int = 0
    contrast: Range = (0.4, 4.0)
    in_background: Range = (0.3, 1.5)


@dataclass(frozen=True)
class OpticsSettings:
    """Microscope and camera.

    Attributes
    ----------
    psf_um : tuple of 3 float
        Standard deviation of the point spread at the first plane, along z, y, x.
    tilt : float
        How far the point spread leans along x, in µm for every µm of depth.
    scattered : tuple of 2 float
        Share of the light that tissue scatters into a wide halo, at the first and at the last plane.
    shading : float
        Uneven illumination: relative fall towards the darkest side.
    stripes : float
        Relative standard deviation of stripes along x, of seams between tiles and of planes.
    photons, background_photons : float
        Photons that tissue of level 1 sends to a voxel of either channel: few are noisy.
    gain, offset, read_noise : float
        Camera counts for a photon, for darkness, and their standard deviation.
    full : int
        Count at which the camera saturates.
    """

    psf_um: ZYX = (3.0, 1.0, 1.0)
    tilt: float = 0.0
    scattered: Range = (0.15, 0.45)
    shading: float = 0.3
    stripes: float = 0.06
    photons: float = 60.0
    background_photons: float = 60.0
    gain: float = 4.0
    offset: float = 100.0
    read_noise: float = 4.0
    full: int = 65535


@dataclass(frozen=True)
class VolumeSettings:
    """All that, with the seed, makes a volume.

    Attributes
    ----------
    shape : tuple of 3 int
        Voxels along z, y, x.
    voxel_um : tuple of 3 float
        Voxel size along z, y, x.
    """

    shape: Shape = (48, 192, 192)
    voxel_um: ZYX = (5.0, 2.0, 2.0)
    somas: SomaSettings = field(default_factory=SomaSettings)
    tissue: TissueSettings = field(default_factory=TissueSettings)
    artefacts: ArtefactSettings = field(default_factory=ArtefactSettings)
    optics: OpticsSettings = field(default_factory=OpticsSettings)

    def __post_init__(self) -> None:
        """Refuse a volume that cannot be."""
        if len(self.shape) != 3 or min(self.shape) < 1 or len(self.voxel_um) != 3 or min(self.voxel_um) <= 0:
            raise ValueError(
                "A volume needs a shape of three whole numbers of at least 1 and a voxel size of three "
                f"lengths above zero (z, y, x); got shape {self.shape} and {self.voxel_um}. Give both."
            )

    @property
    def diameter_um(self) -> float:
        """Typical soma diameter: the geometric mean of the smallest and the largest."""
        smallest, largest = self.somas.diameter_um
        return float(np.sqrt(smallest * largest))
