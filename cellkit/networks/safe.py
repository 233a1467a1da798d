"""Whether a file of a network may be loaded: plain Keras layers only, and the file of its card."""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

from cellkit.networks import standout
from cellkit.networks.architectures import EMBEDDING
from cellkit.networks.backend import load_keras
from cellkit.networks.card import CARD, WEIGHTS, NetworkCard

LAYERS = (
    *(
        "Activation",
        "Add",
        "AveragePooling3D",
        "BatchNormalization",
        "Concatenate",
        "Conv3D",
        "Dense",
        "Dropout",
    ),
    *("Flatten", "GlobalAveragePooling3D", "GlobalMaxPooling3D", "GroupNormalization", "InputLayer"),
    *("LayerNormalization", "MaxPooling3D", "Multiply", "Permute", "ReLU", "Reshape", "Softmax"),
    "ZeroPadding3D",
)
MODELS = ("Functional", "Sequential")
MODEL_MODULES = ("keras", "keras.src.models.functional", "keras.src.models.sequential")
SETTINGS_MODULES = ("keras", "keras.initializers", "keras.regularizers", "keras.constraints")


def hash_file(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(path: Path, card: NetworkCard) -> None:
    """Refuse a file that would run code of others or is not the card's; reads it without Keras.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no Keras file, has a layer that is not plain, or another sha256 than the card says.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"A network is a folder with {WEIGHTS} and {CARD}; {path} is missing. Copy the whole folder."
        )
    strange = sorted(strange_classes(_read_configuration(path)))
    if strange:
        raise ValueError(
            f"A network may be made of plain Keras layers only; {path} has {', '.join(strange)}. "
            "It was not loaded, and none of its code was run."
        )
    if hash_file(path) != card.sha256:
        raise ValueError(
            f"{path} must be the file that its card describes; its sha256 is not the card's. "
            "Copy the network again, both files."
        )


def _read_configuration(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            configuration = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise ValueError(
            f"{path} must be a network saved by Keras; it is not: {str(error).strip(chr(34))}. Copy it again."
        ) from error
    if not isinstance(configuration, dict) or configuration.get("class_name") not in MODELS:
        raise ValueError(f"{path} must be a network saved by Keras; it holds no model. Copy it again.")
    return {**configuration, "compile_config": None}


def strange_classes(configuration: Any) -> set[str]:
    """Return the classes and functions in a Keras configuration that are not on the list of plain ones."""
    if isinstance(configuration, list):
        return set().union(*map(strange_classes, configuration))
    if not isinstance(configuration, dict):
        return set()
    said = set().union(*map(strange_classes, configuration.values()))
    if "class_name" not in configuration and "module" not in configuration:
        return said
    module, name = configuration.get("module"), configuration.get("class_name")
    plain = (
        (module is None and name == "__keras_tensor__")
        or (module == "keras.layers" and name in LAYERS)
        or (module in MODEL_MODULES and name in MODELS)
        or (module == standout.MODULE and name == standout.NAME)
        or (
            module in SETTINGS_MODULES
            and name != "function"
            and isinstance(configuration.get("config"), dict)
        )
    )
    return said if plain else said | {f"{module}.{name}"}


def load_model(path: Path, card: NetworkCard) -> Any:
    """Load a checked file in Keras' safe mode, uncompiled, and see that it is the card's kind of network.

    Raises
    ------
    ValueError
        If Keras cannot load it, or its cubes or its answer are not the card's.
    """
    keras = load_keras()

    try:
        own = {standout.NAME: standout.stand_out_layer()}
        model = keras.models.load_model(path, custom_objects=own, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever its layers raise
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} must be a network saved by Keras; it cannot be loaded: {reason}. Copy it again."
        ) from error
    sees, gives = model.input_shape[1:], model.output_shape[1:]
    if sees != card.shape or gives != (1,) or EMBEDDING not in [layer.name for layer in model.layers]:
        raise ValueError(
            f"A network must take cubes of {card.shape} voxels, as its card says, and give one logit through "
            f"a layer {EMBEDDING!r}; {path} takes {sees} and gives {gives}. Mend its card."
        )
    return model
