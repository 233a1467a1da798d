"""The residual networks of cellfinder 1.10, so that its weights can be loaded."""

from typing import Any

from cellkit.networks.architectures import EMBEDDING
from cellkit.networks.backend import load_keras

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 6, 36, 3)}
CONVOLUTIONS = {21: 18, 37: 34, 53: 50, 104: 101, 149: 152}  # how many a network has, and its depth
DEPTH_AXIS = 3  # of (cube, y, x, z, channel): batch statistics are of planes, not of channels
CUBE = (20, 50, 50)


def build_resnet(depth: int, channels: int = 2) -> Any:
    """Return a 3D residual network as cellfinder builds it, layer by layer, uncompiled.

    Parameters
    ----------
    depth : {18, 34, 50, 101, 152}
        Of 50 on, a block is a bottleneck of three convolutions.
    channels : int
        2 for signal and background, 1 for the signal alone.

    Returns
    -------
    keras.Model
        Cubes (n, z 20, y 50, x 50, channel) to the probabilities (n, 2) of "no cell" and "cell", through the
        layer "embedding". Inside, axes are (y, x, z), as its weights want them.

    References
    ----------
    He et al. 2016, arXiv 1512.03385; Tyson et al. 2021, doi 10.1371/journal.pcbi.1009074.
    """
    keras = load_keras()
    layers = keras.layers

    cubes = layers.Input((*CUBE, channels), name="cubes")
    x = layers.Permute((2, 3, 1, 4))(cubes)
    x = layers.ZeroPadding3D(3)(x)
    x = layers.Conv3D(64, (7, 7, 3), strides=2, use_bias=False)(x)
    x = layers.Activation("relu")(_normalised(x))
    x = layers.MaxPooling3D((3, 3, 2), strides=2)(x)
    for stage, blocks in enumerate(BLOCKS[depth]):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            x = _block(x, 64 * 2**stage, stride, bottleneck=depth >= 50, is_first=block == 0)
    x = layers.GlobalAveragePooling3D(name=EMBEDDING)(x)
    return keras.Model(cubes, layers.Dense(2, activation="softmax")(x), name=f"resnet{depth}")


def _block(x: Any, filters: int, stride: int, *, bottleneck: bool, is_first: bool) -> Any:
    """Return what two or three convolutions make of `x`, plus `x`: projected, in the first block."""
    from keras import layers

    kernels = (1, 3, 1) if bottleneck else (3, 3)
    widths = (filters, filters, 4 * filters) if bottleneck else (filters, filters)
    y = x
    for n, (kernel, width) in enumerate(zip(kernels, widths, strict=True)):
        y = _convolved(y, width, kernel, stride if n == 0 else 1)
        y = _normalised(y)
        if n < len(kernels) - 1:
            y = layers.Activation("relu")(y)
    way_round = _normalised(_convolved(x, widths[-1], 1, stride)) if is_first else x
    return layers.Activation("relu")(layers.Add()([y, way_round]))


def _convolved(x: Any, width: int, kernel: int, stride: int) -> Any:
    from keras import layers

    if kernel > 1:
        x = layers.ZeroPadding3D(kernel // 2)(x)
    return layers.Conv3D(width, kernel, strides=stride, use_bias=False, kernel_initializer="he_normal")(x)


def _normalised(x: Any) -> Any:
    from keras import layers

    return layers.BatchNormalization(axis=DEPTH_AXIS, epsilon=1e-5)(x)


def plan_of(configuration: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return what a Keras configuration says a network computes: layers, their sizes and what feeds each.

    Names, initialisers and trainability are left out, and so is a permutation of the input's axes.
    """
    layers = configuration.get("config", {}).get("layers", [])
    number: dict[str, int] = {}
    plan: list[tuple[Any, ...]] = []
    for layer in layers:
        settings, name = layer.get("config", {}), layer.get("name")
        fed_by = [number.get(source, -1) for source in _sources(layer.get("inbound_nodes", []))]
        if layer.get("class_name") == "Permute":
            number[name] = fed_by[0]
            continue
        number[name] = len(plan)
        said = {key: _plain(settings[key]) for key in COMPUTED if key in settings}
        plan.append((layer.get("class_name"), tuple(sorted(said.items())), tuple(fed_by)))
    return plan


COMPUTED = (
    *("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups", "use_bias", "activation"),
    *("axis", "epsilon", "center", "scale", "pool_size", "data_format", "units", "keepdims"),
)


def _sources(nodes: Any) -> list[str]:
    """Return the names of the layers whose tensors stand in a layer's inbound nodes, in order."""
    if isinstance(nodes, dict):
        if nodes.get("class_name") == "__keras_tensor__":
            return [nodes["config"]["keras_history"][0]]
        nodes = list(nodes.values())
    return [name for node in nodes for name in _sources(node)] if isinstance(nodes, list) else []


def _plain(value: Any) -> Any:
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value
