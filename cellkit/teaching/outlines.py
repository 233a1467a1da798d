"""What must be known of a network to call from kept embeddings, written down: it takes no Keras."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cellkit.folder.disk import write_json
from cellkit.networks.architectures import EMBEDDING
from cellkit.networks.heads import head_of
from cellkit.networks.store import Network
from cellkit.study import Study

FOLDER = "embeddings"
FILE = "networks.json"
KEPT = 20


class Outline(NamedTuple):
    """A network without its layers.

    `body` changes when any layer but the last does; `engine` runs it; an embedding has `length` numbers;
    `head` is the kernel (length,) and the bias of a last layer that is linear in them, None of another.
    """

    body: str
    engine: str
    length: int
    head: tuple[np.ndarray, float] | None


def outline_of(study: Study, network: Network) -> Outline:
    """Return a network's outline, as the study has it written down, or else from its layers."""
    path, key = study.folder / FOLDER / FILE, f"{network.card.sha256}, {network.engine}, {network.flips}"
    written = _read(path)
    if key in written:
        return written[key]
    length = int(network.model.get_layer(EMBEDDING).output.shape[-1])
    found = Outline(network.body, network.scores.name, length, head_of(network.model))
    if network.card.sha256:
        newest = {**dict(list(written.items())[-KEPT + 1 :]), key: found}
        with suppress(OSError):  # a full disk costs seconds the next time, and nothing else
            write_json(path, {each: _plain(outline) for each, outline in newest.items()})
    return found


def _read(path: Path) -> dict[str, Outline]:
    """Return the outlines in a file; none of one that is damaged or not there."""
    try:
        return {key: _outline(**record) for key, record in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _outline(*, body: str, engine: str, length: int, kernel: list[float] | None, bias: float) -> Outline:
    head = None if kernel is None else (np.array(kernel, np.float64), float(bias))
    return Outline(str(body), str(engine), int(length), head)


def _plain(outline: Outline) -> dict[str, Any]:
    kernel, bias = (None, 0.0) if outline.head is None else (outline.head[0].tolist(), outline.head[1])
    return {"body": outline.body, "engine": outline.engine, "length": outline.length} | {
        "kernel": kernel, "bias": bias,
    }  # fmt: skip
