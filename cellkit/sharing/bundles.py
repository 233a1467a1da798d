"""Bundles: one file with labels and their cubes, for another laboratory.

A bundle is a ZIP of `bundle.json`, `labels.csv` and `cubes/<number>-<channel>.npy`. The hash of every part
stands in `bundle.json`, and its own hash, too: so damage and careless changes are seen. It is no signature.
"""

import hashlib
import io
import json
import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellkit import __version__
from cellkit.folder.disk import writing
from cellkit.pixels.intensities import Intensities
from cellkit.pixels.stacks import CubeStack, LabelledStack
from cellkit.tables import CLASSES, check_table
from cellkit.teaching.pools import Pool

MANIFEST, LABELS = "bundle.json", "labels.csv"
PART = re.compile(r"bundle\.json|labels\.csv|cubes/\d{1,6}-(signal|background)\.npy")
VERSION = 1
MOST_GIB = 4
MOST_TIMES = 200
LEAST = 2**20
COLUMNS = {"stack": "int64", "z": "float64", "y": "float64", "x": "float64", "target": "int64"}
ROLES = (["signal"], ["signal", "background"])
ABOUT = ("description", "licence", "contact")


def write_bundle(pool: Pool, path: str | Path) -> Path:
    """Write a pool as a bundle, whole or not at all; the same pool gives the same bytes.

    Parameters
    ----------
    pool : Pool
        `about` may have a description, a licence and a contact.
    path : path
        Ends in `.zip`; a file that is there is never overwritten.

    Raises
    ------
    FileExistsError
        If there is such a file.
    ValueError
        If the ending is another, or the pool has no labels or too many.
    """
    path = Path(path)
    if path.suffix != ".zip" or len(pool) == 0:
        came = f"{len(pool)} labels for {path.name!r}"
        raise ValueError(f"A bundle needs labels and a name that ends in .zip; got {came}. Mend that.")
    size = sum(_bytes_of(stack) for stack in pool.stacks)
    if size > MOST_GIB * 2**30:
        raise ValueError(
            f"A bundle may hold {MOST_GIB} GiB of cubes; {pool.name} has {size / 2**30:.1f}. Pass on fewer "
            "labels, or teach from the training folder itself: retrain(study, pools=[read_cellfinder(...)])."
        )
    if path.exists():
        raise FileExistsError(f"A bundle is never overwritten; {path} is there. Choose another name.")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with writing(path.parent, what="The bundle's folder"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive:
                _write_parts(pool, archive)
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _bytes_of(stack: LabelledStack) -> int:
    channels = [cubes for cubes in stack.cubes.channels.values() if len(cubes)]
    return sum(len(cubes) * np.asarray(cubes[0]).nbytes for cubes in channels)


def _write_parts(pool: Pool, archive: zipfile.ZipFile) -> None:
    hashes = {}
    for number, stack in enumerate(pool.stacks):
        for role, cubes in stack.cubes.channels.items():
            kept = io.BytesIO()
            np.save(kept, np.stack([cubes[n] for n in range(len(cubes))]))
            name = f"cubes/{number}-{role}.npy"
            hashes[name] = _add(archive, name, kept.getvalue())
    labels = pd.concat(
        [
            pd.DataFrame(stack.centres, columns=list("zyx")).assign(
                stack=number, target=stack.targets.astype(int)
            )
            for number, stack in enumerate(pool.stacks)
        ]
    )
    text = labels[list(COLUMNS)].to_csv(index=False, lineterminator="\n")
    hashes[LABELS] = _add(archive, LABELS, text.encode())
    said = {
        "format": "cellkit bundle",
        "version": VERSION,
        "cellkit": __version__,
        "name": pool.name,
        "task": pool.task,
        "classes": CLASSES[pool.task],
        "about": {key: pool.about.get(key, "") for key in ABOUT},
        "images": dict(pool.images),
        "stacks": [_said(stack) for stack in pool.stacks],
        "sha256 of parts": hashes,
    }
    said["sha256"] = _hash_of(said)
    _add(archive, MANIFEST, (json.dumps(said, ensure_ascii=False, indent=1) + "\n").encode())


def _said(stack: LabelledStack) -> dict[str, Any]:
    return {
        "name": stack.name,
        "animal": stack.animal or stack.name,
        "diameter_um": stack.diameter_um,
        "voxel_um": stack.cubes.voxel_um,
        "sides": stack.cubes.sides,
        "cubes": len(stack.targets),
        "intensities": {role: asdict(measured) for role, measured in stack.measured().items()},
    }


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> str:
    archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return hashlib.sha256(data).hexdigest()


def _hash_of(said: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in said.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_bundle(path: str | Path) -> Pool:
    """Read a bundle, after checking every part of it; nothing is unpacked to the disk.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no bundle, of a newer cellkit, was changed or damaged, or would unpack too large.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"A bundle must be there to be read; {path} is not. Is the path right?")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_parts(archive, path)
            said = _manifest(archive, path)
            parts = {name: _part(archive, name, digest, path) for name, digest in said["parts"].items()}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise ValueError(f"{path} must be a bundle; it cannot be read: {error}. Copy it again.") from error
    try:
        stacks = _stacks(said, parts)
        return Pool(
            str(said["name"]),
            str(said["task"]),
            stacks,
            images={str(key): str(value) for key, value in said["images"].items()},
            about={key: str(said["about"].get(key, "")) for key in ABOUT},
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path} must hold what a bundle holds; it does not: {reason}. Pack it again."
        ) from error


def _check_parts(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse names that no bundle has, and what unpacks too large."""
    parts = archive.infolist()
    names = [part.filename for part in parts]
    strange = [name for name in names if not PART.fullmatch(name) or names.count(name) > 1]
    if strange or MANIFEST not in names:
        came = f"it holds {strange[0]!r}" if strange else f"it has no {MANIFEST}"
        raise ValueError(
            f"A bundle holds {MANIFEST}, {LABELS} and cubes; {path} does not: {came}. It was not read."
        )
    size, kept = sum(part.file_size for part in parts), sum(part.compress_size for part in parts)
    if size > MOST_GIB * 2**30 or size > MOST_TIMES * max(kept, LEAST):
        raise ValueError(
            f"A bundle may unpack to {MOST_GIB} GiB and {MOST_TIMES} times its size; {path} unpacks to "
            f"{size:,} of {kept:,} bytes. It was not read."
        )


def _manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    try:
        said = json.loads(archive.read(MANIFEST))
        version, parts, hashed = said["version"], said["sha256 of parts"], said["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} must hold what a bundle holds; its {MANIFEST} does not: {error}. Copy it again."
        ) from error
    if version != VERSION:
        raise ValueError(
            f"This cellkit reads bundles of version {VERSION}; {path} is of version {version!r}. "
            "Update cellkit."
        )
    listed = {*archive.namelist()} - {MANIFEST}
    if hashed != _hash_of(said) or set(parts) != listed:
        raise _changed(path, MANIFEST)
    return said | {"parts": parts}


def _changed(path: Path, name: str) -> ValueError:
    return ValueError(
        f"A bundle must be as it was packed; {name} of {path} was changed or damaged: its hash does not fit. "
        "Ask for it again."
    )


def _part(archive: zipfile.ZipFile, name: str, digest: str, path: Path) -> bytes:
    data = archive.read(name)
    if hashlib.sha256(data).hexdigest() != digest:
        raise _changed(path, name)
    return data


def _stacks(said: Mapping[str, Any], parts: Mapping[str, bytes]) -> tuple[LabelledStack, ...]:
    labels = check_table(pd.read_csv(io.BytesIO(parts[LABELS])), COLUMNS, what=LABELS)
    if not set(labels["stack"]) <= set(range(len(said["stacks"]))) or not set(labels["target"]) <= {0, 1}:
        raise ValueError(f"{LABELS} names cubes or answers that are not there")
    return tuple(
        _stack(number, one, labels[labels["stack"] == number], parts)
        for number, one in enumerate(said["stacks"])
    )


def _stack(
    number: int, said: Mapping[str, Any], labels: pd.DataFrame, parts: Mapping[str, bytes]
) -> LabelledStack:
    shape = (int(said["cubes"]), *map(int, said["sides"]))
    channels = {}
    z, y, x = (float(um) for um in said["voxel_um"])
    if list(said["intensities"]) not in ROLES or not all(0 < um < np.inf for um in (z, y, x)):
        raise ValueError(f"the channels or the voxel size of {said['name']} cannot be")
    for role in said["intensities"]:
        name = f"cubes/{number}-{role}.npy"
        cubes = np.load(io.BytesIO(parts[name]), allow_pickle=False)
        if cubes.shape != shape or cubes.dtype.kind not in "uif" or not np.isfinite(cubes).all():
            raise ValueError(f"{name} is no stack of {shape} finite numbers")
        channels[role] = cubes
    centres = labels[list("zyx")].to_numpy()
    if len(labels) != shape[0] or ((centres < -0.5) | (centres > np.array(shape[1:]) - 0.5)).any():
        raise ValueError(f"{LABELS} does not fit the cubes of {said['name']}")
    return LabelledStack(
        name=str(said["name"]),
        cubes=CubeStack(channels, (shape[1], shape[2], shape[3]), (z, y, x)),
        centres=centres,
        targets=labels["target"].to_numpy(np.float32),
        diameter_um=float(said["diameter_um"]),
        intensities={role: Intensities(**numbers) for role, numbers in said["intensities"].items()},
        animal=str(said["animal"]),
    )
