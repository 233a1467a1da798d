"""Networks on disk: saved whole or not at all, and loaded only when they are what they say."""

import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from cellkit import __version__
from cellkit.folder.disk import write_json, writing
from cellkit.networks.architectures import CHANNELS
from cellkit.networks.card import AS_MEASURED, CARD, NORMALISATION, WEIGHTS, NetworkCard, read_card
from cellkit.networks.engines import Engine, compile_engine, mirrored
from cellkit.networks.heads import fingerprint_body
from cellkit.networks.safe import check_file, hash_file, load_model

SUPPLIED = Path(__file__).parent / "supplied"
HISTORY = "history.csv"
HELD_OUT = "held-out.csv"
ITS_OWN = [(AS_MEASURED, channels) for channels in (("signal",), ("signal", "background"), ("signal",) * 2)]
SEEN = [(NORMALISATION, CHANNELS), *ITS_OWN]


class Network:
    """A network on disk: its `card`, its `folder`, and, once needed, its Keras model.

    `engine` is what `predict` runs it by: "openvino", "bfloat16" or "keras", or None to choose by itself;
    with `flips` it looks at each cube's mirror images too.
    """

    def __init__(
        self, card: NetworkCard, folder: Path, *, engine: str | None = None, flips: bool = False
    ) -> None:
        self.card = card
        self.folder = folder
        self.engine = engine
        self.flips = flips

    @property
    def name(self) -> str:
        """The name on its card."""
        return self.card.name

    @cached_property
    def model(self) -> Any:
        """The Keras model: cubes (n, z, y, x, channel) to logits (n, 1)."""
        return load_model(self.folder / WEIGHTS, self.card)

    @cached_property
    def scores(self) -> Engine:
        """The compiled network: called with cubes it gives logits and embeddings."""
        engine = compile_engine(self.model, self.engine, line=(self.card.slope, self.card.offset))
        return mirrored(engine) if self.flips else engine

    @cached_property
    def body(self) -> str:
        """What changes when any layer but the last does."""
        return fingerprint_body(self.model)

    def __repr__(self) -> str:
        return f"Network({self.name!r}, task {self.card.task!r}, in {self.folder})"


def supplied_networks() -> list[str]:
    """Return the names of the networks that come with cellkit."""
    return _names_in(SUPPLIED)


def _names_in(folder: Path | None) -> list[str]:
    return sorted(card.parent.name for card in folder.glob(f"[!.]*/{CARD}")) if folder else []


def load_network(
    name_or_path: str | Path,
    folder: str | Path | None = None,
    *,
    task: str | None = None,
    engine: str | None = None,
    flips: bool = False,
) -> Network:
    """Find a network, check it, and return it; Keras loads when it is first used.

    Parameters
    ----------
    name_or_path : str or Path
        Name of one of the study's networks or of a supplied one, a network's folder, or its `network.keras`.
    folder : str or Path, optional
        The folder of the study's networks; it comes first.
    task : str, optional
        The task that the network must be for.
    engine : {"openvino", "bfloat16", "keras"}, optional
        What to run it by; chosen by itself if not given.
    flips : bool
        Let it look at a cube and its seven mirror images and take the mean; it costs eight times as much.

    Raises
    ------
    FileNotFoundError
        If there is no such network.
    ValueError
        If its files are not what its card says, hold code of others, or it is for another task or cubes.
    """
    found = _find(name_or_path, None if folder is None else Path(folder))
    card = read_card(found)
    if task is not None and card.task != task:
        raise ValueError(
            f"A study of the task {task} needs a network of that task; {card.name} is for {card.task}. "
            "Choose another network."
        )
    if (card.normalisation, card.channels) not in SEEN:
        raise ValueError(
            f"A network must be taught cubes as cellkit {__version__} cuts them: {NORMALISATION}; "
            f"{card.name} was taught {card.normalisation}, channels {', '.join(card.channels)}. "
            "Train it anew."
        )
    check_file(found / WEIGHTS, card)
    return Network(card, found, engine=engine, flips=flips)


def _find(name_or_path: str | Path, folder: Path | None) -> Path:
    path = Path(name_or_path)
    choices = [path.parent if path.name == WEIGHTS else path]
    if len(path.parts) == 1 and path.name != WEIGHTS:
        homes = [home / path for home in (folder, SUPPLIED) if home is not None]
        choices = [home for home in homes if (home / CARD).is_file()] + choices
    found = next((choice for choice in choices if choice.is_dir()), None)
    if found is None:
        known = _names_in(folder) + supplied_networks()
        raise FileNotFoundError(
            f"A network must be one of the known ones or a folder with {WEIGHTS} and {CARD}; "
            f"there is no {name_or_path}. Known: {', '.join(known) or 'none'}."
        )
    return found


def save_network(
    model: Any,
    card: NetworkCard,
    folder: str | Path,
    *,
    history: pd.DataFrame | None = None,
    held_out: pd.DataFrame | None = None,
) -> Network:
    """Save a network in `folder/<name>` and return it; its card comes last, and without it there is none.

    Parameters
    ----------
    model : keras.Model
        Cubes to logits, uncompiled, so that no optimiser is saved.
    card : NetworkCard
        `versions`, `sha256` and `made_at` are filled in here.
    folder : str or Path
        The folder of networks; made if it is not there. `folder/<name>` may hold checkpoints.
    history : DataFrame, optional
        What `fit` returned, kept beside it as `history.csv`.
    held_out : DataFrame, optional
        What it says of labels that it was not taught, kept beside it as `held-out.csv`.

    Raises
    ------
    FileExistsError
        If there is a network of that name.
    OSError
        If the folder cannot be written.
    """
    target = Path(folder) / card.name
    if (target / CARD).exists():
        raise FileExistsError(f"A network is never overwritten; {target} is there. Choose another name.")
    part = target / f".{os.getpid()}.part"
    try:
        with writing(target.parent, what="The folder of networks"):
            part.mkdir(parents=True)
            model.save(part / WEIGHTS)
            for table, name in ((history, HISTORY), (held_out, HELD_OUT)):
                if table is not None:
                    table.to_csv(part / name, index=False)
            write_json(part / CARD, _filled_in(card, part / WEIGHTS).as_dict())
            for name in (WEIGHTS, HISTORY, HELD_OUT, CARD):
                if (part / name).exists():
                    os.replace(part / name, target / name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if target.is_dir() and not any(target.iterdir()):
            target.rmdir()
    return Network(read_card(target), target)


def write_card(card: NetworkCard, folder: Path) -> None:
    """Put another card in place of a network's, whole or not at all; the network stays as it is.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    with writing(folder, what="The network's folder"):
        write_json(folder / CARD, card.as_dict())


def _filled_in(card: NetworkCard, weights: Path) -> NetworkCard:
    import keras

    backend = keras.backend.backend()
    versions = {"cellkit": __version__, "keras": keras.__version__, backend: version(backend)}
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    return replace(card, versions=versions, sha256=hash_file(weights), made_at=made_at)
