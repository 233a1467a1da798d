"""How bright an image is and how strong its noise: measured once per image and channel, for all its cubes."""

from dataclasses import asdict, dataclass

import numpy as np

from cellkit.pixels.blocks import Readable

BLOCKS, BLOCK_SIDE = 64, 256
TILES, TILE = 4096, 16
TEXTURED, SMOOTH = 0.9, 0.1  # a tile is smooth beside the most textured tenth, with a tenth of its texture
DARK, BRIGHT = 0.1, 0.9  # of the voxels of a tile


@dataclass(frozen=True)
class Intensities:
    """How bright one channel of one image is: measured once, never per cube.

    Attributes
    ----------
    centre : float
        Level of the tissue without cells.
    spread : float
        Robust standard deviation within small tiles of tissue: noise and fine texture, above zero.
    low, high : float
        Limits between which the channel is shown on a screen.
    """

    centre: float
    spread: float
    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse what cannot normalise an image."""
        values = (self.centre, self.spread, self.low, self.high)
        if not np.isfinite(values).all() or self.spread <= 0 or self.low > self.high:
            raise ValueError(
                "Intensities need finite numbers, a spread above zero and low <= high; got "
                f"centre {self.centre:g}, spread {self.spread:g}, low {self.low:g}, high {self.high:g}. "
                "Measure them again with `measure_intensities`."
            )

    def as_dict(self) -> dict[str, float]:
        """Return the four numbers, for JSON; `Intensities(**them)` is the way back."""
        return asdict(self)


def normalise(values: np.ndarray, intensities: Intensities) -> np.ndarray:
    """Return ``arcsinh((values - centre) / spread)`` as float32, of any shape.

    Linear near the background, logarithmic far above it; the same for ``values * 3 + 100``.
    """
    scaled = np.asarray(np.subtract(values, np.float32(intensities.centre), dtype=np.float32))
    scaled /= np.float32(intensities.spread)
    return np.arcsinh(scaled, out=scaled)


def measure_intensities(image: Readable, role: str, *, seed: int = 0) -> Intensities:
    """Measure the background's level and noise in the tissue of one channel, from a sample of small tiles.

    Up to 64 blocks of single planes, spread evenly over frames and depth, give up to 4096 tiles of 16 x 16
    voxels. A tile counts by its texture, so that padding counts nothing. Nor does empty space around a
    specimen, even if it fills most of the image: its texture is a tenth of that of the most textured tiles or
    less, and even the darkest parts of the others are brighter; between cells that crowd it is as dark as
    where there are none. The centre is the median over all; the spread is the median over the tiles of 1.4826
    times the median absolute deviation within a tile, so that neither slow changes of the background matter
    nor cells that crowd less than two fifths of the tiles. Without noise in most of the tissue, it is the
    standard deviation around the centre.

    Parameters
    ----------
    role : str
        "signal" or "background".
    seed : int
        Chooses blocks and tiles; an image that is small enough is taken whole.

    Returns
    -------
    Intensities
        `low` and `high` are the percentiles 1 and 99.8.

    Raises
    ------
    ValueError
        If all voxels that were sampled have one value.
    """
    tiles = _sample(image, role, np.random.default_rng(seed))
    texture = _texture(tiles)
    values, weights = tiles.ravel(), np.repeat(texture, tiles.shape[1])
    centre, low, high = _quantiles(values, weights, (0.5, 0.01, 0.998))
    spread = 1.4826 * _quantiles(_deviation(tiles), texture, (0.5,))[0]
    if spread == 0:
        spread = float(np.sqrt(np.average((values - centre) ** 2, weights=weights)))
    if spread == 0:
        raise ValueError(
            f"A channel needs more than one value to be normalised; the {role} channel is {values[0]:g} "
            "everywhere (spread 0). Is it the right channel, and was it exported whole?"
        )
    return Intensities(centre, spread, low, high)


def _sample(image: Readable, role: str, rng: np.random.Generator) -> np.ndarray:
    """Return tiles of the image, float64 of shape (tiles, voxels), from evenly spread blocks of one plane."""
    frames, _, planes, height, width = image.shape
    sides = [
        min(n, -(-BLOCK_SIDE // chunk) * chunk)
        for chunk, n in zip(image.chunk[1:], (height, width), strict=True)
    ]
    grid = (frames, planes, -(-height // sides[0]), -(-width // sides[1]))
    number = int(np.prod(grid))
    taken = min(number, BLOCKS)
    chosen = ((np.arange(taken) + rng.random(taken)) * number / taken).astype(np.int64)
    tiles = []
    for t, z, i, j in zip(*np.unravel_index(chosen, grid), strict=True):
        y, x = (
            slice(int(max(0, min(k * side, n - side))), int(min(k * side, n - side) + side))
            for k, side, n in zip((i, j), sides, (height, width), strict=True)
        )
        block = image.read(role, frame=int(t), box=(slice(int(z), int(z) + 1), y, x))[0]
        cut = _tiled(block)
        tiles.append(cut[np.sort(rng.permutation(len(cut))[: -(-TILES // taken)])])
    return np.concatenate(tiles).astype(np.float64)


def _tiled(plane: np.ndarray) -> np.ndarray:
    """Cut a plane into tiles, shape (tiles, voxels); what is left over at the far edges is dropped."""
    height, width = (min(TILE, n) for n in plane.shape)
    rows, columns = plane.shape[0] // height, plane.shape[1] // width
    cut = plane[: rows * height, : columns * width].reshape(rows, height, columns, width)
    return cut.swapaxes(1, 2).reshape(rows * columns, height * width)


def _texture(tiles: np.ndarray) -> np.ndarray:
    """Return the mean absolute deviation in each tile of tissue, 0 elsewhere; ones if all are of one value.

    It is limited to that of the tile at three fifths of the varied ones, so that crowded cells do not count
    more than tissue.
    """
    texture = np.abs(tiles - np.median(tiles, axis=1, keepdims=True)).mean(axis=1)
    if not texture.any():
        return np.ones(len(tiles))
    texture[_empty(tiles, texture)] = 0
    return np.minimum(texture, np.quantile(texture[texture > 0], 0.6))


def _empty(tiles: np.ndarray, texture: np.ndarray) -> np.ndarray:
    """Tell which tiles are empty space: smooth ones, if the others are brighter all over."""
    smooth = texture < SMOOTH * np.quantile(texture, TEXTURED)
    varied = tiles[smooth & (texture > 0)]
    if not len(varied):
        return smooth
    empty, rough = np.quantile(varied, BRIGHT, axis=1), np.quantile(tiles[~smooth], DARK, axis=1)
    return smooth & (np.median(rough) > np.median(empty))


def _deviation(tiles: np.ndarray) -> np.ndarray:
    """Return the median absolute deviation within each tile."""
    return np.median(np.abs(tiles - np.median(tiles, axis=1, keepdims=True)), axis=1)


def _quantiles(values: np.ndarray, weights: np.ndarray, shares: tuple[float, ...]) -> list[float]:
    """Return the values below which these shares of the weight lie."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    at = np.searchsorted(reached, np.asarray(shares) * reached[-1])
    return [float(value) for value in values[order][np.minimum(at, len(values) - 1)]]
