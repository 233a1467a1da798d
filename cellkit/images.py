"""Images of every kind as one lazy image with axes (t, c, z, y, x), channel roles and a voxel size."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellkit.pixels.files import Axes, Stack, name_axes, open_file, unnamed_axes
from cellkit.pixels.tiffs import Stored, check_level
from cellkit.tables import ZYX

ROLES = ("signal", "background", "none")
TYPES = ("uint8", "int8", "uint16", "int16", "float32")


@dataclass(frozen=True)
class Image:
    """A volume, slice or time lapse: lazy voxels, voxel size and what each channel is.

    Attributes
    ----------
    name : str
    source : files.Stack, shape (t, c, z, y, x)
        Is read block by block, from any number of threads.
    voxel_um : tuple of 3 float
        Voxel size along z, y and x, in µm.
    roles : tuple of str
        For each channel "signal" (exactly one), "background" (at most one) or "none".
    animal : str
        The animal that it is of; "" where nobody said.
    """

    name: str
    source: Stack
    voxel_um: ZYX
    roles: tuple[str, ...]
    animal: str = ""

    def __post_init__(self) -> None:
        """Refuse roles and voxel sizes that cannot be."""
        object.__setattr__(self, "voxel_um", _checked_voxel_um(self.voxel_um))
        object.__setattr__(self, "roles", _checked_roles(self.roles, self.shape[1]))

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Length of the axes (t, c, z, y, x)."""
        t, c, z, y, x = self.source.shape
        return t, c, z, y, x

    @property
    def dtype(self) -> np.dtype:
        """Type of the voxels."""
        return self.source.dtype

    @property
    def chunk(self) -> tuple[int, int, int]:
        """Smallest part (z, y, x) that the file gives at once; blocks of whole ones are the cheapest."""
        z, y, x = self.source.chunk
        return z, y, x

    @property
    def frames(self) -> int:
        """Number of points in time."""
        return self.shape[0]

    @property
    def has_background(self) -> bool:
        """Whether a channel is the background."""
        return "background" in self.roles

    def read(
        self, role: str = "signal", *, frame: int = 0, box: tuple[slice, slice, slice] | None = None
    ) -> np.ndarray:
        """Read one channel of one frame, or a block of it, as an array (z, y, x) of its own.

        Parameters
        ----------
        box : tuple of 3 slice, optional
            From where to where along z, y and x, inside the image; the whole without it.

        Raises
        ------
        ValueError
            If there is no such channel, frame or block, the file is damaged, or a voxel is NaN or infinite.
        """
        channel = self._channel(role)
        if not 0 <= frame < self.frames:
            raise ValueError(
                f"The frame must be one of the image's {self.frames}, counted from 0; of {self.name} came "
                f"frame {frame}. Mend the frame."
            )
        zyx = self._checked_box(box)
        try:
            block = self.source[frame, channel, *zyx]
        except Exception as error:  # every format and codec has errors of its own
            reason = f"{type(error).__name__} {error}".splitlines()[0]
            raise ValueError(
                f"An image's voxels must be readable; {self.name} cannot be read at {_where(zyx)}: "
                f"{reason}. The file may be damaged: copy it again."
            ) from error
        if block.dtype.kind == "f" and not np.isfinite(block).all():
            at = np.argwhere(~np.isfinite(block))[0] + [side.start for side in zyx]
            raise ValueError(
                f"An image must hold finite numbers; the {role} of {self.name} is NaN or infinite at "
                f"(z, y, x) = {tuple(map(int, at))}, frame {frame}. Replace such voxels before opening it."
            )
        return block

    def _channel(self, role: str) -> int:
        if role not in self.roles or role == "none":
            raise ValueError(
                f"The role must be one of the image's; {self.name} has {', '.join(self.roles)}, "
                f"got {role!r}. Open it with `roles=...`."
            )
        return self.roles.index(role)

    def _checked_box(self, box: tuple[slice, slice, slice] | None) -> tuple[slice, slice, slice]:
        sides = tuple(
            slice(side.start or 0, n if side.stop is None else side.stop, side.step)
            for side, n in zip(box or (slice(None),) * 3, self.shape[2:], strict=True)
        )
        for side, n in zip(sides, self.shape[2:], strict=True):
            if not 0 <= side.start < side.stop <= n or side.step not in {None, 1}:
                raise ValueError(
                    f"A block must lie inside the image, with at least one voxel; {self.name} is "
                    f"{self.shape[2:]} (z, y, x), got {_where(sides)}. Cut it at the border."
                )
        z, y, x = sides
        return z, y, x


def _where(box: Sequence[slice]) -> str:
    return ", ".join(f"{side.start}:{side.stop}" for side in box)


def _checked_voxel_um(voxel_um: Any) -> ZYX:
    try:
        z, y, x = (float(um) for um in voxel_um)
    except (TypeError, ValueError):
        z = y = x = float("nan")
    if not all(0 < um < np.inf for um in (z, y, x)):
        raise ValueError(
            f"The voxel size must be three lengths above zero, z, y, x in µm; got {voxel_um}. "
            "Give it: `voxel_um=(5, 2, 2)`."
        )
    return z, y, x


def _checked_roles(roles: Sequence[str], channels: int) -> tuple[str, ...]:
    roles = (roles,) if isinstance(roles, str) else tuple(roles)
    fits = len(roles) == channels and set(roles) <= set(ROLES)
    if not fits or roles.count("signal") != 1 or roles.count("background") > 1:
        raise ValueError(
            "`roles` must say of each channel whether it is signal (exactly one), background (at most one) "
            f"or none; got {', '.join(map(str, roles)) or 'nothing'} for {channels} channels. "
            "Give one a channel."
        )
    return roles


