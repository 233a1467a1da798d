"""Cubes varied as other brains, microscopes and days would vary them, for training."""

from dataclasses import dataclass, fields

import cv2
import numpy as np

PART = 16
NOISE_CUBES = 4
STACKED, UNSTACKED = (0, 2, 3, 1, 4), (0, 3, 1, 2, 4)


@dataclass(frozen=True)
class AugmentSettings:
    """How far cubes are varied; 0 leaves that property as it is.

    Intensities are as `cubes.cut_cubes` gives them: 0 is the local background, the noise's spread about 1.

    Attributes
    ----------
    flip : float
        Probability of mirroring, for each of z, y and x.
    rotation_degrees : float
        Largest rotation in the plane, to either side.
    zoom : float
        Largest relative change of length in the plane: 0.1 gives 1/1.1 to 1.1.
    shift : float
        Largest shift along y and x, in voxels of the cube; fractions count.
    shift_z : float
        Largest shift along z, in planes of the cube; fractions count.
    contrast : float
        Largest relative change of the brightness above the background: 0.4 gives 1/1.4 to 1.4.
    offset : float
        Largest shift of the background level, in spreads.
    gamma : float
        Largest relative change of the exponent of bright intensities.
    darkening : float
        Largest loss from one end of z to the other, as a share.
    blur : float
        Largest share that a voxel gives to each neighbour in a blur along y and x, 0 to 0.3.
    noise : float
        Largest standard deviation of added noise, on every second cube.
    background_dropout : float
        Probability that a cube loses its background channel.
    """

    flip: float = 0.5
    rotation_degrees: float = 180.0
    zoom: float = 0.1
    shift: float = 1.0
    shift_z: float = 0.5
    contrast: float = 0.4
    offset: float = 0.3
    gamma: float = 0.1
    darkening: float = 0.3
    blur: float = 0.25
    noise: float = 0.25
    background_dropout: float = 0.1

    def __post_init__(self) -> None:
        """Refuse ranges below zero and probabilities above one."""
        for field in fields(self):
            value, most = getattr(self, field.name), MOST.get(field.name, np.inf)
            if not 0 <= value <= most:
                raise ValueError(
                    f"`{field.name}` must be from 0 to {most:g}; got {value!r}. "
                    "0 leaves the cubes as they are."
                )

    @classmethod
    def none(cls) -> "AugmentSettings":
        """Return the settings that change nothing."""
        return cls(**{field.name: 0.0 for field in fields(cls)})


MOST = {"flip": 1.0, "background_dropout": 1.0, "blur": 0.3, "darkening": 1.0}


def augment_cubes(cubes: np.ndarray, rng: np.random.Generator, settings: AugmentSettings) -> np.ndarray:
    """Return varied copies of cubes: mirrored, turned, brighter, noisier, without background.

    Parameters
    ----------
    cubes : ndarray of float32, shape (n, z, y, x, 3)
        As `cubes.cut_cubes` gives them; the third channel stays 0 or 1, and where it is 0 so is the second.
    rng : Generator
        The same state gives the same result.

    Returns
    -------
    ndarray of float32, shape (n, z, y, x, 3)
    """
    if cubes.ndim != 5 or cubes.shape[4] != 3:
        raise ValueError(
            f"`cubes` must have axes (n, z, y, x, 3); got shape {cubes.shape}. Cut them with `cut_cubes`."
        )
    varied = np.array(cubes, dtype=np.float32)
    present = (varied[:, 0, 0, 0, 2] != 0) & (rng.random(len(cubes)) >= settings.background_dropout)
    varied[..., 2] = present[:, None, None, None]
    pool = rng.standard_normal(NOISE_CUBES * varied[0, ..., :2].size if len(cubes) else 0, dtype=np.float32)
    for start in range(0, len(cubes), PART):
        part = slice(start, start + PART)
        stacks = np.ascontiguousarray(varied[part, ..., :2].transpose(STACKED))
        _turn(stacks, rng, settings)
        _relight(stacks, rng, settings)
        _blur(stacks, rng, settings)
        _add_noise(stacks, pool, rng, settings)
        stacks[~present[part], ..., 1] = 0
        varied[part, ..., :2] = stacks.transpose(UNSTACKED)
    return varied


