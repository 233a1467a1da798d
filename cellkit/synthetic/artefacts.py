"""What a detector picks up and is no cell: autofluorescence, debris, haze, fibres and precipitates."""

import numpy as np

from cellkit.synthetic.paint import (
    Canvas,
    Place,
    Rng,
    add,
    ball,
    box_around,
    draw,
    random_direction,
    smooth_field,
)
from cellkit.synthetic.settings import VolumeSettings
from cellkit.synthetic.somas import in_tissue


def paint_artefacts(canvas: Canvas, settings: VolumeSettings, rng: Rng, *, cells: list[Place]) -> list[Place]:
    """Paint all artefacts, clear of the cells' centres; returns the places where they lie."""
    taken = np.asarray([p.at_um for p in cells]).reshape(-1, 3)
    counts, places = settings.artefacts, []
    for kind, n in (
        (_autofluorescence, counts.autofluorescent),
        (_debris, counts.debris),
        (_haze, counts.haze),
        (_fibre, counts.fibres),
        (_precipitate, counts.precipitates),
    ):
        for _ in range(n):
            centre = _free_place(canvas, settings, rng, taken)
            if centre is not None:
                places += kind(canvas, centre, settings, rng)
    return places


def _free_place(canvas: Canvas, settings: VolumeSettings, rng: Rng, taken: np.ndarray) -> np.ndarray | None:
    """Return a place in the tissue one diameter or more from every taken one; None if none is found."""
    for _ in range(20):
        centre = rng.uniform(-0.5, np.asarray(canvas.signal.shape) - 0.5) * canvas.voxel_um
        away = taken - centre
        far = ((away * away).sum(axis=1) > settings.diameter_um**2).all()
        if far and in_tissue(canvas, centre):
            return centre
    return None


def _autofluorescence(canvas: Canvas, centre: np.ndarray, settings: VolumeSettings, rng: Rng) -> list[Place]:
    """Paint a blob of soma size or smaller, or a heap of granules, in both channels."""
    contrast, diameter = draw(rng, settings.artefacts.contrast), settings.diameter_um * draw(rng, (0.4, 1.2))
    share = draw(rng, settings.artefacts.in_background)
    if rng.uniform() < 0.5:
        for _ in range(int(rng.integers(3, 9))):
            granule = centre + 0.35 * diameter * random_direction(rng)
            radius = diameter * rng.uniform(0.12, 0.25)
            _paint_ball(canvas, granule, radius, contrast=1.5 * contrast, share=share)
    else:
        lobe = rng.uniform(0.05, 0.2) * diameter * random_direction(rng)
        for side, radius in ((1, rng.uniform(0.3, 0.45)), (-1, rng.uniform(0.3, 0.45))):
            _paint_ball(canvas, centre + side * lobe, radius * diameter, contrast=contrast / 2, share=share)
    return [Place(centre, diameter, contrast, "autofluorescence")]


def _paint_ball(canvas: Canvas, centre: np.ndarray, radius: float, *, contrast: float, share: float) -> None:
    around = box_around(canvas, centre, radius + 2 * max(canvas.voxel_um))
    if around is not None:
        box, grid = around
        shape = ball(canvas, grid, radius)
        add(canvas, box, shape, signal=contrast, background=contrast * share)


def _debris(canvas: Canvas, centre: np.ndarray, settings: VolumeSettings, rng: Rng) -> list[Place]:
    """Paint a very bright, ragged crumb: lumps along a random walk, from a single speck of dust upwards."""
    contrast, share = settings.artefacts.contrast[1] * draw(rng, (2.0, 20.0)), draw(rng, (0.1, 1.0))
    at, lumps = centre.copy(), int(draw(rng, (1.0, 16.0)))
    flat = np.asarray([0.4, 1.0, 1.0])
    for _ in range(lumps):
        radius = settings.diameter_um * rng.uniform(0.08, 0.25)
        _paint_ball(canvas, at, radius, contrast=contrast, share=share)
        at = at + 1.2 * radius * flat * random_direction(rng)
    return [Place(centre, settings.diameter_um * 0.3 * lumps**0.5, contrast, "debris")]


