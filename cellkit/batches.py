"""Batches: queues that are drawn once and kept under a name, so that a person goes on where they stopped."""

import re
from collections.abc import Callable

import numpy as np
import pandas as pd

from cellkit.disk import fingerprint, read_json, write_json, writing
from cellkit.sampling import QUEUE_COLUMNS, as_queue, draw, frame_of
from cellkit.study import Study
from cellkit.tables import MAY_BE_EMPTY

NAME = re.compile(r"[\w][\w .-]{0,60}")


def rectangle(
    study: Study, image: str, box: tuple, n: int = 30, seed: int | None = None, *, frame: int = 0
) -> pd.DataFrame:
    """Draw up to `n` candidates at random from those inside a box that have no label yet.

    Parameters
    ----------
    study : Study
    image : str
        Name of a training image.
    box : tuple of 3 (first, last)
        Range of z, y and x, in voxels, both ends included.
    n : int
        20 to 50 are a good batch: label all of them as one class, then flip the exceptions.
    seed : int, optional
        Same study, same seed: same queue. The study's own if left out.
    frame : int
        Frame of a time lapse.

    Raises
    ------
    ValueError
        If the box is not one, or the image judges.
    """
    ends = np.asarray(box, dtype="float64")
    if ends.shape != (3, 2) or not (ends[:, 0] <= ends[:, 1]).all():
        raise ValueError(f"A box needs (first, last) for each of z, y and x; got {box!r}. Write three pairs.")
    if study.entry(image).role == "judge":
        raise ValueError(f"Labels are drawn from training images; {image!r} judges. Choose a training image.")
    table = frame_of(study)
    where = table[["z", "y", "x"]].to_numpy()
    inside = ((where >= ends[:, 0]) & (where <= ends[:, 1])).all(axis=1)
    free = table[table["free"] & (table["image"] == image) & (table["frame"] == frame) & inside]
    rng = np.random.default_rng(study.settings.seed if seed is None else seed)
    chosen = rng.choice(len(free), min(n, len(free)), replace=False)
    queue = free.iloc[chosen].assign(origin="rectangle", weight=len(free) / max(len(chosen), 1))
    return as_queue(queue, name="rectangle")


def draw_batch(
    study: Study, name: str, n: int = 40, *, by: str = "mixed", quotas: dict[str, int] | None = None
) -> pd.DataFrame:
    """Draw a queue once and keep it under its name: the same call returns it again, on any day.

    Parameters
    ----------
    study : Study
    name : str
        What its labels carry as their batch; the study's seed and this name make the draw.
    n, by, quotas
        As for `sampling.draw`.

    Raises
    ------
    ValueError
        As `sampling.draw`; or if the name is taken by a batch that was drawn otherwise.
    """
    how = {"n": n, "by": by, "quotas": quotas}
    return _kept(study, name, how, lambda seed: draw(study, n, by=by, seed=seed, quotas=quotas))


def draw_rectangle(
    study: Study, name: str, image: str, *, box: tuple, n: int = 30, frame: int = 0
) -> pd.DataFrame:
    """Draw a rectangle's queue once and keep it under its name; `rectangle` says what the rest means.

    Raises
    ------
    ValueError
        As `rectangle`; or if the name is taken by a batch that was drawn otherwise.
    """
    how = {"image": image, "box": np.asarray(box).tolist(), "n": n, "frame": frame}
    return _kept(study, name, how, lambda seed: rectangle(study, image, box, n, seed, frame=frame))


def batch_names(study: Study) -> list[str]:
    """Return the names of the batches that the study keeps, oldest first."""
    files = sorted(
        (study.folder / "batches").glob("*.json"), key=lambda file: (file.stat().st_mtime_ns, file)
    )
    return [file.stem for file in files]


def _kept(study: Study, name: str, how: dict, draw_with: Callable[[int], pd.DataFrame]) -> pd.DataFrame:
    if not NAME.fullmatch(name):
        raise ValueError(
            f"A batch needs a name of letters, digits, spaces, dots or dashes; got {name!r}. Rename it."
        )
    file = study.folder / "batches" / f"{name}.json"
    if file.exists():
        record = read_json(file, what="A batch")
        if record["how"] != how:
            was = ", ".join(f"{key} {value}" for key, value in record["how"].items())
            raise ValueError(
                f"A batch keeps what it was drawn with; {name!r} has {was}. Give another batch another name."
            )
        queue = pd.DataFrame(record["queue"], columns=QUEUE_COLUMNS)
        empty = {column: queue[column].astype("float64") for column in ("p", "weight")}
        return queue.assign(**empty)
    queue = draw_with(int(fingerprint([study.settings.seed, name, how]), 16) % 2**32).assign(batch=name)
    if queue.empty:
        return queue
    plain = queue.astype(object).where(queue.notna() | ~queue.columns.isin(list(MAY_BE_EMPTY)), None)
    with writing(study.folder, what="The study's folder"):
        write_json(file, {"how": how, "queue": plain.to_dict("records")})
    return queue
