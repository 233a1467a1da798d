"""What lies between the cells: mottled tissue and its edge, unlabelled cells, blood vessels."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cellkit.synthetic.paint import (
    Box,
    Canvas,
    Place,
    Rng,
    draw,
    knots_every,
    random_direction,
    smooth_field,
    soft_step,
)
from cellkit.synthetic.settings import VolumeSettings

SLAB = 16
GAUSSIAN_INTEGRAL = 15.75  # of a unit Gaussian of unit height in three dimensions: (2 pi) ** 1.5


def paint_tissue(settings: VolumeSettings, rng: Rng) -> tuple[Canvas, list[Place]]:
    """Return a canvas of tissue of level 1, with its edge, and the places where the edge is bright."""
    blank = np.zeros(settings.shape, np.float32)
    canvas = Canvas(blank, blank.copy(), blank + 1, settings.voxel_um)
    layers, mottle = np.float32(settings.tissue.layers), np.float32(settings.tissue.mottle)
    large = knots_every(canvas, (12 * settings.diameter_um,) * 3)
    ground = 1 + mottle * _grain(canvas, settings.diameter_um, rng)
    canvas.signal[:] = ground + layers * smooth_field(rng, settings.shape, large)
    canvas.background[:] = ground + layers * smooth_field(rng, settings.shape, large)
    if settings.tissue.unlabelled > 0:
        _darken_unlabelled(canvas, settings, rng)
    places = _cut_edge(canvas, settings, rng) if settings.tissue.outside > 0 else []
    for channel in (canvas.signal, canvas.background):
        np.maximum(channel, np.float32(0.02), out=channel)
    return canvas, places


def _grain(canvas: Canvas, diameter_um: float, rng: Rng) -> np.ndarray:
    """Return noise of about unit variance whose grains are one soma diameter wide."""
    sigma = 0.25 * diameter_um / np.asarray(canvas.voxel_um)
    white = rng.standard_normal(canvas.signal.shape, dtype=np.float32)
    smooth = ndimage.gaussian_filter(white, sigma, truncate=2.5)
    return smooth * np.float32(np.sqrt(np.maximum(1, np.sqrt(4 * np.pi) * sigma).prod()))


def _darken_unlabelled(canvas: Canvas, settings: VolumeSettings, rng: Rng) -> None:
    """Punch soft holes of soma size into both channels."""
    n = int(settings.tissue.unlabelled * canvas.extent_um.prod() / settings.diameter_um**3)
    at = tuple(rng.integers(0, side, n) for side in settings.shape)
    spots = np.zeros(settings.shape, np.float32)
    sigma = np.asarray([0.25 * settings.diameter_um / step for step in settings.voxel_um])
    one = settings.tissue.darkness * GAUSSIAN_INTEGRAL * np.maximum(sigma, 0.4).prod()
    np.add.at(spots, at, (one * rng.uniform(0.3, 1.0, n)).astype(np.float32))
    holes = 1 - np.minimum(ndimage.gaussian_filter(spots, sigma, truncate=2.5), np.float32(0.8))
    canvas.signal[:] *= holes
    canvas.background[:] *= holes


def _cut_edge(canvas: Canvas, settings: VolumeSettings, rng: Rng) -> list[Place]:
    """Darken what lies beyond a bumpy plane, and brighten patches of the rim."""
    diameter = settings.diameter_um
    depth = _depth_below_edge(canvas, settings, rng)
    softness = np.float32(max(settings.voxel_um[1:]) + 0.15 * diameter)
    inside = soft_step(depth / softness)
    canvas.tissue[:] = soft_step((depth - np.float32(0.5 * diameter)) / softness)
    patches = smooth_field(rng, settings.shape, knots_every(canvas, (1.5 * diameter,) * 3))
    width = np.float32(rng.uniform(0.3, 0.8) * diameter)
    bright = np.float32(draw(rng, settings.artefacts.contrast))
    rim = np.maximum(1 - ((depth - width) / width) ** 2, 0) * np.maximum(np.float32(0.3) + patches, 0)
    canvas.signal[:] = canvas.signal * inside + bright * rim
    canvas.background[:] = canvas.background * inside + bright * np.float32(rng.uniform(0.3, 1.2)) * rim
    return _peaks(rim, canvas, diameter, "tissue edge", at_least=0.9)


def _depth_below_edge(canvas: Canvas, settings: VolumeSettings, rng: Rng) -> np.ndarray:
    """Return the depth below the tissue's surface in µm, negative outside."""
    normal = random_direction(rng)
    corners = np.stack(np.meshgrid(*([0.0, side] for side in canvas.extent_um), indexing="ij"), -1) @ normal
    cut = float(corners.min() + settings.tissue.outside * (corners.max() - corners.min()))
    depth = np.full(settings.shape, -cut, np.float32)
    for axis, (n, step) in enumerate(zip(settings.shape, settings.voxel_um, strict=True)):
        along = (np.arange(n) * step * normal[axis]).astype(np.float32)
        depth += along.reshape([-1 if a == axis else 1 for a in range(3)])
    bumps = smooth_field(rng, settings.shape, knots_every(canvas, (8 * settings.diameter_um,) * 3))
    return depth + np.float32(1.5 * settings.diameter_um) * bumps


def _peaks(
    layer: np.ndarray, canvas: Canvas, diameter_um: float, kind: str, *, at_least: float
) -> list[Place]:
    """Return the places where a painted layer is brightest within one diameter."""
    width = [2 * round(diameter_um / step / 2) + 1 for step in canvas.voxel_um]
    highest = (ndimage.maximum_filter(layer, width) == layer) & (layer >= at_least)
    return [
        Place(at * np.asarray(canvas.voxel_um), diameter_um, float(layer[tuple(at)]), kind)
        for at in np.argwhere(highest)
    ]


