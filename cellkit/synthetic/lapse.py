"""Time lapses of nuclei that wander, push one another aside and divide; every track and parent is known."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd

from cellkit.synthetic.camera import blur, photograph
from cellkit.synthetic.paint import Canvas, Rng, box_around, draw, edge_um, random_direction, soft_step
from cellkit.synthetic.settings import OpticsSettings, Range, Shape
from cellkit.tables import ZYX

NO_PARENT = -1
ROUNDING = 2
TRUTH_COLUMNS = ["frame", "z", "y", "x", "diameter_um", "brightness", "track", "parent", "dividing"]


@dataclass(frozen=True)
class LapseSettings:
    """A small embryo under a light-sheet microscope.

    Attributes
    ----------
    frames : int
        How many.
    shape : tuple of 3 int
        Voxels of a frame along z, y, x.
    voxel_um : tuple of 3 float
        Voxel size along z, y, x.
    nuclei : int
        How many there are in the first frame.
    diameter_um : tuple of 2 float
        Smallest and largest nucleus.
    speed_um : float
        Standard deviation of a nucleus' step along each axis, from one frame to the next.
    cycle : tuple of 2 float
        Shortest and longest life of a nucleus, in frames, from division to division.
    contrast : tuple of 2 float
        Faintest and brightest nucleus, in multiples of the medium's level.
    optics : OpticsSettings
        Microscope and camera.
    """

    frames: int = 20
    shape: Shape = (24, 96, 96)
    voxel_um: ZYX = (2.0, 1.0, 1.0)
    nuclei: int = 8
    diameter_um: Range = (9.0, 13.0)
    speed_um: float = 0.8
    cycle: Range = (9.0, 16.0)
    contrast: Range = (4.0, 12.0)
    optics: OpticsSettings = field(
        default_factory=lambda: OpticsSettings(psf_um=(1.6, 0.7, 0.7), scattered=(0.1, 0.3), photons=8)
    )


class Lapse(NamedTuple):
    """Frames, uint16 of shape (t, z, y, x), and the truth: one row a nucleus and frame, in voxels."""

    frames: np.ndarray
    truth: pd.DataFrame
    settings: LapseSettings


class Nucleus(NamedTuple):
    """One nucleus at one time: position and step in µm, and how many frames are left until it divides."""

    track: int
    parent: int
    at_um: np.ndarray
    step_um: np.ndarray
    diameter_um: float
    brightness: float
    axis: np.ndarray
    age: int
    left: int


def make_lapse(settings: LapseSettings | None = None, *, seed: int) -> Lapse:
    """Make a time lapse.

    Parameters
    ----------
    settings : LapseSettings, optional
        What moves and how it is seen; ``LapseSettings()`` where it is left out.
    seed : int
        The same settings and seed make the same voxels.

    Returns
    -------
    Lapse
        `truth` has the columns `frame, z, y, x` (voxels), `diameter_um`, `brightness`, `track`, `parent` (the
        track that divided, -1 for none) and `dividing` (True in a mother's last two frames, when it is small,
        bright and long). A division ends the mother's track and begins two; what leaves the volume ends.
    """
    settings = settings or LapseSettings()
    motion, camera = np.random.default_rng(seed).spawn(2)
    alive = _first_nuclei(settings, motion)
    frames, rows, tracks = [], [], len(alive)
    for frame in range(settings.frames):
        frames.append(_photograph(alive, settings, camera))
        rows += [_row(frame, nucleus, settings) for nucleus in alive]
        alive, tracks = _next_frame(alive, tracks, settings, motion)
    return Lapse(np.stack(frames), pd.DataFrame(rows, columns=TRUTH_COLUMNS), settings)


def _first_nuclei(settings: LapseSettings, rng: Rng) -> list[Nucleus]:
    """Place nuclei in the middle of the volume, none inside another."""
    extent = np.asarray(settings.shape) * settings.voxel_um
    alive: list[Nucleus] = []
    for _ in range(200 * settings.nuclei):
        if len(alive) == settings.nuclei:
            break
        diameter = rng.uniform(*settings.diameter_um)
        at = rng.uniform(0.5 * diameter, extent - 0.5 * diameter)
        if all(((at - other.at_um) ** 2).sum() > diameter * other.diameter_um for other in alive):
            left = int(rng.integers(1, round(settings.cycle[1])))
            alive.append(
                _newborn(len(alive), NO_PARENT, at, diameter, rng, settings)._replace(left=left, age=ROUNDING)
            )
    return alive


def _newborn(
    track: int, parent: int, at_um: np.ndarray, diameter_um: float, rng: Rng, settings: LapseSettings
) -> Nucleus:
    return Nucleus(
        track,
        parent,
        at_um,
        np.zeros(3),
        diameter_um,
        draw(rng, settings.contrast),
        random_direction(rng),
        age=0,
        left=int(rng.integers(round(settings.cycle[0]), round(settings.cycle[1]) + 1)),
    )


def _next_frame(
    alive: list[Nucleus], tracks: int, settings: LapseSettings, rng: Rng
) -> tuple[list[Nucleus], int]:
    """Move all nuclei on by one frame; returns them and how many tracks there have been."""
    after: list[Nucleus] = []
    for nucleus, push in zip(alive, _pushes(alive), strict=True):
        step = 0.6 * nucleus.step_um + settings.speed_um * 0.8 * rng.standard_normal(3) + push
        if nucleus.left > 0:
            older = nucleus._replace(age=nucleus.age + 1, left=nucleus.left - 1)
            after.append(older._replace(at_um=nucleus.at_um + step, step_um=step))
        else:
            after += _divide(nucleus, tracks, settings, rng)
            tracks += 2
    low, high = -0.5 * np.asarray(settings.voxel_um), (np.asarray(settings.shape) - 0.5) * settings.voxel_um
    return [n for n in after if (n.at_um >= low).all() and (n.at_um < high).all()], tracks


def _divide(mother: Nucleus, track: int, settings: LapseSettings, rng: Rng) -> list[Nucleus]:
    """Return two daughters on the mother's axis, which move apart; their tracks are `track` and the next."""
    daughters = []
    for number, side in enumerate((-1, 1)):
        at = mother.at_um + side * 0.45 * mother.diameter_um * mother.axis
        diameter = float(np.clip(mother.diameter_um * rng.uniform(0.85, 1.0), *settings.diameter_um))
        born = _newborn(track + number, mother.track, at, diameter, rng, settings)
        born = born._replace(brightness=mother.brightness * rng.uniform(0.8, 1.1), axis=mother.axis)
        daughters.append(born._replace(step_um=side * mother.axis))
    return daughters


