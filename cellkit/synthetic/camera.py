"""From what is there to what the camera counts: blur, uneven light, stripes, photons, saturation."""

import numpy as np
from scipy import ndimage

from cellkit.synthetic.paint import Canvas, Place, Rng, knots_every, smooth_field
from cellkit.synthetic.settings import OpticsSettings, VolumeSettings

STEPS_PER_PHOTON = 16
SCATTERED_WIDTHS = 3


def blur(canvas: Canvas, optics: OpticsSettings) -> Canvas:
    """Return the canvas as seen through the point spread function and through scattering tissue.

    A share of the light, which grows with depth, is spread three times as wide: bright cells have halos.
    """
    sigma = np.asarray(optics.psf_um) / np.asarray(canvas.voxel_um)
    share = np.linspace(*optics.scattered, len(canvas.signal), dtype=np.float32)[:, None, None]
    seen = []
    for channel in (canvas.signal, canvas.background):
        sharp = _lean_and_blur(channel, sigma, optics.tilt * canvas.voxel_um[0] / canvas.voxel_um[2])
        wide = ndimage.gaussian_filter(sharp, sigma * SCATTERED_WIDTHS, mode="nearest", truncate=2.5)
        seen.append(sharp + share * (wide - sharp))
    return canvas._replace(signal=seen[0], background=seen[1])


def _lean_and_blur(channel: np.ndarray, sigma: np.ndarray, tilt: float) -> np.ndarray:
    """Blur along an axis that leans `tilt` voxels along x for every plane: shear, blur, shear back."""
    if tilt == 0:
        return ndimage.gaussian_filter(channel, sigma, mode="nearest", truncate=3)
    margin = int(np.ceil(3 * sigma[0] * abs(tilt))) + 2
    padded = np.pad(channel, ((0, 0), (0, 0), (margin, margin)), mode="edge")
    upright = _shear(padded, -tilt)
    leaning = _shear(ndimage.gaussian_filter(upright, sigma, mode="nearest", truncate=3), tilt)
    return leaning[:, :, margin:-margin]


def _shear(channel: np.ndarray, tilt: float) -> np.ndarray:
    """Shift plane after plane along x, `tilt` voxels further each; what leaves on one side comes back."""
    sheared = np.empty_like(channel)
    for z, plane in enumerate(channel):
        whole = int(np.floor(tilt * z))
        part = np.float32(tilt * z - whole)
        sheared[z] = np.roll(plane, whole, axis=1) * (1 - part) + np.roll(plane, whole + 1, axis=1) * part
    return sheared


def illuminate(canvas: Canvas, settings: VolumeSettings, rng: Rng) -> list[Place]:
    """Multiply both channels by shading, stripes, seams and streaks; returns the places of bright streaks."""
    light = _shading(canvas, settings, rng)
    places = _streaks(canvas, light, settings, rng)
    canvas.signal[:] *= light
    canvas.background[:] *= light
    return places


def _shading(canvas: Canvas, settings: VolumeSettings, rng: Rng) -> np.ndarray:
    """Return the light that reaches each voxel: falling to one side, striped along x, stepped at seams."""
    optics, shape = settings.optics, settings.shape
    fall = 1 + np.clip(smooth_field(rng, shape, (1, 2, 2)), -1, 1)
    finest = (settings.voxel_um[0], 2.5 * settings.voxel_um[1], 10 * settings.diameter_um)
    stripes = smooth_field(rng, shape, knots_every(canvas, finest))
    planes = rng.standard_normal((shape[0], 1, 1)).astype(np.float32) / 2
    seam = np.float32(rng.choice([-2.0, 0.0, 2.0])) * (np.arange(shape[2]) < rng.integers(0, shape[2] + 1))
    light = 1 + np.float32(optics.stripes) * (stripes + planes + seam.astype(np.float32))
    return np.maximum(light, np.float32(0.1)) * (1 - np.float32(optics.shading / 2) * fall)


def _streaks(canvas: Canvas, light: np.ndarray, settings: VolumeSettings, rng: Rng) -> list[Place]:
    """Brighten short stripes along the light sheet, which fade behind what refracts it."""
    places = []
    for _ in range(settings.artefacts.streaks):
        z, y, x = (int(rng.integers(side)) for side in settings.shape)
        length = int(settings.diameter_um * rng.uniform(2, 8) / settings.voxel_um[2]) + 1
        strength = settings.artefacts.contrast[1] * rng.uniform(0.05, 0.3)
        fade = np.linspace(2, 0, length, dtype=np.float32)[: settings.shape[2] - x]
        fade = np.float32(strength) * np.minimum(fade, 2 - fade + np.float32(0.2))
        for row, share in ((y - 1, rng.uniform(0, 0.7)), (y, 1.0), (y + 1, rng.uniform(0, 0.7))):
            if 0 <= row < settings.shape[1]:
                light[z, row, x : x + length] += np.float32(share) * fade
        if canvas.tissue[z, y, x] > 0.9:
            at = np.asarray([z, y, x + (len(fade) - 1) / 2]) * np.asarray(canvas.voxel_um)
            places.append(Place(at, settings.diameter_um * 0.5, strength, "stripe"))
    return places


def photograph(level: np.ndarray, photons: float, optics: OpticsSettings, rng: Rng) -> np.ndarray:
    """Return camera counts, uint16, for a noise-free level: photons drawn, amplified, read out and clipped.

    The mean is rounded to a sixteenth of a photon first: a last bit that differs between processors does not
    reach the draw.
    """
    steps = np.rint(level * np.float32(photons * STEPS_PER_PHOTON))
    caught = rng.poisson(np.maximum(steps, 0).astype(np.float64) / STEPS_PER_PHOTON)
    counts = np.float32(optics.gain) * caught.astype(np.float32) + np.float32(optics.offset)
    counts += np.float32(optics.read_noise) * rng.standard_normal(level.shape, dtype=np.float32)
    return np.clip(np.rint(counts), 0, optics.full).astype(np.uint16)
