"""Somas painted on noise, for tests of detection."""

import numpy as np

from cellkit.detect import DetectSettings, find_candidates
from cellkit.images import open_image
from cellkit.match import score_points

VOXEL = (5.0, 2.0, 2.0)
SOMA = 15.0


def paint(shape, places_um, *, voxel_um=VOXEL, diameter_um=SOMA, height=400.0, noise=20.0, seed=0):
    """Return soft-edged balls on a noisy background of 200, as uint16; heights may be one for each."""
    rng = np.random.default_rng(seed)
    axes = [np.arange(n) * v for n, v in zip(shape, voxel_um, strict=True)]
    volume = np.zeros(shape)
    for (z, y, x), high in zip(places_um, np.broadcast_to(height, len(places_um)), strict=True):
        near = [
            np.flatnonzero(abs(axis - at) < 2 * diameter_um) for axis, at in zip(axes, (z, y, x), strict=True)
        ]
        if all(len(n) for n in near):
            grid = np.meshgrid(
                *(axis[n] - at for axis, n, at in zip(axes, near, (z, y, x), strict=True)), indexing="ij"
            )
            ball = high / (1 + np.exp(np.sqrt(sum(g**2 for g in grid)) - diameter_um / 2))
            box = np.ix_(*near)
            volume[box] = np.maximum(volume[box], ball)
    return np.clip(volume + 200 + rng.normal(0, noise, shape), 0, 65535).astype(np.uint16)


def scattered(shape, n, *, apart_um, seed=0, margin_um=0.0, voxel_um=VOXEL):
    """Return up to `n` places in µm, none nearer to another than `apart_um`."""
    rng = np.random.default_rng(seed)
    size = np.multiply(shape, voxel_um)
    places = []
    for place in rng.uniform(margin_um, size - margin_um, (20 * n, 3)):
        if len(places) < n and all(np.linalg.norm(place - other) >= apart_um for other in places):
            places.append(place)
    return np.array(places)


def um(table, voxel_um=VOXEL):
    return table[["z", "y", "x"]].to_numpy() * voxel_um


def found(volume, *, voxel_um=VOXEL, diameter_um=SOMA, **settings):
    image = open_image(volume, voxel_um=voxel_um, name="brain")
    return find_candidates(image, diameter_um=diameter_um, settings=DetectSettings(**settings))


def recall(table, places_um, *, within_um=SOMA / 2, per_place=2, voxel_um=VOXEL):
    return score_points(
        um(table.head(per_place * len(places_um)), voxel_um), places_um, within_um=within_um
    ).recall
