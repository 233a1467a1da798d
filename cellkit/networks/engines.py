"""Fast inference: a network as a plain function of cubes, by OpenVINO or by Keras."""

from collections.abc import Callable
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from cellkit.networks.architectures import EMBEDDING
from cellkit.networks.heads import head_of, logits_of
from cellkit.networks.standout import FLOOR, NAME, sampling_weights

ENGINES = ("openvino", "bfloat16", "keras")
BATCH = 64
PROBES = 128
TOLERANCE = 5e-3  # in p, on the probes; half of what may be elsewhere


class Scores(NamedTuple):
    """What a network says of cubes: logits (n,) and embeddings (n, d), float32."""

    logits: np.ndarray
    embeddings: np.ndarray


class Engine(NamedTuple):
    """A compiled network: from cubes (n, z, y, x, channel) to `Scores`; `name` says what runs it."""

    name: str
    run: Callable[[np.ndarray], Scores]

    def __call__(self, cubes: np.ndarray) -> Scores:
        """Return what the network says of cubes."""
        return self.run(cubes)


def compile_engine(
    model: Any, engine: str | None = None, *, line: tuple[float, float] = (1.0, 0.0)
) -> Engine:
    """Return a function from cubes (n, z, y, x, channel) to `Scores`.

    Parameters
    ----------
    model : keras.Model
        With the layer "embedding" before its last, and one logit.
    engine : {"openvino", "bfloat16", "keras"}, optional
        Chosen by itself if not given: OpenVINO where it is installed and knows every layer of the network, in
        bfloat16 where the processor has matrix units for it and `p` stays within 0.005 on made-up cubes. On a
        GPU it is Keras.
    line : tuple of 2 float
        The network's calibration, slope and offset, with which that is checked.

    Raises
    ------
    ValueError
        If there is no such engine, or OpenVINO is asked for and does not know a layer.
    """
    if engine not in {None, *ENGINES}:
        raise ValueError(
            f"An engine must be {', '.join(ENGINES[:-1])} or {ENGINES[-1]}; got {engine!r}. "
            "Leave it out to let cellkit choose."
        )
    strange = [type(layer).__name__ for layer in model.layers if not _translatable(layer)]
    if engine in {"openvino", "bfloat16"} and strange:
        raise ValueError(
            f"With OpenVINO a network may have the plain layers {', '.join(TRANSLATE)}; got {strange[0]}. "
            'Use engine="keras".'
        )
    if engine == "keras" or strange or find_spec("openvino") is None or (engine is None and _has_gpu()):
        return _keras_engine(model)
    if engine == "openvino":
        return _openvino_engine(model, "f32")
    if engine == "bfloat16":
        return _openvino_engine(model, "bf16")
    exact = _openvino_engine(model, "f32")
    if has_matrix_units():
        quick, cubes = _openvino_engine(model, "bf16"), _probes(model.input_shape[1:])
        p, other = (expit(line[0] * run(cubes).logits + line[1]) for run in (exact, quick))
        if np.max(np.abs(p - other)) <= TOLERANCE:
            return quick
    return exact


def _has_gpu() -> bool:
    import keras

    return len(keras.distribution.list_devices("gpu")) > 0


