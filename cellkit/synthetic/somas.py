"""Somas: where they lie, and how each is painted."""

import numpy as np

from cellkit.synthetic.paint import (
    Canvas,
    Grid,
    Place,
    Rng,
    add,
    box_around,
    draw,
    edge_um,
    random_direction,
    soft_step,
    stroke,
)
from cellkit.synthetic.settings import SomaSettings

LARGEST_CLUSTER = 4
MOSTLY_SIDEWAYS = np.asarray([0.4, 1.0, 1.0])  # two somas on top of each other look like one, to people too


def paint_somas(canvas: Canvas, settings: SomaSettings, rng: Rng) -> list[Place]:
    """Place somas in the tissue and paint them; returns one place of kind "cell" for each."""
    centres, radii = place_somas(canvas, settings, rng)
    places = []
    for centre, radius in zip(centres, radii, strict=True):
        contrast = draw(rng, settings.contrast)
        light = (contrast, contrast * settings.bleed)
        paint_soma(canvas, centre, radius, settings=settings, light=light, rng=rng)
        places.append(Place(centre, 2 * radius, contrast, "cell"))
    return places


def place_somas(canvas: Canvas, settings: SomaSettings, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Return centres, shape (n, 3), and radii, shape (n,), in µm: in tissue, never overlapping."""
    centres, radii = np.empty((settings.n, 3)), np.empty(settings.n)
    members = np.zeros(settings.n, np.int64)
    cluster = np.arange(settings.n)
    density = rng.standard_normal((4, 5, 5))
    alone = settings.n - round(settings.clustered * settings.n)
    n = 0
    for _ in range(20 * settings.n):
        if n == settings.n:
            break
        radius, beside = rng.uniform(*settings.diameter_um) / 2, int(rng.integers(max(1, n)))
        if n < alone or n == 0:
            centre = rng.uniform(-0.5, np.asarray(canvas.signal.shape) - 0.5) * canvas.voxel_um
            cell = np.minimum(np.abs(centre) / canvas.extent_um * density.shape, 3.99).astype(int)
            fits, beside = rng.uniform() < 0.5 + settings.layered * density[tuple(cell)], n
        else:
            direction = random_direction(rng) * MOSTLY_SIDEWAYS
            apart = (radius + radii[beside]) * rng.uniform(1.0, 1.25) / np.sqrt((direction**2).sum())
            centre = centres[beside] + apart * direction
            fits = members[cluster[beside]] < LARGEST_CLUSTER
        if fits and in_tissue(canvas, centre) and _is_clear(centre, radius, centres[:n], radii[:n]):
            centres[n], radii[n], cluster[n] = centre, radius, cluster[beside]
            members[cluster[n]] += 1
            n += 1
    return centres[:n], radii[:n]


def in_tissue(canvas: Canvas, centre_um: np.ndarray) -> bool:
    """Say whether a place is inside the volume and inside tissue."""
    at = np.rint(centre_um / np.asarray(canvas.voxel_um)).astype(int)
    if (at < 0).any() or (at >= canvas.tissue.shape).any():
        return False
    return bool(canvas.tissue[tuple(at)] > 0.9)


def _is_clear(centre: np.ndarray, radius: float, centres: np.ndarray, radii: np.ndarray) -> bool:
    away = centres - centre
    touching = (0.95 * (radii + radius)) ** 2
    return bool(((away * away).sum(axis=1) > touching).all())


def paint_soma(
    canvas: Canvas,
    centre: np.ndarray,
    radius: float,
    *,
    settings: SomaSettings,
    light: tuple[float, float],
    rng: Rng,
) -> None:
    """Paint one soma of any shape that the settings allow, with so much light in either channel."""
    around = box_around(canvas, centre, 2.6 * radius)
    if around is None:
        return
    box, grid = around
    from_centre = _distance(grid, radius, settings.irregular, rng)
    edge = edge_um(canvas, grid) / np.float32(radius)
    shape = soft_step((1 - from_centre) / edge)
    if rng.uniform() < settings.hollow:
        nucleus = np.float32(rng.uniform(0.5, 0.75))
        shape = shape - np.float32(rng.uniform(0.4, 0.9)) * soft_step((nucleus - from_centre) / edge)
    shape = shape * (1 + np.float32(0.15) * rng.standard_normal(shape.shape, dtype=np.float32))
    if rng.uniform() < settings.processes:
        for _ in range(int(rng.integers(1, 4))):
            length, width = rng.uniform(1.4, 2.5) * radius, rng.uniform(0.15, 0.4) * radius
            process = stroke(grid, random_direction(rng), length, width)
            shape = np.maximum(shape, np.float32(rng.uniform(0.4, 0.9)) * process)
    add(canvas, box, shape, signal=light[0], background=light[1])


def _distance(grid: Grid, radius: float, irregular: float, rng: Rng) -> np.ndarray:
    """Return the distance from the centre, 1 at the surface of an egg-shaped, dented ellipsoid."""
    z, y, x = grid
    squared = z * z + y * y + x * x
    distance = np.sqrt(squared) / np.float32(radius)
    bulge = np.float32(0)
    for odd in (False, False, True):
        dz, dy, dx = random_direction(rng).astype(np.float32)
        cosine = (z * dz + y * dy + x * dx) / (distance * np.float32(radius) + np.float32(1e-3))
        wave = cosine * cosine - (np.float32(0.6) if odd else np.float32(1 / 3))
        bulge = bulge + np.float32(irregular * rng.uniform(0.3, 1.2)) * (wave * cosine if odd else wave)
    return distance / np.maximum(1 + bulge, np.float32(0.3))
