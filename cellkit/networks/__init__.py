"""Networks: built, saved, taught and asked. Keras loads when it is first used."""

from cellkit.networks.calibration import calibrate, choose_threshold
from cellkit.networks.card import NetworkCard
from cellkit.networks.cellfinder import import_cellfinder
from cellkit.networks.fit import FitSettings, TrainingSet, fit
from cellkit.networks.heads import fit_head, replace_head
from cellkit.networks.predict import embed, predict
from cellkit.networks.splits import split_groups
from cellkit.networks.store import Network, load_network, save_network, supplied_networks

__all__ = [
    "FitSettings",
    "Network",
    "NetworkCard",
    "TrainingSet",
    "calibrate",
    "choose_threshold",
    "embed",
    "fit",
    "fit_head",
    "import_cellfinder",
    "load_network",
    "predict",
    "replace_head",
    "save_network",
    "split_groups",
    "supplied_networks",
]
