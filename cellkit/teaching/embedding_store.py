"""What networks make of candidates before their last layer, kept on disk: another last layer takes seconds.

An image has one file for each body of a network, all layers but the last. A file that is deleted, damaged or
out of date is made anew, so the whole folder may be deleted at any time.
"""

import json
import os
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from cellkit.folder.disk import fingerprint, write_json
from cellkit.folder.neighbourhoods import in_context
from cellkit.networks.engines import Scores
from cellkit.networks.heads import logits_of
from cellkit.networks.predict import calibrated, embed, margins_of, predict, scored
from cellkit.networks.store import Network
from cellkit.study import Study
from cellkit.teaching.cube_store import way_of_cutting
from cellkit.teaching.summaries import FOLDER, summary_of

BODIES = 2  # that of the newest network, and that of the one before or of the supplied one
PART = 4096
AT = ["frame", "z", "y", "x"]
SAME_VOXELS = 1e-6


class _Kept(NamedTuple):
    """A file of float32 (n, d), a row a candidate; a record beside it says what it was made of."""

    path: Path
    made_of: str
    shape: tuple[int, int]

    @property
    def record(self) -> Path:
        return self.path.with_suffix(".json")


class _NotKeptError(Exception):
    """There is no such file, or it is damaged, or was made of something else."""


def call_all(
    study: Study, name: str, network: Network, *, progress: Callable[[int, int], Any] | None = None
) -> np.ndarray:
    """Return the probability of the positive class at all candidates of an image, in their order.

    If a network of the same body has called them before, only the last layer is reckoned, from what was kept
    in `embeddings/`. Else they are cut and run, and kept for the next; those of the last two bodies stay.
    Memory beyond the answers does not grow with the number of candidates.

    Parameters
    ----------
    name : str
        Of the image.
    progress : callable, optional
        Called with (done, all) from time to time.

    Returns
    -------
    ndarray of float64, shape (n,)

    Warns
    -----
    UserWarning
        If embeddings cannot be kept, on a full disk for instance; the probabilities are right all the same.
    """
    candidates, head = in_context(study, study.candidates(name)), summary_of(study, network).head
    context = {**_context(study, name), "progress": progress}
    if head is None:
        return predict(network, study.image(name), candidates, **context)
    kept, logits = _file(study, name, network, candidates), np.empty(len(candidates), np.float32)
    try:
        for start, part in _parts(kept):
            logits[start : start + len(part)] = logits_of(part, head)
    except _NotKeptError:
        told = scored(network, study.image(name), candidates, **context)
        for rows, scores in _keeping(study, kept, told):
            logits[rows] = scores.logits
    if progress is not None:
        progress(len(candidates), len(candidates))
    return calibrated(network, logits, margins_of(network.card, candidates))


def look_once(study: Study, name: str, network: Network) -> None:
    """Keep a network's embeddings of all candidates of an image, unless they are kept already."""
    kept = _file(study, name, network, study.candidates(name))
    try:
        for _ in _parts(kept):
            pass
    except _NotKeptError:
        candidates = in_context(study, study.candidates(name))
        told = scored(network, study.image(name), candidates, progress=None, **_context(study, name))
        for _ in _keeping(study, kept, told):
            pass


def call_places(study: Study, network: Network, places: pd.DataFrame) -> np.ndarray:
    """Return the probability of the positive class at places (`image, frame, z, y, x`), float64 (n,).

    Of candidates whose embeddings are kept it takes no cube.
    """
    places, head = in_context(study, places), summary_of(study, network).head
    if head is not None:
        logits = logits_of(embeddings_at(study, network, places), head)
        return calibrated(network, logits, margins_of(network.card, places))
    p = np.empty(len(places))
    for name, rows in places.groupby("image").indices.items():
        p[rows] = predict(
            network, study.image(str(name)), places.iloc[rows], **_context(study, str(name))
        )  # fmt: skip
    return p


def embeddings_at(study: Study, network: Network, places: pd.DataFrame) -> np.ndarray:
    """Return a network's embeddings of places, float32 (n, d): kept ones of candidates, others made now.

    Parameters
    ----------
    places : DataFrame
        Columns `image, frame, z, y, x`, in voxels.
    """
    found = np.empty((len(places), summary_of(study, network).length), np.float32)
    for name, rows in places.groupby("image").indices.items():
        image, here, candidates = str(name), places.iloc[rows], study.candidates(str(name))
        row_of = _rows_of(here, candidates)
        is_kept = row_of >= 0
        try:
            found[rows[is_kept]] = _picked(_file(study, image, network, candidates), row_of[is_kept])
        except _NotKeptError:
            is_kept[:] = False
        if not is_kept.all():
            rest = here[~is_kept]
            found[rows[~is_kept]] = embed(network, study.image(image), rest, **_context(study, image))[1]
    return found


