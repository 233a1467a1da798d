"""01 Detect: a volume becomes candidates, and a network calls each one cell or artefact.

    candidates = detect(study)
    calls = classify(study)

The detector is meant to find too much: what it misses is lost, what it finds too much the network sorts out.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from cellkit.finding.context import with_context
from cellkit.finding.grids import working_grid
from cellkit.finding.ranking import image_noise, strongest
from cellkit.finding.sweep import Sweep, block_shape, sweep
from cellkit.tables import CALL_COLUMNS, CANDIDATE_COLUMNS, check_inside, check_table

if TYPE_CHECKING:
    from cellkit.images import Image
    from cellkit.networks.store import Network
    from cellkit.study import Study

METHOD = 3


@dataclass(frozen=True)
class DetectSettings:
    """How much is kept, and how the work is cut; the last two change no result.

    Attributes
    ----------
    min_score : float, optional
        Candidates that stand out less are dropped; in standard deviations of the background. If not given 2,
        or 0.5 in an image of one plane: cells fill more of it, and what they fill counts as background.
    min_distance : float
        Of two candidates in a plane that are nearer than so many diameters the stronger one stays.
    workers : int, optional
        Threads; all cores that the program may use if not given.
    block : tuple of 3 int, optional
        Voxels (z, y, x) to go through at a time; chosen by itself if not given.
    """

    min_score: float | None = None
    min_distance: float = 0.5
    workers: int | None = None
    block: tuple[int, int, int] | None = None

    def least(self, planes: int) -> float:
        """Return the least score in an image of so many planes."""
        return (2.0 if planes > 1 else 0.5) if self.min_score is None else self.min_score


DEFAULTS = DetectSettings()


def find_candidates(
    image: "Image",
    *,
    diameter_um: float,
    settings: DetectSettings = DEFAULTS,
    frame: int = 0,
    resume_folder: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Find places in one frame that may be cells: bright blobs of about the diameter, clusters split.

    Parameters
    ----------
    image : Image
        From `images.open_image`; its signal channel is read block by block.
    diameter_um : float
        Diameter of a cell, in µm.
    settings : DetectSettings
        The defaults suit most images.
    frame : int
        Which frame of a time lapse.
    resume_folder : path, optional
        Keeps finished blocks, so that the same call goes on where it was stopped; remove it in the end.
    progress : bool
        Show a bar with the remaining time and the number of candidates so far.

    Returns
    -------
    DataFrame
        `image, frame, z, y, x, score, diameter_um`, strongest first; `z, y, x` in voxels. `score` is the
        height above the surroundings in standard deviations of the background, less for lines and edges.
        A saturated region, at the brightest value of the image, is one candidate however wide it is.

    Raises
    ------
    ValueError
        If the diameter is below one voxel, or the image smaller than a cell, constant, or with NaN or values
        beyond 1e25 in it.
    """
    _check(image, diameter_um)
    grid = working_grid(tuple(image.shape[2:]), image.voxel_um, diameter_um)
    workers = settings.workers or _cores()
    block = block_shape(grid, workers=workers, voxels=settings.block)
    folder = None if resume_folder is None else Path(resume_folder)
    with sweep(image, grid, Sweep(frame, block, workers, folder, progress)) as swept:
        low, high = swept.span
        if low == high:
            raise ValueError(
                f"An image must vary to hold cells; all of {image.name}, frame {frame}, is {low:g}. "
                "Is it the right channel?"
            )
        least, apart = settings.least(image.shape[2]), settings.min_distance
        blobs, noise, on = swept.blobs, image_noise(swept.noise), swept.plateaus
        found = strongest(blobs, noise, grid, plateaus=on, least=least, apart=apart)
    return found.assign(image=image.name, frame=frame)[list(CANDIDATE_COLUMNS)].astype(CANDIDATE_COLUMNS)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check(image: "Image", diameter_um: float) -> None:
    if isinstance(image, np.ndarray):
        raise ValueError(
            f"`find_candidates` needs an image; got an array of shape {image.shape}. "
            "Pass open_image(array, voxel_um=(z, y, x))."
        )
    _, y, x = image.voxel_um
    if not max(y, x) <= diameter_um < float("inf"):
        raise ValueError(
            f"A cell's diameter must be at least one voxel, here {max(y, x):g} µm; got {diameter_um:g}. "
            "Give it in µm."
        )
    height, width = image.shape[-2] * y, image.shape[-1] * x
    if min(height, width) < diameter_um:
        raise ValueError(
            f"An image must be wider than a cell, {diameter_um:g} µm; "
            f"{image.name} is {height:g} x {width:g} µm. Is the voxel size in µm?"
        )


