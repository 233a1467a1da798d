"""What a study is about: the records behind `study.toml`, its reading and writing, and the checks of both."""

import json
import math
import os
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from numbers import Real
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from cellkit.tables import CLASSES, UNSURE, ZYX

FILE = "study.toml"
VERSION = 1
ROLES = ("train", "judge")
CHANNEL_ROLES = ("signal", "background", "none")
KEYS = ("version", "task", "classes", "diameter_um", "seed", "images")
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
RESERVED_ANSWERS = (UNSURE, "undo", "clear")
HEAD = """\
# A cellkit study. Edit it by hand if you like: lengths are in µm, `voxel_um` is z, y, x, and paths start from
# this folder. The role of an image is "train" or "judge"; a channel is "signal", "background" or "none".
"""


@dataclass(frozen=True)
class ImageEntry:
    """One image of a study, as it stands in `study.toml`.

    `voxel_um` and `channels` may be left out there if the file's own metadata say them; an opened study
    has them filled in. `path` is one file or folder, or several whose channels are stacked.
    """

    name: str
    path: str | tuple[str, ...]
    animal: str
    channels: tuple[str, ...] = ()
    voxel_um: ZYX | None = None
    role: str = "train"
    axes: str | None = None
    level: int = 0

    def files(self, folder: Path) -> list[Path]:
        """Return where the image lies; paths that are not absolute start from the study's folder."""
        paths = [self.path] if isinstance(self.path, str) else self.path
        return [folder / Path(path).expanduser() for path in paths]


@dataclass(frozen=True)
class StudySettings:
    """What `study.toml` says; `classes` has the positive class first."""

    diameter_um: float
    task: str
    classes: tuple[str, str]
    seed: int
    images: tuple[ImageEntry, ...]


def read_settings(folder: Path) -> StudySettings:
    """Read and check `study.toml`; no image is opened.

    Raises
    ------
    FileNotFoundError
        If the folder holds no study.
    ValueError
        If the file is not TOML, from a newer version, or says something that cannot be.
    """
    path = folder / FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"A study is a folder with a {FILE}; {folder} has none. "
            "Make one there with create_study, or open another folder."
        )
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(
            f"A study's {FILE} must be TOML in UTF-8; {path} is not: {error}. "
            "Texts stand in double quotes, Windows paths in single ones."
        ) from error
    return make_settings(said)


def make_settings(said: Mapping[str, Any]) -> StudySettings:
    """Make checked settings of what `study.toml`, or the arguments of `create_study`, say.

    Raises
    ------
    ValueError
        For the first thing that cannot be, with the rule.
    """
    version = said.get("version", VERSION)
    _need(_is_whole(version, least=1), f"`version` must be {VERSION}", version, "Leave it out.")
    _need(version <= VERSION, f"This cellkit reads studies of version {VERSION}", version, "Update cellkit.")
    strange = [key for key in said if key not in KEYS]
    _need(not strange, f"A study may hold {', '.join(KEYS)}", strange, "Mend the name or leave it out.")
    diameter, task, seed = said.get("diameter_um"), said.get("task", "cell"), said.get("seed", 0)
    rule = "`diameter_um` must be a positive number of µm"
    _need(_is_positive(diameter), rule, diameter, "Measure a typical cell.")
    rule = f"`task` must be {' or '.join(CLASSES)}"
    _need(isinstance(task, str) and task in CLASSES, rule, task, "Choose one.")
    _need(_is_whole(seed), "`seed` must be a whole number from 0", seed, "Give one.")
    classes = _checked_classes(said["classes"] if said.get("classes") is not None else CLASSES[task])
    images = said.get("images")
    _need(
        bool(_items(images)), "A study needs a list of images", images, "Give name, path and animal of each."
    )
    entries = tuple(_make_entry(image) for image in _items(images))
    _check_names([entry.name for entry in entries])
    return StudySettings(float(diameter or 0), task, classes, seed, entries)


def _checked_classes(said: Any) -> tuple[str, str]:
    classes = _items(said)
    rule = "`classes` must be two names, the positive class first"
    _need(len(classes) == 2, rule, said, 'As in ["cell", "artefact"].')
    positive, negative = classes
    texts = all(isinstance(name, str) and name.strip() for name in classes)
    free = (
        texts
        and positive not in RESERVED_ANSWERS
        and negative not in RESERVED_ANSWERS
        and positive != negative
    )
    _need(
        free,
        f"The two `classes` must be different texts, none of {', '.join(RESERVED_ANSWERS)}",
        said,
        "Rename one.",
    )
    return positive, negative


def _make_entry(image: Any) -> ImageEntry:
    known = [field.name for field in fields(ImageEntry)]
    rule = f"An image must be given by {', '.join(known)}"
    _need(isinstance(image, Mapping), rule, image, "Write it as a dict.")
    said = {"channels" if key == "roles" else key: value for key, value in image.items() if value is not None}
    strange = [key for key in said if key not in known]
    _need(not strange, f"An image may hold {', '.join(known)}", strange, "Mend the name or leave it out.")
    name = said.get("name", "?")
    for key, why in [("name", ""), ("path", ""), ("animal", ", which all images of one animal share")]:
        _need(key in said, f"Image {name!r} needs `{key}`{why}", None, "Add it.")
    check_name(name, what="image")
    said["path"] = _checked_path(said["path"], name)
    said["channels"] = _checked_channels(said.get("channels", ()), name)
    said["voxel_um"] = _checked_voxel(said.get("voxel_um"), name)
    return _checked_entry(ImageEntry(**said))