def _context(study: Study, name: str) -> dict[str, Any]:
    return {"intensities": study.intensities(name), "diameter_um": study.settings.diameter_um}


def _file(study: Study, name: str, network: Network, candidates: pd.DataFrame) -> _Kept:
    known = summary_of(study, network)
    made_of = [way_of_cutting(study, name, network.card), known.engine, fingerprint(candidates[AT])]
    path = study.folder / FOLDER / known.body / f"{name}.float32"
    return _Kept(path, fingerprint(made_of), (len(candidates), known.length))


def _rows_of(places: pd.DataFrame, candidates: pd.DataFrame) -> np.ndarray:
    """Return the row of the candidate at each place, -1 where there is none."""
    tree = KDTree(candidates[AT].to_numpy(np.float64))
    _, row = tree.query(places[AT].to_numpy(np.float64), distance_upper_bound=SAME_VOXELS)
    return np.where(row == len(candidates), -1, row)


def _parts(kept: _Kept) -> Iterator[tuple[int, np.ndarray]]:
    """Yield first row and embeddings, part by part; what came is good only if the end is reached."""
    try:
        record = json.loads(kept.record.read_bytes())
        if record != _record(kept, record["crc32"]):
            raise _NotKeptError
        crc, (n, length) = 0, kept.shape
        with kept.path.open("rb") as file:
            for start in range(0, n, PART):
                data = file.read(4 * length * min(PART, n - start))
                crc = zlib.crc32(data, crc)
                yield start, np.frombuffer(data, "<f4").reshape(-1, length)
        if crc != record["crc32"]:
            raise _NotKeptError
        os.utime(kept.path.parent)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _NotKeptError from error


def _record(kept: _Kept, crc: int) -> dict[str, Any]:
    return {"made_of": kept.made_of, "shape": list(kept.shape), "crc32": crc}


def _picked(kept: _Kept, rows: np.ndarray) -> np.ndarray:
    found = np.empty((len(rows), kept.shape[1]), np.float32)
    for start, part in _parts(kept) if len(rows) else ():
        here = (rows >= start) & (rows < start + len(part))
        found[here] = part[rows[here] - start]
    return found


def _keeping(
    study: Study, kept: _Kept, told: Iterable[tuple[np.ndarray, Scores]]
) -> Iterator[tuple[np.ndarray, Scores]]:
    """Yield what a network says of all candidates, and write the embeddings to a file meanwhile."""
    part = kept.path.with_name(f".{kept.path.name}.{os.getpid()}.part")
    failure = _failure(partial(_begin, kept, part))
    try:
        for rows, scores in told:
            failure = failure or _failure(partial(_write, part, rows, scores.embeddings))
            yield rows, scores
        failure = failure or _failure(partial(_finish, study, kept, part))
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    if failure:
        warnings.warn(
            f"Embeddings could not be kept in {study.folder / FOLDER}: {failure.strerror or failure}. "
            "All candidates are called; the next head will have to look at them again. Free space.",
            stacklevel=3,
        )


def _failure(write: Callable[[], None]) -> OSError | None:
    try:
        write()
    except OSError as error:
        return error
    return None


def _begin(kept: _Kept, part: Path) -> None:
    part.parent.mkdir(parents=True, exist_ok=True)
    for left in part.parent.glob(f".{kept.path.name}.*.part"):
        left.unlink()
    part.touch()


def _write(part: Path, rows: np.ndarray, embeddings: np.ndarray) -> None:
    stride = 4 * embeddings.shape[1]
    with part.open("r+b") as file:
        for row, values in zip(rows.tolist(), embeddings.astype("<f4"), strict=True):
            file.seek(row * stride)
            file.write(values.tobytes())


def _finish(study: Study, kept: _Kept, part: Path) -> None:
    """Put a file in its place; its record comes last. Then bodies and images that are no longer asked go."""
    crc = 0
    with part.open("rb") as file:
        while data := file.read(2**20):
            crc = zlib.crc32(data, crc)
    os.replace(part, kept.path)
    write_json(kept.record, _record(kept, crc))
    for file in kept.path.parent.iterdir():
        if file.name.removesuffix(file.suffix) not in study.names and not file.name.startswith("."):
            file.unlink()
    bodies = [path for path in kept.path.parent.parent.iterdir() if path.is_dir()]
    for body in sorted(bodies, key=lambda path: path.stat().st_mtime_ns)[:-BODIES]:
        shutil.rmtree(body, ignore_errors=True)