def detect(study: "Study", *, settings: DetectSettings = DEFAULTS, progress: bool = True) -> pd.DataFrame:
    """Find the candidates of all images of a study and keep them; what is up to date is not done again.

    A stopped run goes on where it was. Calls of a network go when an image is detected anew.

    Returns
    -------
    DataFrame
        `study.candidates()`.
    """
    for name in study.names:
        made_by = {
            "method": METHOD,
            "diameter_um": study.settings.diameter_um,
            "min_score": settings.min_score,
            "min_distance": settings.min_distance,
        }
        if _is_up_to_date(study, name, made_by):
            continue
        image, parts = study.image(name), study.folder / "candidates" / f"{name}.parts"
        tables = [
            find_candidates(
                image,
                diameter_um=study.settings.diameter_um,
                settings=settings,
                frame=frame,
                resume_folder=parts / str(frame),
                progress=progress,
            )
            for frame in range(image.shape[0])
        ]
        study.save_candidates(name, pd.concat(tables, ignore_index=True), made_by=made_by)
        shutil.rmtree(parts)
    return study.candidates()


def _is_up_to_date(study: "Study", name: str, made_by: dict[str, Any]) -> bool:
    expected = {**made_by, "image": study.image_fingerprint(name)}
    there = study.made_by(name)
    return all(there.get(key) == value for key, value in expected.items())


def classify(
    study: "Study", network: "str | os.PathLike[str] | None" = None, *, progress: bool = True
) -> pd.DataFrame:
    """Let a network call every candidate of a study, and keep `p`, `called` and `network` with them.

    A network that differs from one that has called before in its last layer alone, a retrained head, takes
    seconds: what its other layers say is kept in `embeddings/`, which may be deleted at any time.

    Parameters
    ----------
    study : Study
        With candidates.
    network : str or path, optional
        One of the study's networks, a supplied one, or a folder; if not given the study's newest, or the
        first supplied one where there is none.
    progress : bool
        Show a bar.

    Returns
    -------
    DataFrame
        `study.candidates()`.

    Raises
    ------
    ValueError
        If an image has no candidates yet.
    """
    from cellkit.networks.store import load_network, supplied_networks
    from cellkit.teaching.embedding_store import call_all

    chosen = network or next(iter([*study.networks()[::-1], *supplied_networks()]))
    loaded = load_network(chosen, study.folder / "networks", task=study.settings.task)
    for name in study.names:
        made_by = study.made_by(name)
        if not made_by:
            raise ValueError(
                f"Candidates are called after they are found; {name} has none. Run detect(study)."
            )
        card = {"network": loaded.card.name, "network_sha256": loaded.card.sha256}
        if all(made_by.get(key) == value for key, value in card.items()):
            continue
        kept = study.candidates(name).drop(columns=list(CALL_COLUMNS), errors="ignore")
        with _bar(len(kept), name, progress) as bar:
            p = call_all(study, name, loaded, progress=lambda done, _, bar=bar: bar.update(done - bar.n))
        study.save_candidates(name, _called(kept, p, loaded), made_by={**made_by, **card})
    return study.candidates()


def call_candidates(
    image: "Image",
    places: pd.DataFrame,
    *,
    network: str | os.PathLike[str],
    diameter_um: float,
    progress: bool = False,
) -> pd.DataFrame:
    """Let a network call places in one image that belongs to no study.

    Parameters
    ----------
    image : Image
        From `images.open_image`.
    places : DataFrame
        `z, y, x` in voxels, `frame` for a time lapse; other columns are kept. With `score` a network that
        heeds how crowded it is around a place is told so.
    network : str or path
        A supplied network, or a network's folder.
    diameter_um : float
        Diameter of a cell, in µm.
    progress : bool
        Show a bar.

    Returns
    -------
    DataFrame
        `places` with `p`, `called` and `network`.

    Raises
    ------
    ValueError
        If a column is missing or a place lies outside the image.
    """
    from cellkit.networks.predict import predict
    from cellkit.networks.store import load_network
    from cellkit.pixels.intensities import measure_intensities

    checked = check_table(places, dict.fromkeys("zyx", "float64"), what="places")
    check_inside(checked, image.shape[2:], what="places")
    loaded = load_network(network)
    roles = [role for role in image.roles if role != "none"]
    intensities = {role: measure_intensities(image, role) for role in roles}
    framed = checked if "frame" in checked else checked.assign(frame=0)
    framed = with_context(
        framed, framed, voxel_um=image.voxel_um, shape=image.shape[2:], diameter_um=diameter_um, roles=roles
    )  # fmt: skip
    with _bar(len(framed), image.name, progress) as bar:
        p = predict(
            loaded, image, framed, intensities=intensities, diameter_um=diameter_um,
            progress=lambda done, _: bar.update(done - bar.n),
        )  # fmt: skip
    return _called(checked, p, loaded)


def _bar(number: int, name: str, shown: bool) -> tqdm:
    return tqdm(total=number, unit="candidate", desc=name, disable=not shown, leave=False)


def _called(places: pd.DataFrame, p: np.ndarray, network: "Network") -> pd.DataFrame:
    return places.assign(p=p, called=p >= network.card.threshold, network=network.card.name).astype(
        CALL_COLUMNS
    )
