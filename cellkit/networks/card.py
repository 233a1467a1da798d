"""The card of a network: what it sees, what it was taught and how good it is. Reads without Keras."""

import re
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from cellkit.cubes import CubeGeometry
from cellkit.folder.disk import read_json
from cellkit.networks.architectures import CHANNELS
from cellkit.tables import CLASSES

CARD = "card.json"
WEIGHTS = "network.keras"
VERSION = 1
TUPLES = ("classes", "channels", "parents", "history")
AS_MEASURED = "as measured"
NORMALISATION = "arcsinh((value - first quartile of the cube) / spread of the image), per channel"


@dataclass(frozen=True)
class NetworkCard:
    """What stands in `card.json` beside `network.keras`.

    Attributes
    ----------
    name : str
        Name of the network and of its folder.
    task : str
        "cell" or "expression".
    classes : tuple of 2 str
        The positive and the negative class.
    cube : CubeGeometry
        What part of an image the network sees, in cell diameters; in µm if it comes from another program.
    channels : tuple of str
        Channels of a cube.
    normalisation : str
        How intensities became cube values; `AS_MEASURED` if it comes from another program.
    threshold : float
        From this calibrated probability on, a candidate is called the positive class.
    slope, offset : float
        Calibration: p = sigmoid(slope * (logit + margin) + offset).
    crowding, prominence : float
        How much the context of a place counts: the margin is the sum of what `finding.context` says by these
        names, so weighed. 0: not at all.
    trained_on : dict
        Sources, and how many labels of which animals.
    settings : dict
        How it was trained.
    metrics : dict
        How good it was on what, as {name: {"value", "low", "high"}} for each source.
    parents : tuple of str
        Networks that it descends from, the nearest last, each `name (first 12 digits of its sha256)`.
    history : tuple of dict
        What was changed since it was saved: earlier thresholds, until when, and why another was set.
    versions : dict
        Of cellkit, Keras and its backend; filled in when saved.
    sha256 : str
        Of `network.keras`; filled in when saved.
    made_at : str
        ISO time, UTC; filled in when saved.
    """

    name: str
    task: str = "cell"
    classes: tuple[str, str] = CLASSES["cell"]
    cube: CubeGeometry = field(default_factory=CubeGeometry)
    channels: tuple[str, ...] = CHANNELS
    normalisation: str = NORMALISATION
    threshold: float = 0.5
    slope: float = 1.0
    offset: float = 0.0
    crowding: float = 0.0
    prominence: float = 0.0
    trained_on: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    history: tuple[dict[str, Any], ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    sha256: str = ""
    made_at: str = ""

    def __post_init__(self) -> None:
        """Refuse a name that is no folder's name, and numbers that cannot call."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ValueError(
                "A network's name must be letters, digits, points, dashes and underscores, a letter or digit "
                f"first; got {self.name!r}. Choose a name such as net-1."
            )
        if self.task not in CLASSES or not 0 < self.threshold < 1 or not self.slope > 0:
            raise ValueError(
                f"A card needs the task {' or '.join(CLASSES)}, a threshold from 0 to 1 and a slope above 0; "
                f"got {self.task!r}, {self.threshold:g} and {self.slope:g}. Mend the card."
            )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of a cube: voxels along z, y, x, and channels."""
        return (*self.cube.shape, len(self.channels))

    @property
    def lineage(self) -> tuple[str, ...]:
        """The parents and the network itself: what a child puts down as its parents."""
        return (*self.parents, f"{self.name} ({self.sha256[:12]})")

    def as_dict(self) -> dict[str, Any]:
        """Return what `card.json` holds."""
        return {"version": VERSION} | asdict(self)


def read_card(folder: str | Path) -> NetworkCard:
    """Read the card of the network in a folder, without Keras.

    Raises
    ------
    FileNotFoundError
        If there is no `card.json`.
    ValueError
        If it is not a card, or one of a newer cellkit.
    """
    path = Path(folder) / CARD
    if not path.is_file():
        raise FileNotFoundError(
            f"A network is a folder with {WEIGHTS} and {CARD}; {folder} has no {CARD}. Copy the whole folder."
        )
    return _card_from(read_json(path, what="A network's card"), path)


def _card_from(stated: Any, path: Path) -> NetworkCard:
    version = stated.get("version") if isinstance(stated, dict) else None
    if version != VERSION:
        raise ValueError(
            f"{path} must be a card of version {VERSION}; it says {version!r}. "
            "If a newer cellkit wrote it, update cellkit."
        )
    known = {f.name: f for f in fields(NetworkCard)}
    strange = sorted(set(stated) - set(known) - {"version"})
    missing = sorted(n for n, f in known.items() if f.default is MISSING and n not in stated)
    if strange or missing or not isinstance(stated.get("cube", {}), dict):
        raise ValueError(
            f"{path} must hold the fields of a card; "
            f"{', '.join(strange + missing) or 'cube'} is wrong or missing. Copy the network again."
        )
    values = {name: stated[name] for name in known if name in stated}
    lists = {name: tuple(values[name]) for name in TUPLES if name in values}
    try:
        return NetworkCard(**values | lists | {"cube": CubeGeometry(**stated.get("cube", {}))})
    except TypeError as error:
        raise ValueError(
            f"{path} must hold the fields of a card; {error}. Copy the network again."
        ) from error
