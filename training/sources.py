"""Where the supplied network's cubes come from: synthetic volumes, and real ones that people annotated.

Nothing of a volume is on two sides, but for real volumes, of which one octant validates: they were joined
of blocks from different places, and candidates within a cube of another octant are left out.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cellkit.cubes import CubeGeometry, cut_cubes
from cellkit.detect import find_candidates
from cellkit.finding.context import with_context
from cellkit.images import Image, open_image
from cellkit.match import match_points
from cellkit.pixels.intensities import measure_intensities
from cellkit.synthetic import make_volume, random_settings
from cellkit.tables import ZYX, positions_um

GEOMETRY = CubeGeometry()
SIDES = ("training", "validation", "test")
PER_CELL = 5
FIXED_UM = 15.0
OCTANT = 100  # real volumes were joined of blocks of so many voxels


@dataclass(frozen=True)
class Recipe:
    """What the network is trained on.

    Attributes
    ----------
    volumes : tuple of 3 int
        Synthetic training, validation and test volumes.
    per_volume : int
        Most candidates of one synthetic volume.
    one_channel : float
        Share of the synthetic volumes whose background channel is left out.
    misjudged : float
        The cell diameter that the person gives is wrong by up to this factor.
    cuts : dict of str to int
        How often the candidates of a real volume are cut, each time with another diameter, by kind; empty for
        synthetic volumes alone.
    left_out : tuple of str
        Real volumes that test: nothing of them is trained on.
    geometry : str
        "scaled": cubes in units of the cell's diameter. "fixed": as if every cell had 15 µm.
    seed : int
        Of everything that is drawn.
    """

    volumes: tuple[int, int, int] = (200, 30, 40)
    per_volume: int = 160
    one_channel: float = 0.35
    misjudged: float = 1.25
    cuts: tuple[tuple[str, int], ...] = (("cfos", 2), ("microglia", 6))
    left_out: tuple[str, ...] = ()
    geometry: str = "scaled"
    seed: int = 0


class Part(NamedTuple):
    """Labelled candidates: one row each, `groups` their volume, `scores` the detector's, and context."""

    cubes: np.ndarray
    targets: np.ndarray
    groups: np.ndarray
    scores: np.ndarray
    crowding: np.ndarray
    prominence: np.ndarray


class Real(NamedTuple):
    """A real volume with annotated centres."""

    kind: str
    name: str
    voxel_um: ZYX
    diameter_um: float
    within_um: float


REAL = tuple(
    Real(kind, name, voxel_um, 10.0, 10.0)
    for kind, names, voxel_um in (
        ("cfos", ("753", "969", "1147"), (6.0, 1.62, 1.62)),
        ("microglia", ("1874", "4923", "6506", "7466"), (1.0, 1.0, 1.0)),
    )
    for name in names
)


def synthetic_part(seed: int, recipe: Recipe, *, as_found: bool) -> Part:
    """Make one volume, find its candidates and cut their cubes.

    `as_found` keeps candidates as the detector gives them; otherwise both classes get an equal chance.
    """
    rng = np.random.default_rng((recipe.seed, seed))
    settings = random_settings(rng)
    volume = make_volume(settings, seed)
    channels = [volume.signal, volume.background]
    roles = ("signal", "background")[: 1 if rng.random() < recipe.one_channel else 2]
    image = open_image(
        np.stack(channels[: len(roles)]), voxel_um=settings.voxel_um, roles=roles,
        name=f"synthetic-{seed}", axes="czyx",
    )  # fmt: skip
    diameter_um = settings.diameter_um * recipe.misjudged ** rng.uniform(-1, 1)
    found = _in_context(find_candidates(image, diameter_um=diameter_um), image, diameter_um)
    found = found.head(PER_CELL * len(volume.cells))
    targets = _targets(found, volume.cells, settings.voxel_um, settings.diameter_um / 2)
    rows = _choose(targets, recipe.per_volume, rng, as_found=as_found)
    return _part(image, found.iloc[rows], targets[rows], _shown_um(diameter_um, recipe))


def real_part(real: Real, folder: Path, recipe: Recipe, *, side: str) -> Part:
    """Find the candidates of a real volume and cut the cubes of one side.

    In training both classes of the candidates are cut several times, with another diameter each time; other
    sides get the candidates as they are found; at most 3,000 validate.
    """
    rng = np.random.default_rng((recipe.seed, REAL.index(real), SIDES.index(side)))
    image = open_image(
        folder / real.kind / f"{real.name}_img.tif", voxel_um=real.voxel_um, roles=("signal",), name=real.name
    )
    true = pd.read_csv(folder / real.kind / f"{real.name}_centres.csv")
    found = _in_context(find_candidates(image, diameter_um=real.diameter_um), image, real.diameter_um)
    targets = _targets(found, true, real.voxel_um, real.within_um)
    rows = np.flatnonzero(_side_of(found, real) == side) if side != "test" else np.arange(len(found))
    if side != "training":
        rows = rows if side == "test" else np.sort(rng.permutation(rows)[:3000])
        return _part(image, found.iloc[rows], targets[rows], _shown_um(real.diameter_um, recipe))
    parts = []
    for _ in range(dict(recipe.cuts)[real.kind]):
        drawn = rows[_likely(targets[rows], rng)]
        diameter_um = _shown_um(real.diameter_um * recipe.misjudged ** rng.uniform(-1, 1), recipe)
        parts.append(_part(image, found.iloc[drawn], targets[drawn], diameter_um))
    return joined(parts)