class Tube(NamedTuple):
    """One slab of a vessel along `axis`: a centre line, shape (n, 3), and radii, shape (n,), in µm."""

    axis: int
    first: int
    path: np.ndarray
    radius: np.ndarray
    patches: np.ndarray
    wall: float
    share: float


def paint_vessels(canvas: Canvas, settings: VolumeSettings, rng: Rng) -> list[Place]:
    """Draw vessels: a dark lumen, and a wall that is bright in patches; returns places along the walls."""
    walls = canvas._replace(signal=np.zeros_like(canvas.signal), background=np.zeros_like(canvas.background))
    for _ in range(settings.tissue.vessels):
        for tube in _vessel(canvas, settings, rng):
            _paint_tube(canvas, walls, tube, settings.diameter_um)
    canvas.signal[:] += walls.signal
    canvas.background[:] += walls.background
    return _peaks(walls.signal, canvas, settings.diameter_um, "vessel wall", at_least=0.4)


def _vessel(canvas: Canvas, settings: VolumeSettings, rng: Rng) -> Iterator[Tube]:
    """Follow a bent line along one axis, slab by slab."""
    diameter, extent = settings.diameter_um, canvas.extent_um
    axis = int(rng.choice(3, p=extent / extent.sum()))
    n = settings.shape[axis]
    bends = max(2, int(extent[axis] / (6 * diameter)))
    line = np.linspace(-0.5, 0.5, n)[:, None] * rng.uniform(-0.6, 0.6, 3) * extent[axis]
    path = rng.uniform(0.05, 0.95, 3) * extent + line + 1.5 * diameter * _wander(rng, n, bends, 3)
    path[:, axis] = np.arange(n) * settings.voxel_um[axis]
    radius = diameter * draw(rng, (0.15, 1.2)) * (1 + 0.15 * _wander(rng, n, 3 * bends, 1)[:, 0])
    patches = _wander(rng, n, max(1, int(extent[axis] / diameter)), 2).astype(np.float32)
    wall, share = draw(rng, settings.tissue.wall), draw(rng, settings.artefacts.in_background)
    for first in range(0, n, SLAB):
        part = slice(first, first + SLAB)
        yield Tube(axis, first, path[part], radius[part], patches[part], wall, share)


def _wander(rng: Rng, n: int, bends: int, columns: int) -> np.ndarray:
    return np.stack([smooth_field(rng, (n, 1, 1), (bends, 1, 1)).ravel() for _ in range(columns)], axis=1)


def _paint_tube(canvas: Canvas, walls: Canvas, tube: Tube, diameter_um: float) -> None:
    thickness = np.float32(0.15 * diameter_um + 0.5 * min(canvas.voxel_um))
    box = _box_along(canvas, tube, float(tube.radius.max() + diameter_um))
    if box is None:
        return
    off, slope = _offsets(canvas, tube, box)
    a, b = (axis for axis in range(3) if axis != tube.axis)
    tilt = (off[a] * slope[a] + off[b] * slope[b]) ** 2 / (1 + slope[a] ** 2 + slope[b] ** 2)
    distance = np.sqrt(off[a] ** 2 + off[b] ** 2 - tilt + np.float32(1e-3))
    radius = _along(tube.radius, tube.axis)
    lumen = 1 - np.float32(0.75) * soft_step((radius - distance) / (2 * thickness))
    canvas.signal[box] *= lumen
    canvas.background[box] *= lumen
    canvas.tissue[box] *= distance > radius + np.float32(0.4 * diameter_um)
    side = (1 + off[a] / distance) / 2
    patch = _along(tube.patches[:, 0], tube.axis) * side + _along(tube.patches[:, 1], tube.axis) * (1 - side)
    wall = np.maximum(1 - ((distance - radius) / thickness) ** 2, 0) * np.maximum(np.float32(0.4) + patch, 0)
    for layer, brightness in ((walls.signal, tube.wall), (walls.background, tube.wall * tube.share)):
        np.maximum(layer[box], np.float32(brightness) * wall, out=layer[box])


def _along(values: np.ndarray, axis: int) -> np.ndarray:
    return values.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])


def _box_along(canvas: Canvas, tube: Tube, reach_um: float) -> Box | None:
    box = []
    for axis, (n, step) in enumerate(zip(canvas.signal.shape, canvas.voxel_um, strict=True)):
        first = max(0, int((tube.path[:, axis].min() - reach_um) / step))
        last = min(n, int((tube.path[:, axis].max() + reach_um) / step) + 1)
        if last <= first:
            return None
        box.append(
            slice(first, last) if axis != tube.axis else slice(tube.first, tube.first + len(tube.path))
        )
    return box[0], box[1], box[2]


def _offsets(canvas: Canvas, tube: Tube, box: Box) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return, along each axis, the distance from the centre line and the line's slope; they broadcast."""
    off, slope = [], []
    for axis, (part, step) in enumerate(zip(box, canvas.voxel_um, strict=True)):
        at = _along(np.arange(part.start, part.stop) * step, axis)
        off.append(at - _along(tube.path[:, axis], tube.axis))
        line = np.diff(tube.path[:, axis], append=tube.path[-1, axis]) / canvas.voxel_um[tube.axis]
        slope.append(_along(line, tube.axis))
    return off, slope
