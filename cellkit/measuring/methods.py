"""What a methods section needs: data, labels, networks, audit, metrics, counts, and what they rest on."""

import platform
from importlib.metadata import version
from typing import Any

import pandas as pd

from cellkit import __version__
from cellkit.folder.disk import fingerprint
from cellkit.measuring.assessment import Assessment
from cellkit.measuring.audits import find_network
from cellkit.measuring.boxes import read_boxes
from cellkit.measuring.misses import box_marks, missed_cells
from cellkit.measuring.quality import agreements
from cellkit.study import Study
from cellkit.tables import UNSURE

PACKAGES = ("keras", "tensorflow", "openvino", "numpy", "scipy", "pandas", "scikit-learn")
COLUMNS = ["section", "item", "value"]


def methods_table(
    study: Study, found: tuple[Assessment, ...], counted: pd.DataFrame, *, verdict: str
) -> pd.DataFrame:
    """Return what a reader must know to judge a count, as rows `section, item, value`, all of them text.

    Parameters
    ----------
    study : Study
    found : tuple of Assessment
        Of the networks that are reported, the oldest first; cells are counted by the last.
    counted : DataFrame
        As `reassess.counts` returns it.
    verdict : str
        What the comparison says.
    """
    audit = found[-1].audit
    rows = [
        *_data(study),
        *_labels(study),
        *(row for each in found for row in _network(study, each)),
        *_audit(study, audit),
        *_boxes(study),
        ("result", "verdict", verdict),
        *_counts(counted),
        *(("versions", name, number) for name, number in versions().items()),
    ]
    return pd.DataFrame([tuple(map(str, row)) for row in rows], columns=COLUMNS)


def versions() -> dict[str, str]:
    """Return the versions of cellkit, Python and what computes."""
    return {"cellkit": __version__, "Python": platform.python_version()} | {
        name: version(name) for name in PACKAGES
    }


Row = tuple[str, str, Any]


def _data(study: Study) -> list[Row]:
    settings = study.settings
    rows: list[Row] = [
        ("data", "task", f"{settings.task} ({' or '.join(settings.classes)})"),
        ("data", "cell diameter", f"{settings.diameter_um:g} µm"),
    ]
    for entry in settings.images:
        image, made = study.image(entry.name), study.made_by(entry.name)
        voxel = " x ".join(f"{length:g}" for length in image.voxel_um)
        size = " x ".join(str(n) for n in image.shape[2:])
        said = f"{entry.animal}, role {entry.role}, {', '.join(entry.channels)}; {size} voxels of {voxel} µm"
        rows.append(("data", f"image {entry.name}", f"{said}; hash {study.image_fingerprint(entry.name)}"))
        how = ", ".join(
            f"{key} {made[key]}" for key in ("method", "min_score", "min_distance") if key in made
        )
        n = len(study.candidates(entry.name))
        rows.append(("data", f"candidates of {entry.name}", f"{n}; {how}".rstrip("; ")))
    return rows


def _labels(study: Study) -> list[Row]:
    labels = study.labels()
    answers = labels["answer"].value_counts()
    kinds = ", ".join(f"{answers.get(name, 0)} {name}" for name in (*study.settings.classes, UNSURE))
    origins = ", ".join(f"{n} {name}" for name, n in labels["origin"].value_counts().sort_index().items())
    people = ", ".join(sorted(set(study.events()["who"])))
    return [
        ("labels", "answers", kinds),
        ("labels", "why shown", origins),
        ("labels", "people", people),
        ("labels", "agreement", agreements(study).sentence),
        ("labels", "hash", fingerprint(labels)),
    ]


def _network(study: Study, found: Assessment) -> list[Row]:
    card, section = find_network(study, found.network).card, f"network {found.network}"
    taught = card.trained_on
    rows: list[Row] = [
        (section, "trained on", f"{taught.get('n', taught.get('labels', 'unknown'))} labels"),
        (section, "descends from", ", ".join(card.parents) or "the start"),
        (section, "threshold on p", f"{card.threshold:.3f}"),
        (section, "sha256", card.sha256),
    ]
    for row in found.metrics[found.metrics["over"] == found.over].itertuples(index=False):
        said = (
            "cannot be said" if pd.isna(row.value) else f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f})"
        )
        rows.append((section, row.metric, f"{said}; {row.n} answers over {found.over}"))
    error = found.calibration
    chance = f"{error.value:.3f}; a perfect network stays below {error.chance:.3f}"
    return [*rows, (section, "calibration error", chance), *((section, "note", note) for note in found.notes)]


def _audit(study: Study, name: str) -> list[Row]:
    places, record = study.audit(name)
    labels = study.audit_labels()
    draws = f"{len(places)} places in {record['phases']} draws, the first at {record['at']}"
    return [
        ("audit", "draw", f"{draws}, seed {record['seed']}"),
        ("audit", "answered by", ", ".join(sorted(set(labels["who"])))),
        ("audit", "hash", fingerprint(places)),
        *(
            ("audit", f"stratum {stratum}", f"{each['places']} of {each['candidates']} candidates")
            for stratum, each in record["strata"].items()
        ),
    ]


def _boxes(study: Study) -> list[Row]:
    rows: list[Row] = []
    for file in sorted((study.folder / "boxes").glob("*.json")):
        boxes, record = read_boxes(study, file.stem)
        done = f"{int(boxes['done'].sum())} of {len(boxes)} boxes of {record['side_um']:g} µm done"
        rows.append(("missed cells", f"boxes {file.stem}", f"{done}; seed {record['seed']}"))
        if boxes.loc[boxes["done"], "times"].sum() > 1 and len(box_marks(study, file.stem)):
            rows.append(("missed cells", "recall of the detector", missed_cells(study, file.stem).sentence))
    return rows


def _counts(counted: pd.DataFrame) -> list[Row]:
    rows: list[Row] = []
    for row in counted.to_dict("records"):
        said = f"{row['corrected']:,} ({row['low']:,} to {row['high']:,}); {row['naive']:,} called"
        if pd.notna(row["total"]):
            ends = f"{row['total']:,.0f} ({row['total_low']:,.0f} to {row['total_high']:,.0f})"
            said = f"{ends} with missed cells; {said}"
        rows.append(("count (95 % interval)", row["animal"], f"{said}; {row['note']}"))
    return rows