def open_image(
    path: Any,
    *,
    voxel_um: ZYX | None = None,
    roles: Sequence[str] | None = None,
    name: str | None = None,
    axes: str | None = None,
    level: int = 0,
) -> Image:
    """Open a file, a folder of planes or an array, without reading its voxels.

    Parameters
    ----------
    path : path, array, or a list of them
        A TIFF (also OME or ImageJ), a folder of TIFF planes, an OME-Zarr, a `.npy`, or an array of 2 to 5
        axes.
        The channels of several follow one another.
    voxel_um : tuple of 3 float, optional
        Voxel size along z, y, x in µm. Needed where the metadata do not say it; where both do, this counts.
        Of a single plane whose metadata know only y and x, z is taken as y: it has no effect.
    roles : list of str, optional
        What each channel is: "signal", "background" or "none". One channel is the signal.
    name : str, optional
        The file's name without its ending where it is not given.
    axes : str, optional
        The axes in their order, of t, c, z, y, x: "tzyx". Needed for 4 axes and more that the file does not
        name; 2 are (y, x) and 3 are (z, y, x).
    level : int
        Level of the pyramid in an OME-Zarr or TIFF, 0 the finest. A given `voxel_um` is that of the level.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it cannot be read as an image, or needs something that was not given.
    """
    parts = list(path) if isinstance(path, (list, tuple)) else [path]
    whats = [str(part) if isinstance(part, (str, os.PathLike)) else "the array" for part in parts]
    if not parts:
        raise ValueError("An image needs at least one path or array; got an empty list. Give its path.")
    stored = [_stored(part, what, level) for part, what in zip(parts, whats, strict=True)]
    opened = [Axes(one, name_axes(one, axes, what=what)) for one, what in zip(stored, whats, strict=True)]
    for what, one in zip(whats, opened, strict=True):
        _check_part(what, one, whats[0], opened[0])
    source = Stack(opened)
    if roles is None:
        if source.shape[1] > 1:
            raise ValueError(
                f"An image of several channels needs their roles; {whats[0]} has {source.shape[1]} channels. "
                'Give them: `roles=("signal", "background")`.'
            )
        roles = ("signal",)
    if voxel_um is None:
        voxel_um = _known_voxel_um(whats, stored, planes=source.shape[2])
    return Image(name or _name(parts[0]), source, voxel_um, tuple(roles))


def _stored(part: Any, what: str, level: int) -> Stored:
    if isinstance(part, (str, os.PathLike)):
        return open_file(Path(part), level=level)
    if not (hasattr(part, "shape") and hasattr(part, "dtype") and 2 <= len(part.shape) <= 5):
        came = f"an array of shape {part.shape}" if hasattr(part, "shape") else type(part).__name__
        raise ValueError(
            f"An image must be a path, or an array of 2 to 5 axes; got {came}. "
            "Of nested lists make an array: `np.asarray(them)`."
        )
    check_level(what, level, 1)
    chunk = getattr(part, "chunksize", getattr(part, "chunks", (1,) * len(part.shape)))
    return Stored(part, unnamed_axes(len(part.shape)), {}, chunk)


def _check_part(what: str, part: Axes, first_what: str, first: Axes) -> None:
    if part.dtype.name not in TYPES:
        raise ValueError(
            f"An image must be of type {', '.join(TYPES[:-1])} or {TYPES[-1]}; {what} is {part.dtype.name}. "
            "Convert it: `array.astype('float32')`, or 'uint16' where it holds whole numbers."
        )
    if 0 in part.shape:
        raise ValueError(f"An image must hold voxels; {what} has shape {part.shape}. Is it the right one?")
    if part.shape[:1] + part.shape[2:] != first.shape[:1] + first.shape[2:]:
        raise ValueError(
            "The channels of an image must have one shape (t, z, y, x); "
            f"{first_what} has {first.shape[:1] + first.shape[2:]}, "
            f"{what} has {part.shape[:1] + part.shape[2:]}. Are they of one brain?"
        )


def _known_voxel_um(whats: Sequence[str], stored: Sequence[Stored], *, planes: int) -> ZYX:
    """Return the voxel size in the metadata of the first file that knows it; the others may not differ."""
    known: dict[str, float] = {}
    for what, one in zip(whats, stored, strict=True):
        for side, um in one.sides_um.items():
            if abs(known.setdefault(side, um) / um - 1) > 0.001:
                raise ValueError(
                    f"The channels of an image must have one voxel size; along {side} {what} has {um:g} µm, "
                    f"another {known[side]:g} µm. Say which holds: `voxel_um=(z, y, x)`."
                )
    if planes == 1 and "y" in known:
        known.setdefault("z", known["y"])
    missing = [side for side in "zyx" if side not in known]
    if missing:
        raise ValueError(
            f"The voxel size must be known; the metadata of {whats[0]} do not say it along "
            f"{', '.join(missing)}. Give it in µm: `voxel_um=(z, y, x)`."
        )
    return known["z"], known["y"], known["x"]


def _name(part: Any) -> str:
    if not isinstance(part, (str, os.PathLike)):
        return "image"
    return re.sub(r"(\.ome)?\.(tiff?|zarr|npy|btf|tf8)$", "", Path(part).name, flags=re.IGNORECASE)