def _checked_path(said: Any, name: str) -> str | tuple[str, ...]:
    one = isinstance(said, str | Path)
    paths = (said,) if one else _items(said)
    texts = bool(paths) and all(isinstance(path, str | Path) and str(path).strip() for path in paths)
    _need(texts, f"`path` of image {name!r} must be one path or a list of paths", said, "Mend it.")
    return str(said) if one else tuple(map(str, paths))


def _checked_channels(said: Any, name: str) -> tuple[str, ...]:
    channels = _items(said)
    known = isinstance(said, list | tuple | np.ndarray) and all(
        channel in CHANNEL_ROLES for channel in channels
    )
    rule = f"Each of `channels` of image {name!r} must be one of {', '.join(CHANNEL_ROLES)}"
    _need(known, rule, said, "Name the role of every channel, in their order.")
    rule = f"One of `channels` of image {name!r} must be the signal, and at most one the background"
    fits = not channels or (channels.count("signal") == 1 and channels.count("background") <= 1)
    _need(fits, rule, said, "Say which channel shows the cells.")
    return channels


def _checked_voxel(said: Any, name: str) -> ZYX | None:
    sizes = _items(said)
    whole = said is None or (len(sizes) == 3 and all(map(_is_positive, sizes)))
    rule = f"`voxel_um` of image {name!r} must be three positive numbers of µm: z, y, x"
    _need(whole, rule, said, "The microscope's notes have them.")
    return None if said is None else (float(sizes[0]), float(sizes[1]), float(sizes[2]))


def _checked_entry(entry: ImageEntry) -> ImageEntry:
    of = f"of image {entry.name!r}"
    named = isinstance(entry.animal, str) and entry.animal.strip() != ""
    _need(named, f"`animal` {of} must be a text", entry.animal, "Name the animal.")
    _need(entry.role in ROLES, f"`role` {of} must be {' or '.join(ROLES)}", entry.role, "Choose one.")
    _need(_is_whole(entry.level), f"`level` {of} must be a whole number from 0", entry.level, "Give one.")
    lettered = entry.axes is None or isinstance(entry.axes, str)
    _need(lettered, f"`axes` {of} must be a text such as zcyx", entry.axes, "Mend it.")
    return entry


def check_diameter(settings: StudySettings) -> None:
    """Raise a ValueError if the cell's diameter is below one voxel in the plane of an image."""
    for entry in settings.images:
        widest = max(entry.voxel_um[1:]) if entry.voxel_um else 0.0
        rule = f"`diameter_um` must be at least one voxel in plane, {widest:g} µm in image {entry.name!r}"
        _need(settings.diameter_um >= widest, rule, settings.diameter_um, "Are both in µm?")


def check_name(name: Any, *, what: str) -> str:
    """Return a name that may be a file's on every machine, or raise a ValueError that says what is wrong."""
    text = name if isinstance(name, str) else ""
    taken = text.split(".")[0].lower() in RESERVED
    fits = 0 < len(text) <= 80 and text.isprintable() and not re.search(r'[/\\:*?"<>|]', text)
    signs = 'Leave out / \\ : * ? " < > | and points or spaces at the ends.'
    cure = "Windows keeps it for itself; put something before it." if taken else signs
    fits = fits and text == text.strip(" .") and not taken
    _need(fits, f"The name of this {what} must be usable as a file's", name, cure)
    return text


def _check_names(names: list[str]) -> None:
    plain = [unicodedata.normalize("NFC", name).casefold() for name in names]
    twice = [name for name, key in zip(names, plain, strict=True) if plain.count(key) > 1]
    _need(not twice, "Every image needs a name of its own, whatever the case", twice, "Rename one.")


def _items(value: Any) -> tuple:
    return tuple(value) if isinstance(value, list | tuple | np.ndarray) else ()


def _is_positive(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < math.inf


def _is_whole(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _need(holds: bool, rule: str, came: Any, cure: str) -> None:
    if not holds:
        raise ValueError(f"{rule}; got {came!r}. {cure}")


def as_toml(settings: StudySettings) -> str:
    """Return the text of `study.toml`; `make_settings(tomllib.loads(text))` gives the settings back."""
    top = {"version": VERSION} | {key: getattr(settings, key) for key in KEYS[1:-1]}
    lines = [HEAD, *(f"{key} = {_toml(value)}" for key, value in top.items())]
    for entry in settings.images:
        said = {key: value for key, value in asdict(entry).items() if value not in (None, ())}
        said = {key: value for key, value in said.items() if key != "level" or value}
        lines += ["", "[[images]]", *(f"{key} = {_toml(value)}" for key, value in said.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, str):
        literal = "\\" in value and "'" not in value and value.isprintable()
        return f"'{value}'" if literal else json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"[{', '.join(map(_toml, value))}]" if isinstance(value, tuple) else repr(value)


def store_paths(settings: StudySettings, folder: Path) -> StudySettings:
    """Return settings with paths as `study.toml` has them: from the study's folder if inside, else as given.

    A relative path is looked for in the study's folder first and then in the current one.
    """
    paths = [entry.path for entry in settings.images]
    stored = [
        _stored(path, folder) if isinstance(path, str) else tuple(_stored(part, folder) for part in path)
        for path in paths
    ]
    pairs = zip(settings.images, stored, strict=True)
    return replace(settings, images=tuple(replace(entry, path=path) for entry, path in pairs))


def _stored(path: str, folder: Path) -> str:
    if PureWindowsPath(path).is_absolute() and not Path(path).is_absolute():
        return path
    given = Path(path).expanduser()
    here = folder / given
    found = here if here.exists() else Path.cwd() / given
    try:
        return Path(os.path.abspath(found)).relative_to(os.path.abspath(folder)).as_posix()
    except ValueError:
        return path if given.is_absolute() or here.exists() else os.path.abspath(found)
