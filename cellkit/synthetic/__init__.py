"""Seeded volumes, slices and time lapses whose truth is known, and the sample study."""

from cellkit.synthetic.lapse import Lapse, LapseSettings, make_lapse
from cellkit.synthetic.sample import DIAMETER_UM, create_sample_study, make_sample_images, write_volume
from cellkit.synthetic.settings import (
    ARTEFACT_KINDS,
    ArtefactSettings,
    OpticsSettings,
    SomaSettings,
    TissueSettings,
    VolumeSettings,
)
from cellkit.synthetic.slices import Slice, SliceSettings, make_slices
from cellkit.synthetic.variety import random_settings
from cellkit.synthetic.volume import Volume, make_volume

__all__ = [
    "ARTEFACT_KINDS",
    "DIAMETER_UM",
    "ArtefactSettings",
    "Lapse",
    "LapseSettings",
    "OpticsSettings",
    "Slice",
    "SliceSettings",
    "SomaSettings",
    "TissueSettings",
    "Volume",
    "VolumeSettings",
    "create_sample_study",
    "make_lapse",
    "make_sample_images",
    "make_slices",
    "make_volume",
    "random_settings",
    "write_volume",
]