def _turn(stacks: np.ndarray, rng: np.random.Generator, settings: AugmentSettings) -> None:
    """Mirror, rotate, zoom and shift, in place; what comes in from outside the cube is mirrored."""
    n, height, width = stacks.shape[:3]
    mirror = np.where(rng.random((n, 3)) < settings.flip, -1, 1)
    angle = np.deg2rad(rng.uniform(-1, 1, n) * settings.rotation_degrees)
    zoom = (1 + settings.zoom) ** rng.uniform(-1, 1, n)
    shift = rng.uniform(-1, 1, (n, 2)) * settings.shift
    z = rng.uniform(-1, 1, (n,)) * settings.shift_z
    moves = (settings.flip, settings.rotation_degrees, settings.zoom, settings.shift, settings.shift_z)
    if not any(moves):
        return
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * zoom
    turn = turn.transpose(2, 0, 1) * mirror[:, None, :0:-1]
    affine = np.concatenate([turn, (centre + shift - turn @ centre)[:, :, None]], axis=2)
    for k, stack in enumerate(stacks):
        upright = _shifted(stack[:, :, :: mirror[k, 0]], z[k])
        turned = cv2.warpAffine(
            np.ascontiguousarray(upright).reshape(height, width, -1),
            affine[k],
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        stack[...] = turned.reshape(stack.shape)


def _shifted(stack: np.ndarray, planes: float) -> np.ndarray:
    """Return a stack (y, x, z, channel) moved along z, interpolated; its outermost planes are repeated."""
    if planes == 0:
        return stack
    last = stack.shape[2] - 1
    at = np.clip(np.arange(last + 1) - planes, 0, last)
    below = at.astype(int)
    share = (at - below).astype(np.float32)[:, None]
    return (1 - share) * stack[:, :, below] + share * stack[:, :, np.minimum(below + 1, last)]


def _relight(stacks: np.ndarray, rng: np.random.Generator, settings: AugmentSettings) -> None:
    """Change brightness, in place: the channels darken with depth alike and vary apart in the rest."""
    n, planes = len(stacks), stacks.shape[3]
    contrast, offset, gamma = rng.uniform(-1, 1, (3, n, 1, 1, 1, 2)).astype(np.float32)
    loss = np.float32(settings.darkening) * rng.random((n, 1, 1, 1, 1), dtype=np.float32)
    if settings.contrast or settings.offset:
        np.exp(stacks, out=stacks)
        stacks -= 1 / stacks
        stacks *= np.float32(0.5) * np.float32(1 + settings.contrast) ** contrast
        stacks += np.float32(settings.offset) * offset
        np.arcsinh(stacks, out=stacks)
    if settings.gamma or settings.darkening:
        depth = np.linspace(0, 1, planes, dtype=np.float32)[:, None]
        stacks *= np.float32(1 + settings.gamma) ** gamma * (1 - loss * depth)


def _blur(stacks: np.ndarray, rng: np.random.Generator, settings: AugmentSettings) -> None:
    """Let each voxel give a share to its neighbours along y and x, in place."""
    share = np.float32(settings.blur) * rng.random((len(stacks), 1, 1, 1, 1), dtype=np.float32)
    if not settings.blur:
        return
    for along in (stacks, stacks.swapaxes(1, 2)):
        flow = np.diff(along, axis=1)
        flow *= share
        along[:, :-1] += flow
        along[:, 1:] -= flow


def _add_noise(
    stacks: np.ndarray, pool: np.ndarray, rng: np.random.Generator, settings: AugmentSettings
) -> None:
    """Add noise to every second cube, in place.

    Each cube takes another stretch of one pool: to draw it anew would take longer than all the rest.
    """
    noisy = rng.random(len(stacks)) < 0.5
    amount = (rng.uniform(-1, 1, len(stacks)) * settings.noise * noisy).astype(np.float32)
    begin = rng.integers(0, len(pool) - stacks[0].size, len(stacks))
    for k in np.flatnonzero(amount):
        stacks[k] += amount[k] * pool[begin[k] : begin[k] + stacks[k].size].reshape(stacks[k].shape)
