"""Figures of pixels: channels, candidates in a projection, and galleries of crops."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cellkit.cubes import ROLES, CubeGeometry, Intensities, cut_cubes
from cellkit.images import Image
from cellkit.plots.style import (
    FOUND,
    INK,
    bare,
    colour_of,
    letter_of,
    new_axes,
    nice_length,
    scale_bar,
    write,
)
from cellkit.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CROP = CubeGeometry(shape=(4, 48, 48), extent=(0.6, 3.0, 3.0))


def plot_channels(
    image: Image,
    intensities: Mapping[str, Intensities],
    *,
    depth_um: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the channels of an image side by side: maximum projections of its middle, with a scale bar.

    Parameters
    ----------
    image : Image
    intensities : dict of str to Intensities
        By role; each channel is shown between its `low` and `high`.
    depth_um : float, optional
        Thickness of the slab through the middle; the whole image if left out.
    """
    roles = [role for role in ROLES if role in image.roles]
    planes = _slab(image, depth_um)
    seen = [_shown(_project(image, role, planes), intensities[role]) for role in roles]
    gap = np.full((seen[0].shape[0], max(2, seen[0].shape[1] // 50)), np.nan)
    wide = np.concatenate([part for each in seen for part in (each, gap)][:-1], axis=1)
    ax = _show(ax, wide, image)
    for n, role in enumerate(roles):
        middle = n * (seen[0].shape[1] + gap.shape[1]) + seen[0].shape[1] / 2
        write(ax, middle, -0.02 * wide.shape[0], role, ha="center", va="bottom")
    return ax


def plot_projection(
    study: Study,
    image: str,
    *,
    depth_um: float | None = None,
    color: str | None = None,
    frame: int = 0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the candidates over a maximum projection of the signal.

    Parameters
    ----------
    study : Study
    image : str
        Name of an image of the study.
    depth_um : float, optional
        Thickness of the slab through the middle; the whole image if left out.
    color : str, optional
        "called" or "answer": circles where that is the positive class, crosses for the other. Without it all
        candidates are circles.
    frame : int
        Frame of a time lapse.
    """
    opened = study.image(image)
    planes = _slab(opened, depth_um)
    seen = _project(opened, "signal", planes, frame=frame)
    ax = _show(ax, _shown(seen, study.intensities(image)["signal"]), opened)
    table = study.labelled_candidates()
    here = (table["image"] == image) & (table["frame"] == frame)
    table = table[here & table["z"].between(planes.start - 0.5, planes.stop - 0.5)]
    radius = 0.6 * study.settings.diameter_um / opened.voxel_um[2]
    positive, negative = study.settings.classes
    kinds = _kinds(table, color, study.settings.classes)
    for kind in sorted(set(kinds), key=lambda kind: (kind != positive, kind != negative, kind)):
        part = table[kinds == kind]
        bright = FOUND if kind in {positive, "candidates"} else colour_of(kind, study.settings.classes)
        _mark(ax, part, radius=radius, cross=kind == negative, colour=bright, label=f"{kind}: {len(part):,}")
    ax.legend(frameon=False, labelcolor=INK, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3)
    return ax


def _kinds(table: pd.DataFrame, color: str | None, classes: tuple[str, str]) -> np.ndarray:
    if color is None:
        return np.full(len(table), "candidates", dtype=object)
    if color == "called" and "called" in table:
        return np.where(table["called"], *classes)
    if color == "answer":
        return np.where(table["answer"] == "", "no label", table["answer"])
    raise ValueError(
        f"`color` must be called or answer, a column of the candidates; got {color!r}. "
        "Candidates are called by detect.classify(study)."
    )


def _mark(ax: "Axes", table: pd.DataFrame, *, radius: float, cross: bool, colour: str, label: str) -> None:
    from matplotlib.collections import EllipseCollection

    at = table[["x", "y"]].to_numpy()
    if cross:
        ax.plot(*at.T, "x", color=colour, markersize=4, markeredgewidth=1, label=label)
        return
    width = np.full(len(at), 2 * radius)
    ax.add_collection(
        EllipseCollection(
            width, width, np.zeros(len(at)), units="xy", offsets=at, transOffset=ax.transData,
            facecolors="none", edgecolors=colour, linewidths=1.2,
        )
    )  # fmt: skip
    ax.plot([], [], "o", markerfacecolor="none", markeredgecolor=colour, label=label)


def plot_gallery(study: Study, places: pd.DataFrame, *, columns: int = 8, ax: "Axes | None" = None) -> "Axes":
    """Draw crops of the signal, the background under each, with `p` above and the person's answer below.

    Where the queue has `before`, as of `reassess.fixed_and_broken`, both probabilities stand above.

    Parameters
    ----------
    study : Study
    places : DataFrame
        `image, frame, z, y, x`; and where known `p` and `answer`. 16 to 40 are a good number.
    columns : int
        Crops in a row.
    """
    if places.empty:
        ax = bare(new_axes(ax, size=(4, 0.6)))
        write(ax, 0.5, 0.5, "Nothing to show: there is no such place.", ha="center", va="center")
        return ax
    places = places.reset_index(drop=True)
    tiles = _tiles(study, places)
    rows = -(-len(places) // columns)
    height, width = tiles.shape[1] + 22, tiles.shape[2] + 6
    page = np.full((rows * height, columns * width), np.nan, dtype=np.float32)
    ax = bare(new_axes(ax, size=(columns, rows * height / width)))
    for n, tile in enumerate(tiles):
        y, x = n // columns * height + 10, n % columns * width + 3
        page[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
        _caption(
            ax, places.loc[n], study.settings.classes, x=x + tile.shape[1] / 2, y=y, height=tile.shape[0]
        )
    ax.imshow(page, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    return ax


def _caption(
    ax: "Axes", place: pd.Series, classes: tuple[str, str], *, x: float, y: float, height: int
) -> None:
    if "p" in place and np.isfinite(place["p"]):
        first = f"{place['before']:.2f} → " if "before" in place else "p "
        write(ax, x, y - 1, f"{first}{place['p']:.2f}", fontsize=7, ha="center", va="bottom")
    answer = str(place.get("answer", ""))
    if letter := letter_of(answer, classes):
        colour = colour_of(answer, classes)
        box = {"boxstyle": "round,pad=0.2", "facecolor": colour, "linewidth": 0}
        ink = "black" if answer not in classes else "white"
        write(
            ax,
            x,
            y + height + 6,
            letter,
            fontsize=7,
            color=ink,
            weight="bold",
            bbox=box,
            ha="center",
            va="center",
        )


def _tiles(study: Study, places: pd.DataFrame) -> np.ndarray:
    """Return one tile a place, shape (n, rows, columns), 0 to 1: the signal, under it the background."""
    _, y, x = CROP.shape
    several = any("background" in study.image(str(name)).roles for name in places["image"].unique())
    tiles = np.full((len(places), y * (1 + several) + several, x), np.nan, dtype=np.float32)
    for name, rows in places.groupby("image").indices.items():
        image, intensities = study.image(str(name)), study.intensities(str(name))
        cubes = cut_cubes(
            image, places.iloc[rows], intensities=intensities,
            diameter_um=study.settings.diameter_um, geometry=CROP, as_measured=True,
        )  # fmt: skip
        outside = _outside(image, places.iloc[rows], study.settings.diameter_um)
        for n, role in enumerate(role for role in ROLES if role in image.roles):
            limits, start = intensities[role], n * (y + 1)
            values = cubes[..., ROLES.index(role)].max(axis=1)
            tiles[rows, start : start + y] = np.where(outside, np.nan, _shown(values, limits))
    return tiles


def _outside(image: Image, places: pd.DataFrame, diameter_um: float) -> np.ndarray:
    """Say which pixels of each crop lie beyond the image, shape (n, y, x)."""
    beyond = []
    for axis, name in [(1, "y"), (2, "x")]:
        n, step = CROP.shape[axis], CROP.step_um(diameter_um)[axis] / image.voxel_um[axis]
        at = places[name].to_numpy("float64")[:, None] + (np.arange(n) - (n - 1) / 2) * step
        beyond.append((at < -0.5) | (at > image.shape[2 + axis] - 0.5))
    return beyond[0][:, :, None] | beyond[1][:, None, :]


def _slab(image: Image, depth_um: float | None) -> slice:
    planes = image.shape[2]
    if depth_um is None:
        return slice(0, planes)
    thick = min(planes, max(1, round(depth_um / image.voxel_um[0])))
    first = (planes - thick) // 2
    return slice(first, first + thick)


def _project(image: Image, role: str, planes: slice, *, frame: int = 0) -> np.ndarray:
    y, x = image.shape[3:]
    return image.read(role, frame=frame, box=(planes, slice(0, y), slice(0, x))).max(axis=0)


def _shown(values: np.ndarray, intensities: Intensities) -> np.ndarray:
    return np.clip((values - intensities.low) / max(intensities.high - intensities.low, 1e-9), 0, 1)


def _show(ax: "Axes | None", seen: np.ndarray, image: Image) -> "Axes":
    """Draw a picture of one voxel a pixel, in true proportion, with a scale bar."""
    height, width = seen.shape
    tall = height * image.voxel_um[1] / (width * image.voxel_um[2])
    ax = bare(
        new_axes(
            ax, size=(6.0 if width < 1.5 * height else 8.5, (6.0 if width < 1.5 * height else 8.5) * tall)
        )
    )
    ax.imshow(seen, cmap="gray", vmin=0, vmax=1, aspect=image.voxel_um[1] / image.voxel_um[2])
    length = nice_length(min(width, height) * image.voxel_um[2])
    scale_bar(ax, length_um=length, per_um=1 / image.voxel_um[2], shape=(height, width))
    return ax
