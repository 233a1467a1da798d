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


class Summary(NamedTuple):
    """A network without its layers.

    `body` changes when any layer but the last does; `engine` runs it; an embedding has `length` numbers;
    `head` is the kernel (length,) and the bias of a last layer that is linear in them, None of another.
    """

    body: str
    engine: str
    length: int
    head: tuple[np.ndarray, float] | None


def summary_of(study: Study, network: Network) -> Summary:
    """Return a network's summary, as the study has it written down, or else from its layers."""
    path, key = study.folder / FOLDER / FILE, f"{network.card.sha256}, {network.engine}, {network.flips}"
    written = _read(path)
    if key in written:
        return written[key]
    length = int(network.model.get_layer(EMBEDDING).output.shape[-1])
    found = Summary(network.body, network.scores.name, length, head_of(network.model))
    if network.card.sha256:
        newest = {**dict(list(written.items())[-KEPT + 1 :]), key: found}
        with suppress(OSError):  # a full disk costs seconds the next time, and nothing else
            write_json(path, {each: _plain(summary) for each, summary in newest.items()})
    return found


def _read(path: Path) -> dict[str, Summary]:
    """Return the summaries in a file; none of one that is damaged or not there."""
    try:
        return {key: _summary(**record) for key, record in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _summary(*, body: str, engine: str, length: int, kernel: list[float] | None, bias: float) -> Summary:
    head = None if kernel is None else (np.array(kernel, np.float64), float(bias))
    return Summary(str(body), str(engine), int(length), head)


def _plain(summary: Summary) -> dict[str, Any]:
    kernel, bias = (None, 0.0) if summary.head is None else (summary.head[0].tolist(), summary.head[1])
    return {"body": summary.body, "engine": summary.engine, "length": summary.length} | {
        "kernel": kernel, "bias": bias,
    }  # fmt: skip
