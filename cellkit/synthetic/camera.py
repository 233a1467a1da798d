"""From what is there to what the camera counts: blur, uneven light, stripes, photons, saturation."""

import numpy as np
from scipy import ndimage

from cellkit.synthetic.paint import Canvas, Place, Rng, knots_every, smooth_field
from cellkit.synthetic.settings import OpticsSettings, VolumeSettings

STEPS_PER_PHOTON = 16


def blur(canvas: Canvas, optics: OpticsSettings) -> Canvas:
    """Return the canvas as seen through the point spread function, which widens with depth."""
    sigma = np.asarray(optics.psf_um) / np.asarray(canvas.voxel_um)
    depth = np.linspace(0, 1, len(canvas.signal), dtype=np.float32)[:, None, None]
    seen = []
    for channel in (canvas.signal, canvas.background):
        shallow = ndimage.gaussian_filter(channel, sigma, mode="nearest", truncate=3)
        if optics.deep_blur > 1:
            deep = ndimage.gaussian_filter(channel, sigma * optics.deep_blur, mode="nearest", truncate=3)
            shallow += depth * (deep - shallow)
        seen.append(shallow)
    return canvas._replace(signal=seen[0], background=seen[1])


def illuminate(canvas: Canvas, settings: VolumeSettings, rng: Rng) -> list[Place]:
    """Multiply both channels by shading, stripes, seams and streaks; returns the places of bright streaks."""
    optics, shape = settings.optics, settings.shape
    light = 1 - np.float32(optics.shading / 2) * (1 + np.clip(smooth_field(rng, shape, (1, 2, 2)), -1, 1))
    if optics.stripes > 0:
        strength = np.float32(optics.stripes)
        finest = (settings.voxel_um[0], 2 * settings.voxel_um[1], 12 * settings.diameter_um)
        stripes = smooth_field(rng, shape, knots_every(canvas, finest))
        planes = rng.standard_normal((shape[0], 1, 1)).astype(np.float32)
        seam = np.arange(shape[2]) < rng.integers(0, shape[2] + 1)
        light *= 1 + strength * (stripes + planes / 2 + rng.choice([-2.0, 0.0, 2.0]) * seam).astype(
            np.float32
        )
        np.maximum(light, np.float32(0.1), out=light)
    places = _streaks(canvas, light, settings, rng)
    canvas.signal[:] *= light
    canvas.background[:] *= light
    return places


def _streaks(canvas: Canvas, light: np.ndarray, settings: VolumeSettings, rng: Rng) -> list[Place]:
    """Short bright stripes along the light sheet, fading downstream of what refracts it."""
    places = []
    for _ in range(settings.artefacts.streaks):
        z, y, x = (int(rng.integers(side)) for side in settings.shape)
        length = int(settings.diameter_um * rng.uniform(1.5, 6) / settings.voxel_um[2]) + 1
        strength = settings.artefacts.contrast[1] * rng.uniform(0.1, 0.4)
        here = light[z, y, x : x + length]
        fade = 1 - np.arange(len(here), dtype=np.float32) / np.float32(length)
        here += np.float32(strength) * fade
        if y + 1 < settings.shape[1]:
            light[z, y + 1, x : x + length] += np.float32(strength * rng.uniform(0.3, 1)) * fade
        if canvas.tissue[z, y, x] > 0.9:
            at = np.asarray([z, y, x + 1]) * np.asarray(canvas.voxel_um)
            places.append(Place(at, settings.diameter_um * 0.5, strength, "stripe"))
    return places


def photograph(level: np.ndarray, photons: float, optics: OpticsSettings, rng: Rng) -> np.ndarray:
    """Return camera counts, uint16, for a noise-free level: photons drawn, amplified, read out and clipped.

    The mean is rounded to a sixteenth of a photon first: a last bit that differs between processors does not
    reach the draw.
    """
    steps = np.rint(level * np.float32(photons * STEPS_PER_PHOTON))
    caught = rng.poisson(np.maximum(steps, 0).astype(np.float64) / STEPS_PER_PHOTON)
    read = optics.offset + optics.read_noise * rng.standard_normal(level.shape, dtype=np.float32)
    counts = np.rint(np.float32(optics.gain) * caught.astype(np.float32) + read.astype(np.float32))
    return np.clip(counts, 0, optics.full).astype(np.uint16)
