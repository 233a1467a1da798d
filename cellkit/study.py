"""The folder of one study: what lies where, which image belongs to which animal, and what made what."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from cellkit.folder import holdings
from cellkit.folder.disk import fingerprint, write_text, writing
from cellkit.folder.settings import (
    FILE,
    ImageEntry,
    StudySettings,
    as_toml,
    check_name,
    make_settings,
    read_settings,
    store_paths,
)
from cellkit.folder.state import stale, take_state
from cellkit.folder.summary import as_html, as_text
from cellkit.images import Image
from cellkit.ledger import Ledger, current_labels, read_events
from cellkit.match import attach_labels, categories
from cellkit.pixels.intensities import Intensities
from cellkit.tables import DONE, UNSURE, ZYX, read_table

__all__ = ["ImageEntry", "Study", "StudySettings", "create_study", "fingerprint", "open_study"]
SAME_PLACE = 0.25  # of a diameter: half of what lies between two candidates, so none can lie at both places
NEAR = 0.5  # of a diameter: the farthest a label may be from its candidate


def create_study(
    folder: str | os.PathLike[str],
    *,
    images: Sequence[Mapping[str, Any]],
    diameter_um: float,
    task: str = "cell",
    classes: Sequence[str] | None = None,
    seed: int = 0,
) -> "Study":
    """Write the `study.toml` of a new study and open it; the very same study again is only opened.

    Parameters
    ----------
    folder : path
        Made if it is not there. Images may lie in it or anywhere else; they are never copied or changed.
    images : list of dict
        `name`, `path` (or a list, whose channels are stacked), `animal`; where the file does not say them
        `channels` ("signal", "background" or "none" for each) and `voxel_um` (z, y, x); `role` ("train" or
        "judge"), `axes` and `level` as of `open_image`.
    diameter_um : float
        Diameter of a typical cell, in µm.
    task : str
        "cell" or "expression".
    classes : sequence of 2 str, optional
        Names of the positive and the negative class, if not those of the task.
    seed : int
        What all draws of the study start from.

    Raises
    ------
    FileExistsError
        If the folder holds another study.
    FileNotFoundError, ValueError
        If an image is missing or cannot be read, or something is said that cannot be.
    PermissionError
        If the folder is read-only.
    """
    folder = Path(folder)
    said = {"diameter_um": diameter_um, "task": task, "classes": classes, "seed": seed, "images": images}
    settings = holdings.complete(store_paths(make_settings(said), folder), folder, every=True)
    if not (folder / FILE).exists():
        with writing(folder, what=holdings.WHAT):
            write_text(folder / FILE, as_toml(settings))
    study = open_study(folder)
    if study.settings != settings:
        raise FileExistsError(
            f"A folder holds one study; {folder} holds another already. "
            f"Choose another folder, or open that one with open_study and edit its {FILE}."
        )
    return study


def open_study(folder: str | os.PathLike[str]) -> "Study":
    """Open the study in a folder; no pixel is read.

    Raises
    ------
    FileNotFoundError
        If the folder holds no study, or images are missing: all are named.
    ValueError
        If `study.toml` is not TOML, from a newer version, or says something that cannot be.
    """
    folder = Path(folder)
    return Study(folder, holdings.complete(read_settings(folder), folder))


class Study:
    """The handle of a study's folder; get one from `create_study` or `open_study`.

    Attributes
    ----------
    folder : Path
        Where all that belongs to the study lies, apart from images elsewhere.
    settings : StudySettings
        What `study.toml` says.
    """

    def __init__(self, folder: Path, settings: StudySettings):
        self.folder, self.settings = folder, settings
        self._images: dict[str, Image] = {}
        self._intensities: dict[str, dict[str, Intensities]] = {}
        self._tables: holdings.Kept = {}
        self._ledgers: dict[tuple[str, str], Ledger] = {}

    @property
    def names(self) -> list[str]:
        """Names of the images, in the order of `study.toml`."""
        return [entry.name for entry in self.settings.images]

    @property
    def voxel_um(self) -> dict[str, ZYX]:
        """Voxel size of every image: z, y, x in µm."""
        return {entry.name: entry.voxel_um for entry in self.settings.images if entry.voxel_um}

    def entry(self, name: str) -> ImageEntry:
        """Return what `study.toml` says of one image, or raise a ValueError if there is none of that name."""
        if name not in self.names:
            raise ValueError(f"An image must be one of {', '.join(self.names)}; got {name!r}. Choose one.")
        return self.settings.images[self.names.index(name)]

    def image(self, name: str) -> Image:
        """Return one image, lazily read; errors as of `images.open_image`."""
        if name not in self._images:
            self._images[name] = holdings.open_entry(self.entry(name), self.folder)
        return self._images[name]

    def image_fingerprint(self, name: str) -> str:
        """Return what changes when the pixels of an image, or how they are to be read, change."""
        entry = self.entry(name)
        read = [entry.channels, entry.voxel_um, entry.axes, entry.level]
        return fingerprint([*map(fingerprint, entry.files(self.folder)), *read])

    def intensities(self, name: str) -> dict[str, Intensities]:
        """Return the intensities of the signal and background channel; measured once, kept in `images/`."""
        if name not in self._intensities:
            path, seed = self.folder / "images" / f"{name}.json", self.settings.seed
            image, state = self.image(name), self.image_fingerprint(name)
            self._intensities[name] = holdings.keep_intensities(path, image, state=state, seed=seed)
        return self._intensities[name]

    def candidates(self, name: str | None = None) -> pd.DataFrame:
        """Return the candidates of one image or of all, with the calls of a network where there are some.

        If only some images were classified, the others have p NaN, called False and network "".
        """
        names = self.names if name is None else [name]
        return holdings.read_candidates(map(self._candidates_file, names), self._tables)

    def save_candidates(self, name: str, table: pd.DataFrame, *, made_by: Mapping[str, Any]) -> None:
        """Keep the candidates of one image, whole or not at all, together with what made them.

        Parameters
        ----------
        name : str
            The image.
        table : DataFrame
            `tables.CANDIDATE_COLUMNS`, and when classified `tables.CALL_COLUMNS`; others as they come.
        made_by : dict
            Plain values. `stale` compares `diameter_um` and, when classified, `network` and `network_sha256`
            with what is there. The fingerprint of the image is added as `image` if it is not there yet.

        Raises
        ------
        ValueError
            If the table lacks a column, or holds another image or positions outside.
        """
        made_by = {"image": self.image_fingerprint(name), **made_by}
        holdings.write_candidates(self._candidates_file(name), table, image=self.image(name), made_by=made_by)

    def made_by(self, name: str) -> dict[str, Any]:
        """Return what made the candidates of an image, as it was saved with them; {} without candidates."""
        return holdings.read_made_by(self._candidates_file(name))

    def _candidates_file(self, name: str) -> Path:
        return self.folder / "candidates" / f"{self.entry(name).name}.parquet"

    def ledger(self, who: str, *, of: str = "labels") -> Ledger:
        """Return this sitting's ledger of one person, of labels or of boxes; the same one at every call."""
        if (of, who) not in self._ledgers:
            answers = (*self.settings.classes, UNSURE) if of == "labels" else (self.settings.classes[0], DONE)
            self._ledgers[of, who] = Ledger(self.folder / of, who, answers=answers)
        return self._ledgers[of, who]

    def events(self) -> pd.DataFrame:
        """Return all that was ever answered or undone, by all people, in time order."""
        return read_events(self.folder / "labels")

    def labels(self) -> pd.DataFrame:
        """Return the label that counts at every place; answers within a quarter diameter are of one place."""
        return current_labels(self.events(), within_um=SAME_PLACE * self.settings.diameter_um)

    def training_labels(self) -> pd.DataFrame:
        """Return the labels that may train: of training images, not of an audit's places, not unsure.

        A card has `trained_on = {"labels": fingerprint(training_labels), "n": len(training_labels)}`.
        """
        labels = self.labels()
        train = [entry.name for entry in self.settings.images if entry.role == "train"]
        may = labels["image"].isin(train) & labels["answer"].isin(self.settings.classes)
        return labels[may & (labels["origin"] != "audit")].reset_index(drop=True)

    def audit_labels(self) -> pd.DataFrame:
        """Return the newest answer of an audit at each of its places; labels for training leave it alone."""
        events = self.events()
        return current_labels(events[events["origin"] == "audit"], within_um=0.0)

    def labelled_candidates(self) -> pd.DataFrame:
        """Return all candidates with `answer`, `origin`, `weight`, `label` (its id) and `category` of each.

        A label belongs to the candidate within half a diameter of it, one-to-one.
        """
        within = NEAR * self.settings.diameter_um
        table = attach_labels(self.candidates(), self.labels(), voxel_um=self.voxel_um, within_um=within)
        if "called" not in table.columns:
            return table.assign(category="")
        known = table["answer"].isin([*self.settings.classes, UNSURE]) & table["p"].notna()
        answers = table["answer"].where(known, "").to_numpy()
        return table.assign(category=categories(table["called"].to_numpy(), answers, self.settings.classes))

    def truth(self, name: str) -> pd.DataFrame | None:
        """Return the known cells of an image, `z, y, x` in voxels, if `truth/<name>.csv` is there."""
        path = self.folder / "truth" / f"{self.entry(name).name}.csv"
        return read_table(path, {"z": "float64", "y": "float64", "x": "float64"}) if path.exists() else None

    def networks(self) -> list[str]:
        """Return the names of the study's own networks, oldest first."""
        return [card["name"] for card in self.cards()]

    def cards(self) -> list[dict[str, Any]]:
        """Return what the cards of the study's own networks say, oldest first; no network is loaded."""
        return holdings.read_cards(self.folder / "networks")

    def network_folder(self, name: str) -> Path:
        """Return where a network of this name lies or would lie."""
        return self.folder / "networks" / check_name(name, what="network")

    def save_audit(self, name: str, places: pd.DataFrame, record: Mapping[str, Any]) -> None:
        """Freeze the places of an audit, with their weights and how they were drawn.

        Parameters
        ----------
        name : str
            Of the audit; one that is there already is never overwritten.
        places : DataFrame
            `image, frame, z, y, x`, in voxels, `weight` (1 / probability of having been drawn), and others.
        record : dict
            Plain values: `seed`, and what else drew them. The date is added as `at`.

        Raises
        ------
        FileExistsError
            If there is an audit of this name.
        ValueError
            If a column is missing, or a weight is not positive.
        """
        drawn = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **record}
        holdings.write_audit(self._audit_file(name), places, drawn)

    def audit(self, name: str = "audit") -> tuple[pd.DataFrame, dict[str, Any]]:
        """Return the places of an audit and how they were drawn; a ValueError if the file was changed."""
        if name not in self.audits():
            there = ", ".join(self.audits()) or "none"
            raise ValueError(f"An audit must be drawn before it is read; got {name!r}, of {there}. Draw it.")
        return holdings.read_audit(self._audit_file(name))

    def audits(self) -> list[str]:
        """Return the names of the audits, sorted."""
        return sorted(path.stem for path in (self.folder / "audits").glob("*.json"))

    def _audit_file(self, name: str) -> Path:
        return self.folder / "audits" / f"{check_name(name, what='audit')}.json"

    def round_folder(self, n: int) -> Path:
        """Return where the results of round `n`, from 1, lie or would lie."""
        return self.folder / "rounds" / str(n)

    def stale(self) -> list[str]:
        """Return a sentence for everything that was made from something that has changed since."""
        return stale(take_state(self))

    def _repr_html_(self) -> str:
        return as_html(take_state(self))

    def __repr__(self) -> str:
        return as_text(take_state(self))
