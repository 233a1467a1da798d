"""Networks as functions: sizes in, uncompiled Keras model out."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from cellkit.networks.backend import load_keras
from cellkit.networks.standout import stand_out_layer

CHANNELS = ("signal", "background", "background present")
EMBEDDING = "embedding"


@dataclass(frozen=True)
class ClassifierSettings:
    """Sizes of the classifier.

    Attributes
    ----------
    stem : int
        Feature channels of the first convolution.
    widths : tuple of int
        Feature channels of the residual blocks, multiples of `groups`; the first two halve the resolution.
    embedding : int
        Length of the vector that the last layer sees.
    groups : int
        Groups of the group normalisation; 0 normalises by batch, as other programs do.
    dropout : float
        How often, in training, the last layer sees nothing but how far the middle stands out.
    seed : int
        Of the initial weights.
    """

    stem: int = 24
    widths: tuple[int, ...] = (48, 80, 80)
    embedding: int = 64
    groups: int = 8
    dropout: float = 0.3
    seed: int = 0


def build_classifier(
    shape: tuple[int, int, int, int] = (12, 24, 24, len(CHANNELS)),
    settings: ClassifierSettings = ClassifierSettings(),
) -> Any:
    """Return a residual 3D network that gives one logit per cube.

    Parameters
    ----------
    shape : tuple of 4 int
        Cube's voxels along z, y, x and its channels.
    settings : ClassifierSettings
        Sizes.

    Returns
    -------
    keras.Model
        Uncompiled: cubes (n, z, y, x, channel) to logits (n, 1), through the layer "embedding". Group
        normalisation, since batch statistics are wrong in a short retraining; never on the way round a block
        nor in the first layer, since it divides by the contrast, which tells cells from noise.

    References
    ----------
    He et al. 2016, arXiv 1603.05027; Wu & He 2018, arXiv 1803.08494.
    """
    keras = load_keras()
    layers = keras.layers

    seeds = count(1000 * settings.seed)
    inputs = layers.Input(shape, name="cubes")
    x = layers.Activation("relu")(_convolved(inputs, settings.stem, _halving(inputs, keep_z=True), seeds))
    for step, width in enumerate(settings.widths):
        x = residual_block(x, width, _halving(x) if step < 2 else (1, 1, 1), settings.groups, seeds)
    x = layers.Flatten()(x)
    x = layers.Dense(settings.embedding, activation="relu", kernel_initializer=_he(seeds), name="learnt")(x)
    if settings.dropout:
        x = layers.Dropout(settings.dropout, noise_shape=(None, 1), seed=next(seeds))(x)
    stands_out = stand_out_layer()(name="standout")(inputs)
    x = layers.Multiply()([x, _trust(stands_out)])
    x = layers.Concatenate(name=EMBEDDING)([x, stands_out])
    small = keras.initializers.RandomNormal(stddev=0.01, seed=next(seeds))
    logit = layers.Dense(1, kernel_initializer=small, dtype="float32", name="logit")(x)
    return keras.Model(inputs, logit, name="classifier")


def _trust(stands_out: Any) -> Any:
    """Return by what the learnt part is multiplied: 1 until it is set, and never taught."""
    from keras import layers

    return layers.Dense(
        1, kernel_initializer="zeros", bias_initializer="ones", trainable=False, name="trust"
    )(stands_out)


def residual_block(
    x: Any, width: int, strides: tuple[int, int, int], groups: int, seeds: Iterator[int]
) -> Any:
    """Return `x` plus what two convolutions add to it; averaged and widened on the way round them."""
    from keras import layers

    way_round = x
    if max(strides) > 1:
        way_round = layers.AveragePooling3D(strides, padding="same")(way_round)
    if x.shape[-1] != width:
        way_round = layers.Conv3D(width, 1, use_bias=False, kernel_initializer=_he(seeds))(way_round)
    x = layers.Activation("relu")(_normalised(_convolved(x, width, strides, seeds), groups))
    x = _normalised(_convolved(x, width, (1, 1, 1), seeds), groups, gamma_initializer="zeros")
    return layers.Activation("relu")(layers.add([way_round, x]))


def _convolved(x: Any, width: int, strides: tuple[int, int, int], seeds: Iterator[int]) -> Any:
    from keras import layers

    return layers.Conv3D(
        width, 3, strides=strides, padding="same", use_bias=False, kernel_initializer=_he(seeds)
    )(x)


def _normalised(x: Any, groups: int, **keywords: Any) -> Any:
    from keras import layers

    layer = layers.GroupNormalization(groups, **keywords) if groups else layers.BatchNormalization(**keywords)
    return layer(x)


def _he(seeds: Iterator[int]) -> Any:
    import keras

    return keras.initializers.HeNormal(seed=next(seeds))


def _halving(x: Any, *, keep_z: bool = False) -> tuple[int, int, int]:
    """Return the strides that halve the axes of at least four voxels."""
    z, y, x_ = (2 if length >= 4 else 1 for length in x.shape[1:4])
    return (1 if keep_z else z), y, x_
