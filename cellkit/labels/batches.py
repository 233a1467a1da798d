"""Batches: queues that are drawn once and kept under a name, so that a person goes on where they stopped."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from cellkit.folder.disk import fingerprint, read_json, write_json, writing
from cellkit.labels.places import add_micrometres
from cellkit.labels.sampling import QUEUE_COLUMNS, as_queue, draw, frame_of
from cellkit.study import Study
from cellkit.tables import MAY_BE_EMPTY, REPEAT

REPEATS, APART = 0.05, 200
NAME = re.compile(r"[\w][\w .-]{0,60}")


@dataclass(frozen=True)
class Region:
    """A part of an image that a person drew.

    Attributes
    ----------
    image : str
        Name of a training image.
    box : tuple of 3 (first, last)
        Range of z, y and x, in voxels, both ends included.
    outline : tuple of (y, x)
        Corners of a polygon inside the box, in voxels; without it the whole box is meant.
    frame : int
        Frame of a time lapse.
    """

    image: str
    box: tuple
    outline: tuple = ()
    frame: int = 0

    def __post_init__(self) -> None:
        """Refuse what is no box and no polygon."""
        ends = np.asarray(self.box, dtype="float64")
        if ends.shape != (3, 2) or not (ends[:, 0] <= ends[:, 1]).all():
            raise ValueError(
                f"A box needs (first, last) for each of z, y and x; got {self.box!r}. Write three pairs."
            )
        corners = np.asarray(self.outline, dtype="float64")
        if corners.size and (len(corners) < 3 or corners.shape[1:] != (2,) or not np.isfinite(corners).all()):
            raise ValueError(
                f"An outline needs three corners (y, x) or more; got {len(corners)}. Draw a larger one."
            )
        object.__setattr__(self, "box", tuple(map(tuple, ends.tolist())))
        object.__setattr__(self, "outline", tuple(map(tuple, corners.tolist())))

    def holds(self, zyx: np.ndarray) -> np.ndarray:
        """Say which places, shape (n, 3) in voxels, lie inside."""
        ends = np.asarray(self.box)
        inside = ((zyx >= ends[:, 0]) & (zyx <= ends[:, 1])).all(axis=1)
        if self.outline and inside.any():
            from skimage.measure import points_in_poly

            inside[inside] = points_in_poly(zyx[inside, 1:], np.asarray(self.outline))
        return inside


def outlined(image: str, outline: Sequence, *, z: tuple[float, float], frame: int = 0) -> Region:
    """Return the region inside a polygon of corners (y, x), from one plane to another, both included."""
    corners = np.asarray(outline, dtype="float64").reshape(-1, 2)
    if len(corners) < 3:
        raise ValueError(
            f"An outline needs three corners (y, x) or more; got {len(corners)}. Draw a larger one."
        )
    sides = zip(corners.min(axis=0), corners.max(axis=0), strict=True)
    return Region(image, (z, *sides), tuple(map(tuple, corners.tolist())), frame)


def rectangle(
    study: Study, image: str, box: tuple, n: int = 30, seed: int | None = None, *, frame: int = 0
) -> pd.DataFrame:
    """Draw up to `n` candidates at random from those inside a box that have no label yet.

    Parameters
    ----------
    study : Study
    image, box, frame
        As of a `Region`.
    n, seed
        As of `draw_inside`.

    Raises
    ------
    ValueError
        If the box is not one, or the image judges.
    """
    return draw_inside(study, Region(image, box, frame=frame), n, seed)


def draw_inside(study: Study, region: Region, n: int = 30, seed: int | None = None) -> pd.DataFrame:
    """Draw up to `n` candidates at random from those inside a region that have no label yet.

    Parameters
    ----------
    study : Study
    region : Region
    n : int
        20 to 50 are a good batch: label all of them as one class, then flip the exceptions.
    seed : int, optional
        Same study, same seed: same queue. The study's own if left out.

    Raises
    ------
    ValueError
        If the image judges.
    """
    image = region.image
    if study.entry(image).role == "judge":
        raise ValueError(f"Labels are drawn from training images; {image!r} judges. Choose a training image.")
    table = frame_of(study)
    inside = region.holds(table[["z", "y", "x"]].to_numpy())
    free = table[table["free"] & (table["image"] == image) & (table["frame"] == region.frame) & inside]
    rng = np.random.default_rng(study.settings.seed if seed is None else seed)
    chosen = rng.choice(len(free), min(n, len(free)), replace=False)
    queue = free.iloc[chosen].assign(origin="rectangle", weight=len(free) / max(len(chosen), 1))
    return as_queue(queue, name="rectangle")


def draw_batch(
    study: Study,
    name: str,
    n: int = 40,
    *,
    by: str = "mixed",
    quotas: dict[str, int] | None = None,
    repeats: float = REPEATS,
) -> pd.DataFrame:
    """Draw a queue once and keep it under its name: the same call returns it again, on any day.

    Among its rows some come back unseen that were labelled at least 200 answers or a day ago (origin
    "repeat"): how well they agree with the first answers is the best that any network can do.

    Parameters
    ----------
    study : Study
    name : str
        What its labels carry as their batch; the study's seed and this name make the draw.
    n, by, quotas
        As for `sampling.draw`.
    repeats : float
        Share of the `n` that is repeated; fewer where fewer labels are old enough.

    Raises
    ------
    ValueError
        As `sampling.draw`; if the name is taken by a batch that was drawn otherwise, or `repeats` is not from
        0 to 0.5.
    """
    if not 0 <= repeats <= 0.5:
        raise ValueError(f"`repeats` must be from 0 to 0.5; got {repeats}. Leave it out for {REPEATS}.")
    how = {"n": n, "by": by, "quotas": quotas} | ({} if repeats == REPEATS else {"repeats": repeats})

    def draw_with(seed: int) -> pd.DataFrame:
        again = draw_repeats(study, round(repeats * n), seed=seed) if repeats * n >= 0.5 else None
        if again is None or again.empty:
            return draw(study, n, by=by, seed=seed, quotas=quotas)
        queue = pd.concat([draw(study, n - len(again), by=by, seed=seed, quotas=quotas), again])
        return queue.sample(frac=1, random_state=seed % 2**32).reset_index(drop=True)

    return keep(study, name, how, draw_with)


def draw_repeats(study: Study, n: int, *, seed: int) -> pd.DataFrame:
    """Draw up to `n` candidates whose labels come back unseen, as evenly over both classes as can be.

    Left out are labels of an audit, those that were repeated before, and those that are neither a day old nor
    followed by 200 answers.
    """
    events = study.events()
    fresh = set(events["id"].iloc[-APART:])
    day_ago = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    fresh -= set(events.loc[events["at"] < day_ago, "id"])
    table = study.labelled_candidates()
    lacking = {"p": np.nan, "called": False, "network": ""}
    table = table.assign(**{name: value for name, value in lacking.items() if name not in table})
    train = table["image"].map(lambda name: study.entry(name).role == "train").astype(bool)
    old = train & table["answer"].isin(study.settings.classes) & ~table["label"].isin(fresh)
    table = add_micrometres(study, table[old & ~table["origin"].isin(["audit", REPEAT])])
    rank = table.sample(frac=1, random_state=seed % 2**32).groupby("answer").cumcount()
    chosen = table.loc[rank.sort_values(kind="stable").index[:n]]
    return as_queue(chosen.assign(origin=REPEAT, weight=np.nan), name=REPEAT)


def draw_rectangle(
    study: Study, name: str, image: str, *, box: tuple, n: int = 30, frame: int = 0
) -> pd.DataFrame:
    """Draw a rectangle's queue once and keep it under its name; `rectangle` says what the rest means.

    Raises
    ------
    ValueError
        As `rectangle`; or if the name is taken by a batch that was drawn otherwise.
    """
    return draw_region(study, name, Region(image, box, frame=frame), n=n)


def draw_region(study: Study, name: str, region: Region, *, n: int = 30) -> pd.DataFrame:
    """Draw a region's queue once and keep it under its name, as `draw_inside` does.

    Raises
    ------
    ValueError
        As `draw_inside`; or if the name is taken by a batch that was drawn otherwise.
    """
    how = {"image": region.image, "box": list(map(list, region.box)), "n": n, "frame": region.frame}
    if region.outline:
        how |= {"outline": list(map(list, region.outline))}
    return keep(study, name, how, lambda seed: draw_inside(study, region, n, seed))


def batch_names(study: Study) -> list[str]:
    """Return the names of the batches that the study keeps, oldest first."""
    files = sorted(
        (study.folder / "batches").glob("*.json"), key=lambda file: (file.stat().st_mtime_ns, file)
    )
    return [file.stem for file in files]


def read_batch(study: Study, name: str) -> pd.DataFrame:
    """Return the queue of a batch that the study keeps.

    Raises
    ------
    ValueError
        If there is none of this name.
    """
    file = study.folder / "batches" / f"{name}.json"
    if not file.exists():
        there = ", ".join(batch_names(study)) or "none"
        raise ValueError(f"A batch is read once it was drawn; got {name!r}, of {there}. Draw it.")
    queue = pd.DataFrame(read_json(file, what="A batch")["queue"], columns=QUEUE_COLUMNS)
    return queue.assign(**{column: queue[column].astype("float64") for column in ("p", "weight")})


def regions_of(study: Study, image: str) -> list[str]:
    """Return the names of the batches that were drawn from regions of an image, oldest first."""
    files = {name: study.folder / "batches" / f"{name}.json" for name in batch_names(study)}
    made = {name: read_json(file, what="A batch")["how"] for name, file in files.items()}
    return [name for name, how in made.items() if "box" in how and how["image"] == image]


def keep(study: Study, name: str, how: dict, draw_with: Callable[[int], pd.DataFrame]) -> pd.DataFrame:
    """Draw a queue once, with a seed of its own, and keep it under its name: the same call returns it again.

    Raises
    ------
    ValueError
        If the name is none, or taken by a batch that was drawn otherwise.
    OSError
        If it cannot be kept.
    """
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
        return read_batch(study, name)
    queue = draw_with(int(fingerprint([study.settings.seed, name, how]), 16) % 2**32).assign(batch=name)
    if queue.empty:
        return queue
    plain = queue.astype(object).where(queue.notna() | ~queue.columns.isin(list(MAY_BE_EMPTY)), None)
    with writing(study.folder, what="The study's folder"):
        write_json(file, {"how": how, "queue": plain.to_dict("records")})
    return queue