def _pushes(alive: list[Nucleus]) -> np.ndarray:
    """Return how far each nucleus is pushed by those that it overlaps, in µm, shape (n, 3)."""
    if not alive:
        return np.zeros((0, 3))
    at, size = np.stack([n.at_um for n in alive]), np.asarray([n.diameter_um for n in alive])
    apart = at[:, None] - at[None]
    distance = np.sqrt((apart * apart).sum(axis=2)) + 1e-9
    overlap = np.maximum(0, (size[:, None] + size[None]) / 2 - distance)
    np.fill_diagonal(overlap, 0)
    return np.einsum("ij,ijk->ik", 0.4 * overlap / distance, apart)


def _shape_of(nucleus: Nucleus) -> tuple[float, float, float]:
    """Return length over width, diameter over the usual one, and brightness over the usual one."""
    if nucleus.left < ROUNDING:
        return 1.9, 0.8, 1.6
    if nucleus.age < ROUNDING:
        return 0.7, 0.8, 1.4
    return 1.1, 1.0, 1.0


def _photograph(alive: list[Nucleus], settings: LapseSettings, rng: Rng) -> np.ndarray:
    """Paint the nuclei into an even medium and take the picture, uint16 of shape (z, y, x)."""
    medium = np.ones(settings.shape, np.float32)
    canvas = Canvas(medium, np.zeros_like(medium), medium, settings.voxel_um)
    for nucleus in alive:
        _paint_nucleus(canvas, nucleus, rng)
    seen = blur(canvas, settings.optics)
    return photograph(seen.signal, settings.optics.photons, settings.optics, rng)


def _paint_nucleus(canvas: Canvas, nucleus: Nucleus, rng: Rng) -> None:
    """Paint a grainy ellipsoid along the nucleus' axis: condensed and long in division, flat just after."""
    longer, larger, brighter = _shape_of(nucleus)
    radius = nucleus.diameter_um * larger / 2
    around = box_around(canvas, nucleus.at_um, 2 * radius)
    if around is None:
        return
    box, (z, y, x) = around
    dz, dy, dx = nucleus.axis.astype(np.float32)
    along = z * dz + y * dy + x * dx
    across = z * z + y * y + x * x - along * along
    from_centre = np.sqrt(np.maximum(across, 0) * np.float32(longer) + along * along / np.float32(longer**2))
    shape = soft_step((np.float32(radius) - from_centre) / edge_um(canvas, (z, y, x)))
    shape = shape * (1 + np.float32(0.25) * rng.standard_normal(shape.shape, dtype=np.float32))
    canvas.signal[box] += np.float32(nucleus.brightness * brighter) * shape


def _row(frame: int, nucleus: Nucleus, settings: LapseSettings) -> tuple[float, ...]:
    """Return what the truth says of one nucleus in one frame, in the order of TRUTH_COLUMNS."""
    z, y, x = (nucleus.at_um / np.asarray(settings.voxel_um)).round(3).tolist()
    seen = round(nucleus.diameter_um, 3), round(nucleus.brightness, 3)
    return frame, z, y, x, *seen, nucleus.track, nucleus.parent, nucleus.left < ROUNDING
