"""A study and others: bundles for another laboratory, labels and training folders of cellfinder."""

from pathlib import Path

import numpy as np
import pandas as pd

from cellkit.annotate import answer
from cellkit.cubes import CubeGeometry
from cellkit.formats.cellfinder_cubes import GEOMETRY, cut_as_measured, stack_cubes
from cellkit.formats.cellfinder_points import labels_of_points, points_of_labels, read_points
from cellkit.formats.cellfinder_training import read_training, write_training
from cellkit.labels.sampling import PLACE_UM, add_micrometres, barred
from cellkit.pixels.stacks import LabelledStack, cut_stack
from cellkit.sharing.bundles import read_bundle, write_bundle
from cellkit.study import Study
from cellkit.tables import check_inside
from cellkit.teaching.labelled import image_files, training_places
from cellkit.teaching.pools import Pool, read_cellfinder

REACH = CubeGeometry((16, 32, 32), (4.0, 4.0, 4.0))  # a third more than a network sees, in the same steps
POOLS = "pools"
ALIKE = 0.7
COMPARED = 50


def pack(
    study: Study, path: str | Path, *, description: str = "", licence: str = "", contact: str = ""
) -> Path:
    """Pack all labels of a study that may train, with their cubes, into one file for another laboratory.

    Labels of audits, of images that judge and near audited places stay at home. Nobody's name is in it but
    the one that is given as `contact`; images and animals keep their names.

    Parameters
    ----------
    study : Study
    path : path
        Ends in `.zip`; never overwritten.
    description, licence, contact : str
        What another laboratory should know: the stain, under which terms, whom to ask.

    Raises
    ------
    FileExistsError, ValueError
        As `bundles.write_bundle`.
    """
    about = {"description": description, "licence": licence, "contact": contact}
    places = training_places(study)
    stacks = []
    for name, part in places.groupby("image", sort=False):
        image, diameter_um = study.image(str(name)), study.settings.diameter_um
        cubes, centres = cut_stack(image, part, geometry=REACH, diameter_um=diameter_um)
        targets = (part["answer"] == study.settings.classes[0]).to_numpy(np.float32)
        stacks.append(
            LabelledStack(
                str(name), cubes, centres, targets, diameter_um,
                intensities=study.intensities(str(name)), animal=study.entry(str(name)).animal,
            )
        )  # fmt: skip
    pool = Pool(study.folder.resolve().name, study.settings.task, tuple(stacks), image_files(study), about)
    return write_bundle(pool, path)


def import_pool(
    study: Study, path: str | Path, *, diameter_um: float | None = None, name: str | None = None
) -> Pool:
    """Take a bundle, or a training folder of cellfinder, into a study: it trains beside the study's labels.

    It is checked, copied into the study's folder `pools/`, and used by `pools_of` from then on.

    Parameters
    ----------
    study : Study
    path : path
        A bundle (`.zip`), or a `training.yaml` or the folder that holds one.
    diameter_um : float, optional
        Of a cell in the brains of a training folder; that of the study where it is not given.
    name : str, optional
        Under which it is kept; its own where it is not given.

    Raises
    ------
    FileExistsError
        If the study has a pool of that name.
    ValueError
        If it is for another task or holds an image of this study; or as `bundles.read_bundle` and
        `pools.read_cellfinder`.
    """
    path = Path(path)
    pool = (
        read_bundle(path)
        if path.suffix == ".zip"
        else read_cellfinder(path, diameter_um=diameter_um or study.settings.diameter_um)
    )
    if pool.task != study.settings.task:
        raise ValueError(
            f"A pool must be for the study's task, {study.settings.task}; {path} is for {pool.task}. "
            "Import it into a study of that task."
        )
    shared = sorted({pool.images[key] for key in pool.images.keys() & image_files(study).keys()})
    if shared:
        raise ValueError(
            "A pool may have no image of the study that it trains beside: it could teach what an audit "
            f"measures; {path} has {', '.join(shared)}. Copy its label files into the study instead."
        )
    write_bundle(pool, study.folder / POOLS / f"{name or pool.name}.zip")
    return pool


