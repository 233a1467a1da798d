"""Fast inference: a network as a plain function of cubes, by OpenVINO or by Keras."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from cellkit.networks.architectures import EMBEDDING

ENGINES = ("openvino", "keras")
BATCH = 64


class Scores(NamedTuple):
    """What a network says of cubes: logits (n,) and embeddings (n, d), float32."""

    logits: np.ndarray
    embeddings: np.ndarray


Engine = Callable[[np.ndarray], Scores]


def compile_engine(model: Any, engine: str | None = None) -> Engine:
    """Return a function from cubes (n, z, y, x, channel) to `Scores`.

    Parameters
    ----------
    model : keras.Model
        With the layer "embedding" before its last, and one logit.
    engine : {"openvino", "keras"}, optional
        Chosen by itself if not given: OpenVINO where it is installed and knows every layer of the network.

    Raises
    ------
    ValueError
        If there is no such engine, or OpenVINO is asked for and does not know a layer.
    """
    if engine not in {None, *ENGINES}:
        raise ValueError(
            f"An engine must be {' or '.join(ENGINES)}; got {engine!r}. Leave it out to let cellkit choose."
        )
    strange = [type(layer).__name__ for layer in model.layers if not _translatable(layer)]
    if engine == "openvino" and strange:
        raise ValueError(
            f"With OpenVINO a network may have the plain layers {', '.join(TRANSLATE)}; got {strange[0]}. "
            'Use engine="keras".'
        )
    if engine == "keras" or strange or find_spec("openvino") is None:
        return _keras_engine(model)
    return _openvino_engine(model)


def _keras_engine(model: Any) -> Engine:
    import keras

    both = keras.Model(model.inputs, [model.output, model.get_layer(EMBEDDING).output])
    both.compile(jit_compile=False)  # XLA's 3D convolutions are ten times slower on CPUs than oneDNN's

    def run(cubes: np.ndarray) -> Scores:
        logits, embeddings = both.predict_on_batch(cubes)
        return Scores(logits[:, 0], embeddings)

    return lambda cubes: _in_batches(run, cubes, model)


def _openvino_engine(model: Any) -> Engine:
    import openvino

    compiled = openvino.Core().compile_model(
        translate(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    )

    def run(cubes: np.ndarray) -> Scores:
        logits, embeddings = compiled([cubes]).to_tuple()
        return Scores(logits[:, 0], embeddings)

    return lambda cubes: _in_batches(run, cubes, model)


def _in_batches(run: Engine, cubes: np.ndarray, model: Any) -> Scores:
    """Run batches of one size, the last one filled up, so that no answer hangs on its neighbours."""
    parts = [_embedding_free(model)]
    for start in range(0, len(cubes), BATCH):
        part = np.asarray(cubes[start : start + BATCH], dtype=np.float32)
        full = np.zeros((BATCH, *part.shape[1:]), np.float32)
        full[: len(part)] = part
        scores = run(full)
        parts.append(Scores(scores.logits[: len(part)].copy(), scores.embeddings[: len(part)].copy()))
    return Scores(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _embedding_free(model: Any) -> Scores:
    length = model.get_layer(EMBEDDING).output.shape[-1]
    return Scores(np.empty(0, np.float32), np.empty((0, length), np.float32))


def translate(model: Any) -> Any:
    """Return an `openvino.Model` of a network, layer by layer, with the outputs logit and embedding.

    Converting the traced TensorFlow graph instead gives group normalisations that run eight times slower.
    """
    import openvino
    from openvino import opset14 as ops

    cubes = ops.parameter([BATCH, *model.inputs[0].shape[1:]], np.float32)
    nodes = {id(model.inputs[0]): ops.transpose(cubes, np.array([0, 4, 1, 2, 3]))}
    for layer in model.layers:
        if type(layer).__name__ == "InputLayer":
            continue
        step = layer._inbound_nodes[0]
        given = [nodes[id(tensor)] for tensor in step.input_tensors]
        nodes[id(layer.output)] = TRANSLATE[type(layer).__name__](ops, layer, *given)
    outputs = [nodes[id(model.output)], nodes[id(model.get_layer(EMBEDDING).output)]]
    return openvino.Model(outputs, [cubes], model.name)


def _translatable(layer: Any) -> bool:
    """Tell whether `translate` gives exactly what the layer does."""
    return (
        type(layer).__name__ in TRANSLATE
        and len(layer._inbound_nodes) == 1
        and getattr(getattr(layer, "activation", None), "__name__", "linear") in {"relu", "linear"}
        and getattr(layer, "data_format", "channels_last") == "channels_last"
        and (type(layer).__name__ != "Conv3D" or layer.groups == 1)
        and (type(layer).__name__ != "GroupNormalization" or (layer.center and layer.scale))
    )


def _weights(ops: Any, values: Any) -> Any:
    return ops.constant(np.ascontiguousarray(np.asarray(values), dtype=np.float32))


def _convolution(ops: Any, layer: Any, x: Any) -> Any:
    kernel = _weights(ops, np.transpose(np.asarray(layer.kernel), (4, 3, 0, 1, 2)))
    padding = "same_upper" if layer.padding == "same" else "valid"
    y = ops.convolution(x, kernel, list(layer.strides), [0] * 3, [0] * 3, list(layer.dilation_rate), padding)
    if layer.use_bias:
        y = ops.add(y, _weights(ops, np.reshape(layer.bias, (1, -1, 1, 1, 1))))
    return _activated(ops, layer, y)


def _group_normalisation(ops: Any, layer: Any, x: Any) -> Any:
    gamma, beta = _weights(ops, layer.gamma), _weights(ops, layer.beta)
    return ops.group_normalization(x, gamma, beta, layer.groups, layer.epsilon)


def _average_pooling(ops: Any, layer: Any, x: Any) -> Any:
    padding = "same_upper" if layer.padding == "same" else "valid"
    return ops.avg_pool(
        x, list(layer.strides), [0] * 3, [0] * 3, list(layer.pool_size), True, "floor", padding
    )


def _flat(ops: Any, layer: Any, x: Any) -> Any:
    last = ops.transpose(x, np.array([0, 2, 3, 4, 1]))
    return ops.reshape(last, np.array([BATCH, int(np.prod(layer.input.shape[1:]))]), False)


def _dense(ops: Any, layer: Any, x: Any) -> Any:
    y = ops.matmul(x, _weights(ops, layer.kernel), False, False)
    return _activated(ops, layer, ops.add(y, _weights(ops, layer.bias)))


def _activated(ops: Any, layer: Any, x: Any) -> Any:
    return {"relu": ops.relu, "linear": lambda y: y}[layer.activation.__name__](x)


TRANSLATE: dict[str, Callable[..., Any] | None] = {
    "InputLayer": None,
    "Conv3D": _convolution,
    "GroupNormalization": _group_normalisation,
    "Activation": _activated,
    "Add": lambda ops, layer, a, b: ops.add(a, b),
    "AveragePooling3D": _average_pooling,
    "Flatten": _flat,
    "Dense": _dense,
}
