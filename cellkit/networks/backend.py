"""Keras, loaded when it is first needed and without its backend's chatter."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


def load_keras() -> ModuleType:
    """Return Keras; the first call loads it, which takes seconds.

    On processors the convolutions are oneDNN's, unless TF_ENABLE_ONEDNN_OPTS says otherwise: with AVX2 alone
    they learn half as fast again as TensorFlow's own.

    TensorFlow's libraries write lines about processors and missing GPUs straight to the process's standard
    error, which a notebook shows in red. They are held back, unless loading fails.
    """
    if "keras" in sys.modules:
        return sys.modules["keras"]
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # off by default on processors without AVX-512
    with _held_back_stderr():
        import keras

        keras.ops.zeros(1)
    return keras


@contextmanager
def _held_back_stderr() -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