def pools_of(study: Study) -> list[Pool]:
    """Return all pools that were imported into a study, checked; `retrain(study, pools=pools_of(study))`."""
    return [read_bundle(path) for path in sorted((study.folder / POOLS).glob("[!.]*.zip"))]


def export_training(study: Study, folder: str | Path) -> list[Path]:
    """Write a study's labels that may train as training folders of cellfinder, one an image.

    As `formats.cellfinder_training.write_training`. Labels whose cube of 100 x 50 x 50 µm overlaps an audited
    place are left out, so that a network which cellfinder trains on the rest can be measured by the audit.

    Returns
    -------
    list of Path
        The YAML files, for `cellfinder_train -y`.

    Raises
    ------
    FileExistsError
        If a folder is not empty.
    ValueError
        If no label may train.
    """
    places = training_places(study)
    places = places[~barred(study, places, cube=GEOMETRY)]
    if places.empty:
        raise ValueError(
            f"A training folder needs labels that may train; {study.folder} has none. "
            "Label some: annotate.draw_batch(study, ...)."
        )
    written = []
    for name, part in places.groupby("image", sort=False):
        image = study.image(str(name))
        points = points_of_labels(part, voxel_um=image.voxel_um, classes=study.settings.classes)
        written.append(write_training(image, points, Path(folder) / str(name)))
    return written


def import_labels(study: Study, path: str | Path, image: str, *, who: str = "cellfinder") -> int:
    """Take points or a training folder of cellfinder into a study's ledger, as labels of one of its images.

    Cubes of a training folder are compared with the image at their places first.

    Parameters
    ----------
    study : Study
    path : path
        Points (`.xml`, `.yml`, `.yaml`, `.csv`), a `training.yaml`, or the folder that holds one.
    image : str
        The image of the study that they are of; it must be one that trains.
    who : str
        Whose labels they are.

    Returns
    -------
    int
        How many labels were added. The same file again adds none.

    Raises
    ------
    ValueError
        If a place lies outside the image, the cubes are not of this image, or the image judges.
    """
    path = Path(path)
    is_training = path.is_dir() or path.name == "training.yaml"
    points = read_training(path) if is_training else read_points(path)
    rows = labels_of_points(points, image=image, classes=study.settings.classes)
    check_inside(rows, study.image(image).shape[2:], what=str(path))
    if is_training:
        _check_alike(study, points, image, path)
    rows = _new(study, rows, who)
    return len(answer(study, rows, list(rows["answer"]), who)) if len(rows) else 0


def _new(study: Study, rows: pd.DataFrame, who: str) -> pd.DataFrame:
    """Return the answers that this person has not given at just these places before."""
    known = study.events()
    known = known[(known["who"] == who) & known["image"].isin(rows["image"])]
    there = {tuple(event) for event in known[[*PLACE_UM, "answer"]].to_numpy().tolist()}
    told = add_micrometres(study, rows)[[*PLACE_UM, "answer"]].to_numpy().tolist()
    return rows[[tuple(event) not in there for event in told]]


def _check_alike(study: Study, labels: pd.DataFrame, image: str, path: Path) -> None:
    """Refuse cubes that do not look like this image at their places."""
    some = labels.iloc[np.unique(np.linspace(0, len(labels) - 1, COMPARED).astype(int))]
    some = some.reset_index(drop=True)
    given = stack_cubes(some).channels["signal"]
    alike = np.zeros(len(some))
    for rows, cubes in cut_as_measured(study.image(image), some.assign(frame=0)):
        for row, cube in zip(rows, cubes[..., 0], strict=True):
            both = np.corrcoef(given[row].ravel(), cube.ravel())[0, 1]
            alike[row] = both if np.isfinite(both) else 0.0
    if np.median(alike) < ALIKE:
        raise ValueError(
            f"Labels go to the image that they are of; the cubes of {path} correlate by "
            f"{np.median(alike):.2f} with {image!r} at their places, where {ALIKE} is the least. "
            "Name another image, or import them as a pool."
        )