def _haze(canvas: Canvas, centre: np.ndarray, settings: VolumeSettings, rng: Rng) -> list[Place]:
    """Paint the light of something far out of focus: a wide, faint cloud."""
    contrast = 0.4 * draw(rng, settings.artefacts.contrast)
    diameter = settings.diameter_um * rng.uniform(1.3, 3)
    around = box_around(canvas, centre, 0.75 * diameter)
    if around is not None:
        box, grid = around
        z, y, x = grid
        fall = np.maximum(1 - (z * z + y * y + x * x) / np.float32((0.75 * diameter) ** 2), 0)
        share = draw(rng, settings.artefacts.in_background)
        add(canvas, box, fall * fall * fall, signal=contrast, background=contrast * share)
    return [Place(centre, diameter, contrast, "haze")]


def _fibre(canvas: Canvas, centre: np.ndarray, settings: VolumeSettings, rng: Rng) -> list[Place]:
    """Paint a neurite: a thin bent line with swellings, which a detector takes for small cells."""
    diameter = settings.diameter_um
    step = 0.5 * min(canvas.voxel_um)
    n = max(2, int(diameter * draw(rng, (3.0, 20.0)) / step))
    heading = random_direction(rng) + 0.8 * _bends(rng, n, step, 4 * diameter)
    heading /= np.sqrt((heading * heading).sum(axis=1, keepdims=True))
    path = centre + np.cumsum(heading * step, axis=0)
    radius, contrast = diameter * rng.uniform(0.06, 0.13), draw(rng, settings.artefacts.contrast)
    _deposit(canvas, path, contrast * 3.1 * radius**2 * step, share=draw(rng, (0.05, 0.6)))
    places = []
    for at in path[rng.random(n) < step / (4 * diameter)]:
        if in_tissue(canvas, at):
            _paint_ball(canvas, at, radius * rng.uniform(1.8, 3.5), contrast=contrast, share=0.2)
            places.append(Place(at, 5 * radius, contrast, "fibre"))
    return places


def _precipitate(canvas: Canvas, centre: np.ndarray, settings: VolumeSettings, rng: Rng) -> list[Place]:
    """Paint a heap of antibody: as large and as bright as a soma, in the signal alone, but of grains."""
    contrast = draw(rng, settings.somas.contrast)
    diameter = draw(rng, settings.somas.diameter_um)
    for _ in range(int(rng.integers(10, 18))):
        grain = centre + 0.45 * diameter * rng.uniform(0.6, 1.2) * random_direction(rng)
        _paint_ball(canvas, grain, diameter * rng.uniform(0.13, 0.2), contrast=2.2 * contrast, share=0.03)
    return [Place(centre, diameter, contrast, "precipitate")]


def _bends(rng: Rng, n: int, step: float, every_um: float) -> np.ndarray:
    knots = max(1, int(n * step / every_um))
    return np.stack([smooth_field(rng, (n, 1, 1), (knots, 1, 1)).ravel() for _ in range(3)], axis=1)


def _deposit(canvas: Canvas, path: np.ndarray, light_um3: float, *, share: float) -> None:
    """Add the same amount of light at every point of a path, shared among the eight voxels around it."""
    at = path / np.asarray(canvas.voxel_um)
    corner = np.floor(at).astype(np.int64)
    part = (at - corner).astype(np.float32)
    light = np.float32(light_um3 / np.prod(canvas.voxel_um))
    for shift in np.ndindex(2, 2, 2):
        weight = light * np.abs(1 - np.asarray(shift, np.float32) - part).prod(axis=1)
        index = corner + shift
        inside = ((index >= 0) & (index < canvas.signal.shape)).all(axis=1)
        where = tuple(index[inside].T)
        np.add.at(canvas.signal, where, weight[inside])
        np.add.at(canvas.background, where, np.float32(share) * weight[inside])
