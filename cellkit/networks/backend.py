"""Keras, loaded when it is first needed and without its backend's chatter."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


def load_keras() -> ModuleType:
    """Return Keras; the first call loads it, which takes seconds.

    TensorFlow's libraries write lines about processors and missing GPUs straight to the process's standard
    error, which a notebook shows in red. They are held back, unless loading fails.
    """
    if "keras" in sys.modules:
        return sys.modules["keras"]
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