def has_matrix_units(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether the processor multiplies matrices in bfloat16 (AMX); False where it cannot be known.

    Without these units bfloat16 gains little: a sixth on an AVX512-BF16 processor.
    """
    return cpuinfo.exists() and " amx_bf16" in cpuinfo.read_text(errors="replace")


def _probes(shape: tuple[int, ...]) -> np.ndarray:
    """Return cubes of noise with blobs of every contrast and width in their middle, always the same."""
    rng = np.random.default_rng(0)
    axes = [np.linspace(-1, 1, n) for n in shape[:3]]
    far = sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij"))
    contrast, width = rng.uniform(0, 5, PROBES), rng.uniform(0.05, 0.6, PROBES)
    cubes = rng.standard_normal((PROBES, *shape), dtype=np.float32)
    cubes[..., 0] += contrast[:, None, None, None] * np.exp(-far / width[:, None, None, None] ** 2)
    cubes[..., -1] = (rng.random(PROBES) < 0.5)[:, None, None, None]
    return cubes


def mirrored(run: Engine) -> Engine:
    """Return an engine that gives the mean over a cube and its mirror images, at eight times the cost."""

    def mean(cubes: np.ndarray) -> Scores:
        axes = [flip for n in range(4) for flip in combinations((1, 2, 3), n)]
        views = [run(np.ascontiguousarray(np.flip(cubes, flip))) for flip in axes]
        return Scores(*(np.mean(column, axis=0, dtype=np.float32) for column in zip(*views, strict=True)))

    return Engine(f"{run.name}, mirrored", mean)


def _keras_engine(model: Any) -> Engine:
    import keras

    both = keras.Model(model.inputs, [model.output, model.get_layer(EMBEDDING).output])
    both.compile(jit_compile=False)  # XLA's 3D convolutions are ten times slower on CPUs than oneDNN's

    def run(cubes: np.ndarray) -> Scores:
        return _scores(*both.predict_on_batch(cubes), head_of(model))

    return Engine("keras", lambda cubes: _in_batches(run, cubes, model))


def _openvino_engine(model: Any, precision: str) -> Engine:
    import openvino

    compiled = openvino.Core().compile_model(
        translate(model), "CPU", {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    )
    head = head_of(model)

    def run(cubes: np.ndarray) -> Scores:
        return _scores(*compiled([cubes]).to_tuple(), head)

    name = "openvino" if precision == "f32" else "bfloat16"
    return Engine(name, lambda cubes: _in_batches(run, cubes, model))


def _scores(logits: np.ndarray, embeddings: np.ndarray, head: tuple[np.ndarray, float] | None) -> Scores:
    """Return what came; a linear last layer is reckoned here, as it is from embeddings that were kept."""
    return Scores(logits[:, 0] if head is None else logits_of(embeddings, head), embeddings)


def _in_batches(run: Callable[[np.ndarray], Scores], cubes: np.ndarray, model: Any) -> Scores:
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
        and (type(layer).__name__ != "Concatenate" or len(layer.output.shape) == 2)
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


def _standing_out(ops: Any, layer: Any, x: Any) -> Any:
    weights = sampling_weights(layer.input.shape[1:4])
    linear = ops.sinh(ops.slice(x, [0], [2], [1], [1]))
    values = ops.reshape(linear, np.array([BATCH, 2, len(weights)]), False)
    middle = ops.matmul(values, _weights(ops, weights[:, :1]), False, False)
    shell = ops.matmul(values, _weights(ops, weights[:, 1:]), False, False)
    off = ops.subtract(values, shell)
    spread = ops.sqrt(ops.matmul(ops.multiply(off, off), _weights(ops, weights[:, 1:]), False, False))
    height = ops.divide(ops.subtract(middle, shell), ops.add(ops.sqrt(spread), _weights(ops, FLOOR)))
    corner = ops.slice(x, [0, 2, 0, 0, 0], [BATCH, 3, 1, 1, 1], [1] * 5)
    present = ops.reshape(corner, np.array([BATCH, 1]), False)
    curbed = ops.multiply(ops.sign(height), ops.asinh(ops.abs(height)))  # below 0 it loses all in bfloat16
    return ops.concat([ops.squeeze(curbed, np.array([2])), present], 1)


TRANSLATE: dict[str, Callable[..., Any] | None] = {
    "InputLayer": None,
    "Conv3D": _convolution,
    "GroupNormalization": _group_normalisation,
    "Activation": _activated,
    "Add": lambda ops, layer, a, b: ops.add(a, b),
    "AveragePooling3D": _average_pooling,
    "Flatten": _flat,
    "Dense": _dense,
    "Dropout": lambda ops, layer, x: x,
    "Multiply": lambda ops, layer, a, b: ops.multiply(a, b),
    "Concatenate": lambda ops, layer, *parts: ops.concat(list(parts), 1),
    NAME: _standing_out,
}
