"""cellfinder's own networks: taken over into a folder of networks, to call candidates beside others."""

import json
import math
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from cellkit.formats.cellfinder_cubes import GEOMETRY
from cellkit.networks.architectures import EMBEDDING
from cellkit.networks.backend import load_keras
from cellkit.networks.card import AS_MEASURED, NetworkCard
from cellkit.networks.resnets import CONVOLUTIONS, build_resnet, plan_of
from cellkit.networks.safe import hash_file, strange_classes
from cellkit.networks.store import Network, save_network

MOST_BYTES = 4 * 2**30
WEIGHTS = "model.weights.h5"


def import_cellfinder(
    path: str | Path, folder: str | Path, *, name: str | None = None, background: str = "background"
) -> Network:
    """Take over a network that cellfinder 1.10 has trained, and return it as one of this folder.

    It sees what cellfinder shows it: cubes of 100 x 50 x 50 µm as bright as the image. `p` is its softmax,
    and from 0.5 on it calls a cell, as cellfinder does. Nothing of the file but its weights is used.

    Parameters
    ----------
    path : path
        `.keras`, or weights: `.h5` of a network of 18, 34, 50, 101 or 152 layers, of one or two channels.
    folder : path
        The folder of networks: `study.folder / "networks"`.
    name : str, optional
        Of the network here; from the file's name where it is not given.
    background : {"background", "signal"}
        What it sees as its second channel; "signal" for one that was trained with the signal in both.

    Raises
    ------
    FileNotFoundError, FileExistsError
        If there is no such file, or a network of that name.
    ValueError
        If the file is none of cellfinder's networks, or holds anything but plain layers and weights.
    """
    path = Path(path)
    if background not in ("background", "signal"):
        raise ValueError(f"`background` must be background or signal; got {background!r}. Choose one.")
    if not path.is_file():
        raise FileNotFoundError(f"A network's file must be there; {path} is not. Is the path right?")
    model, depth = _load(path)
    card = NetworkCard(
        name=name or path.name.split(".")[0],
        cube=GEOMETRY,
        channels=("signal", background)[: model.input_shape[-1]],
        normalisation=AS_MEASURED,
        settings={"kind": f"cellfinder's network of {depth} layers"},
        trained_on={"program": "cellfinder", "file": path.name, "sha256": hash_file(path)},
    )
    return save_network(_one_logit(model), card, folder)


def _load(path: Path) -> tuple[Any, int]:
    """Return a network of cellfinder with its softmax, and its depth."""
    if path.suffix not in (".keras", ".h5"):
        raise ValueError(f"A network of cellfinder ends in .keras or .h5; got {path.name!r}. Rename it.")
    if path.suffix == ".h5":
        return _with_weights(path, path)
    with tempfile.TemporaryDirectory() as scratch:
        weights = Path(scratch) / WEIGHTS
        configuration = _unpack(path, weights)
        model, depth = _with_weights(weights, path)
    if plan_of(configuration) != plan_of(_configuration(model)):
        raise ValueError(
            f"A network of cellfinder must be the one that cellfinder 1.10 builds; the layers of {path} are "
            "others. Load it where it was made, and save its weights only if they are such a network's."
        )
    return model, depth


def _configuration(model: Any) -> dict[str, Any]:
    return json.loads(model.to_json())


def _unpack(path: Path, weights: Path) -> dict[str, Any]:
    """Write the weights of a `.keras` file to a file of their own, and return its configuration."""
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = [archive.getinfo(name).file_size for name in ("config.json", WEIGHTS)]
            if sizes[0] > 2**26 or sizes[1] > MOST_BYTES:
                raise ValueError(f"it unpacks to {sum(sizes):,} bytes")
            configuration = json.loads(archive.read("config.json"))
            strange = sorted(strange_classes(configuration | {"compile_config": None}))
            if not strange:
                archive.extract(WEIGHTS, weights.parent)
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, OSError) as error:
        reason = str(error).strip('"')
        raise ValueError(
            f"{path} must be a network saved by Keras; it is not: {reason}. Copy it again."
        ) from error
    if strange:
        raise ValueError(
            f"A network may be made of plain Keras layers only; {path} has {', '.join(strange)}. "
            "It was not loaded, and none of its code was run."
        )
    return configuration


def _with_weights(weights: Path, path: Path) -> tuple[Any, int]:
    shapes = _kernel_shapes(weights, path)
    first = next((shape for shape in shapes if shape[:3] == (7, 7, 3)), None)
    depth = CONVOLUTIONS.get(len(shapes))
    if depth is None or first is None or first[3] not in (1, 2):
        raise ValueError(
            f"A network of cellfinder has {', '.join(map(str, CONVOLUTIONS))} convolutions, the first of "
            f"7 x 7 x 3 on one or two channels; {path} has {len(shapes)}. Is it one of cellfinder's?"
        )
    load_keras()
    model = build_resnet(depth, first[3])
    try:
        model.load_weights(weights)
    except Exception as error:  # Keras raises whatever its layers raise
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} must hold the weights of cellfinder's network of {depth} layers; they do not fit: "
            f"{reason}. Copy it again."
        ) from error
    return model, depth


def _kernel_shapes(weights: Path, path: Path) -> list[tuple[int, ...]]:
    """Return the shapes of all 3D kernels in a file of weights, which must hold nothing but numbers."""
    import h5py

    shapes: list[tuple[int, ...]] = []
    total = 0
    try:
        with h5py.File(weights, "r") as file:
            for name, item in _items(file):
                if isinstance(item, h5py.Dataset):
                    if item.external or item.is_virtual:
                        raise ValueError(f"{name} points to another file")
                    total += math.prod(item.shape) * item.dtype.itemsize
                    if item.ndim == 5 and not name.startswith("/optimizer"):
                        shapes.append(item.shape)
            if total > MOST_BYTES:
                raise ValueError(f"it unpacks to {total:,} bytes")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"{path} must hold the weights of a network; it does not: {error}. Copy it again."
        ) from error
    return shapes


def _items(group: Any, depth: int = 0) -> Any:
    """Yield name and content of all groups and datasets; links to elsewhere are refused, not followed."""
    import h5py

    for name in group:
        if depth > 12 or not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{group.name}/{name} is a link, or lies too deep")
        item = group[name]
        yield item.name, item
        if isinstance(item, h5py.Group):
            yield from _items(item, depth + 1)


def _one_logit(model: Any) -> Any:
    """Return the network with one logit in place of two probabilities: that of a cell, exactly."""
    import keras

    kernel, bias = model.layers[-1].get_weights()
    last = keras.layers.Dense(1, name="logit")
    made = keras.Model(model.inputs, last(model.get_layer(EMBEDDING).output), name=model.name)
    last.set_weights([kernel[:, 1:] - kernel[:, :1], bias[1:] - bias[:1]])
    return made
