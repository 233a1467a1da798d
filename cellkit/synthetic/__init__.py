"""Seeded volumes, slices and time lapses whose truth is known, and the sample study."""

from cellkit.synthetic.sample import DIAMETER_UM, create_sample_study, make_sample_images, write_volume
from cellkit.synthetic.settings import (
    ARTEFACT_KINDS,
    ArtefactSettings,
    OpticsSettings,
    SomaSettings,
    TissueSettings,
    VolumeSettings,
)
from cellkit.synthetic.variety import random_settings
from cellkit.synthetic.volume import Volume, make_volume

__all__ = [
    "ARTEFACT_KINDS",
    "DIAMETER_UM",
    "ArtefactSettings",
    "OpticsSettings",
    "SomaSettings",
    "TissueSettings",
    "Volume",
    "VolumeSettings",
    "create_sample_study",
    "make_sample_images",
    "make_volume",
    "random_settings",
    "write_volume",
]