def _shown_um(diameter_um: float, recipe: Recipe) -> float:
    """Return the diameter in whose units cubes are cut."""
    return diameter_um if recipe.geometry == "scaled" else FIXED_UM


def _targets(found: pd.DataFrame, true: pd.DataFrame, voxel_um: ZYX, within_um: float) -> np.ndarray:
    match = match_points(positions_um(found, voxel_um), positions_um(true, voxel_um), within_um=within_um)
    targets = np.zeros(len(found), np.int8)
    targets[match.found] = 1
    return targets


def _likely(targets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return all rows of cells, and of the others as many as cells twice over: half strong, half any."""
    cells, others = np.flatnonzero(targets == 1), np.flatnonzero(targets == 0)
    wanted = max(len(cells), 150)
    strong = rng.permutation(others[: (PER_CELL - 1) * wanted])[:wanted]
    return np.concatenate([cells, strong, rng.permutation(np.setdiff1d(others, strong))[:wanted]])


def _side_of(found: pd.DataFrame, real: Real) -> np.ndarray:
    """Say which side a candidate is on: one octant validates, and what lies at its faces is on neither."""
    where = found[["z", "y", "x"]].to_numpy() - OCTANT
    margin = 1.5 * real.diameter_um / np.asarray(real.voxel_um)
    inside, outside = (where < -margin).all(axis=1), (where > margin).any(axis=1)
    return np.where(inside, "validation", np.where(outside, "training", "gap"))


def _in_context(found: pd.DataFrame, image: Image, diameter_um: float) -> pd.DataFrame:
    where = {"voxel_um": image.voxel_um, "shape": tuple(image.shape[2:]), "roles": image.roles}
    return with_context(found, found, diameter_um=diameter_um, **where)


def _choose(targets: np.ndarray, most: int, rng: np.random.Generator, *, as_found: bool) -> np.ndarray:
    if as_found:
        return rng.permutation(len(targets))[:most]
    classes = [rng.permutation(np.flatnonzero(targets == value)) for value in (0, 1)]
    return np.concatenate([rows[: most // 2] for rows in classes])


def _part(image: Image, found: pd.DataFrame, targets: np.ndarray, diameter_um: float) -> Part:
    intensities = {role: measure_intensities(image, role) for role in image.roles}
    cubes = cut_cubes(image, found, intensities=intensities, diameter_um=diameter_um, geometry=GEOMETRY)
    return Part(
        cubes.astype(np.float16),
        targets,
        np.full(len(found), image.name),
        found["score"].to_numpy(np.float32),
        found["crowding"].to_numpy(np.float32),
        found["prominence"].to_numpy(np.float32),
    )


def joined(parts: list[Part]) -> Part:
    """Return parts as one."""
    return Part(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def gather(side: str, recipe: Recipe, cache: Path, real: Path | None) -> Part:
    """Return all candidates of one side; volumes that are in the cache are not made again."""
    parts = [_cached(cache / name, make) for name, make in _makers(side, recipe, real)]
    print(f"{side}: {len(parts)} volumes, {sum(len(p.targets) for p in parts)} candidates", flush=True)
    return joined(parts)


def _makers(side: str, recipe: Recipe, real: Path | None) -> Iterator[tuple[str, object]]:
    first = sum(recipe.volumes[: SIDES.index(side)])
    for seed in range(first, first + recipe.volumes[SIDES.index(side)]):
        name = f"{side}-synthetic-{seed}-{recipe.geometry}.npz"
        yield name, lambda seed=seed: synthetic_part(seed, recipe, as_found=side != "training")
    for volume in REAL if real else ():
        if (volume.name in recipe.left_out) == (side == "test") and volume.kind in dict(recipe.cuts):
            cuts = dict(recipe.cuts)[volume.kind]
            name = f"{side}-{volume.kind}-{volume.name}-{cuts}-{recipe.geometry}.npz"
            yield name, lambda volume=volume: real_part(volume, real, recipe, side=side)


def _cached(path: Path, make: object) -> Part:
    if not path.exists():
        part = make()
        np.savez(path.with_suffix(".part.npz"), **part._asdict())
        os.replace(path.with_suffix(".part.npz"), path)
    with np.load(path) as kept:
        return Part(**kept)
