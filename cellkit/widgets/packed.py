"""Tables for the browser as compact columns: a number or a code a row, not a record a row."""

from typing import Any

import numpy as np
import pandas as pd

EMPTY_CODE = 2**32 - 1  # of a row without a word


def pack_table(table: pd.DataFrame) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Return what `unpackTable` in common.js makes rows of again.

    Parameters
    ----------
    table : DataFrame
        Columns of numbers, of True and False, and of words, all of which may lack a value.

    Returns
    -------
    tuple of list of dict and list of bytes
        Of each column its `name`, and its `words` where it holds words; a buffer for each: numbers as float32
        (NaN where there is none), words as their places in `words`, uint32.
    """
    columns: list[dict[str, Any]] = []
    buffers: list[bytes] = []
    for name in table.columns:
        column = table[name]
        if pd.api.types.is_numeric_dtype(column.dtype):
            columns.append({"name": name})
            buffers.append(column.to_numpy("<f4", na_value=np.nan).tobytes())
        else:
            codes, words = pd.factorize(column)
            columns.append(
                {"name": name, "words": [word if isinstance(word, bool) else str(word) for word in words]}
            )
            buffers.append(np.where(codes < 0, EMPTY_CODE, codes).astype("<u4").tobytes())
    return columns, buffers


def pack_words(words: list[str] | tuple[str, ...], known: list[str]) -> bytes:
    """Return the place of each word among those that are known, a byte each."""
    places = {word: place for place, word in enumerate(known)}
    return bytes(places[word] for word in words)
