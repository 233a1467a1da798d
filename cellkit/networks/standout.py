"""How far what lies in the middle of a cube stands out: a fixed layer that a network need not learn.

Networks taught on few volumes learn what artefacts look like there, and trust it in the next volume. How far
a cell stands out from its surroundings carries over, so it goes to the last layer by a way of its own.
"""

from functools import cache
from typing import Any

import numpy as np

from cellkit.networks.backend import load_keras

NAME = "StandOut"
MODULE = __name__
CENTRE, INNER, OUTER = 0.2 / 3, 0.8 / 3, 0.5  # of the cube's side: 0.2, 0.8 and 1.5 diameters of a cell
FLOOR = 0.5


def sampling_weights(shape: tuple[int, int, int]) -> np.ndarray:
    """Return what the middle and the shell around it take of each voxel, float32 of shape (z * y * x, 2)."""
    axes = [(np.arange(n) + 0.5) / n - 0.5 for n in shape]
    away = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij"))).ravel()
    middle, shell = np.exp(-0.5 * (away / CENTRE) ** 2), ((away > INNER) & (away < OUTER)).astype(float)
    return np.stack([middle / middle.sum(), shell / shell.sum()], axis=1).astype(np.float32)


@cache
def stand_out_layer() -> type:
    """Return the layer's class; loads Keras.

    Cubes (n, z, y, x, 3) become (n, 3): for signal and background
    ``arcsinh((middle - mean of the shell) / (sqrt(deviation of the shell) + 0.5))``, in spreads of the image.
    The root weighs the noise around the place with that of the image, which is 1. A channel that is not
    there gives 0. The third number says whether there is a background, 1 or 0.
    """
    keras = load_keras()
    ops = keras.ops

    class StandOut(keras.layers.Layer):
        """How far the middle of a cube stands out."""

        def call(self, cubes: Any) -> Any:
            """Return (n, 3) of cubes (n, z, y, x, 3)."""
            _, z, y, x, _ = cubes.shape
            weights = ops.convert_to_tensor(sampling_weights((z, y, x)))
            linear = ops.sinh(ops.cast(cubes[..., :2], "float32"))
            values = ops.transpose(ops.reshape(linear, (-1, z * y * x, 2)), (0, 2, 1))
            middle, shell = ops.split(ops.matmul(values, weights), 2, axis=-1)
            spread = ops.sqrt(ops.matmul(ops.square(values - shell), weights[:, 1:]))
            height = ops.arcsinh((middle - shell) / (ops.sqrt(spread) + FLOOR))[..., 0]
            return ops.concatenate([height, ops.cast(cubes[:, 0, 0, 0, 2:], "float32")], axis=-1)

        def compute_output_shape(self, input_shape: tuple) -> tuple:
            """Return the shape of the result."""
            return (input_shape[0], 3)

    StandOut.__module__ = MODULE
    return StandOut
