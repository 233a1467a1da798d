"""One page to keep and to send: all numbers of a study's networks, their figures, and what they rest on."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cellkit import chapters, pages
from cellkit.folder.disk import fingerprint, write_json, write_text, writing
from cellkit.ledger import read_events
from cellkit.measuring.advice import advise
from cellkit.measuring.assessment import Assessment
from cellkit.measuring.audits import find_network, newest_network, read_audit
from cellkit.measuring.methods import methods_table, versions
from cellkit.measuring.quality import agreements
from cellkit.reassess import Comparison, assess, compare, counts
from cellkit.study import Study
from cellkit.tables import write_table


def write_report(
    study: Study,
    networks: Sequence[str] | None = None,
    *,
    audit: str = "audit",
    folder: str | os.PathLike[str] | None = None,
) -> Path:
    """Measure networks on an audit and write `report.html` and its numbers; return the page's path.

    Beside the page lie `assessment.json`, and as tables `counts.csv` and `methods.csv`.

    The page asks nothing of any server: its figures are in it. The same study gives the same page.

    Parameters
    ----------
    study : Study
        With an answered audit.
    networks : sequence of str, optional
        Names, the oldest first; cells are counted by the last. If left out, the one whose calls the audit was
        drawn by and the newest.
    audit : str
        Name of the audit.
    folder : path, optional
        Where to write; `rounds/<n>` of the study if left out, n being the number of its own networks.

    Raises
    ------
    ValueError
        As `reassess.assess`.
    """
    places, record = read_audit(study, audit)
    names = list(dict.fromkeys(networks or [str(places["network"].iloc[0]), newest_network(study)]))
    comparison = compare(study, names, audit=audit) if len(names) > 1 else None
    found = comparison.assessments if comparison else (assess(study, names[0], audit=audit),)
    counted = counts(study, names[-1], audit=audit)
    basis = _basis(study, names, audit=audit, record=record)
    folder = study.round_folder(max(1, len(study.networks()))) if folder is None else Path(folder)
    with writing(folder, what="The folder of the report"):
        said = {
            "verdict": comparison.verdict if comparison else _sentence(found[-1]),
            "advice": advise(study, audit=audit).sentence,
            "networks": [each.as_dict() for each in found],
            "counts": counted.astype(object).where(counted.notna(), None).to_dict("records"),
            "rests_on": basis,
        }
        write_json(folder / "assessment.json", said)
        methods = methods_table(study, found, counted, verdict=said["verdict"])
        write_table(counted, folder / "counts.csv")
        write_table(methods, folder / "methods.csv")
        page = _page(study, said, found=found, comparison=comparison, counted=counted, methods=methods)
        return write_text(folder / "report.html", page)


def _sentence(found: Assessment) -> str:
    value, low, high = found.interval("F1")
    if pd.isna(value):
        return f"{found.network} has no F1 over {found.over}: no audited place is a {found.classes[0]}."
    return f"{found.network} has an F1 of {value:.3f} ({low:.3f} to {high:.3f}) over {found.over}."


def _basis(study: Study, names: list[str], *, audit: str, record: dict[str, Any]) -> dict[str, Any]:
    """Return what the numbers rest on: versions, networks, images, the draw and the labels."""
    cards = [find_network(study, name).card for name in names]
    labels = study.labels()
    return {
        "study": fingerprint((study.folder / "study.toml").read_text(encoding="utf-8")),
        "networks": {card.name: card.sha256 for card in cards},
        "images": {name: study.image_fingerprint(name) for name in study.names},
        "candidates": {name: fingerprint(study.candidates(name)) for name in study.names},
        "audit": {"name": audit, "drawn": record["at"], "seed": record["seed"]},
        "strata": {
            name: f"{each['places']} of {each['candidates']} candidates"
            for name, each in record["strata"].items()
        },
        "labels": fingerprint(labels),
        "audited": fingerprint(study.audit_labels()),
        "marked": fingerprint(read_events(study.folder / "boxes")),
        "labels_by_origin": {str(k): int(n) for k, n in labels["origin"].value_counts().sort_index().items()},
        "last_label": str(study.events()["at"].max()),
        "versions": versions(),
    }


def _page(
    study: Study,
    said: dict[str, Any],
    *,
    found: tuple[Assessment, ...],
    comparison: Comparison | None,
    counted: pd.DataFrame,
    methods: pd.DataFrame,
) -> str:
    last, people = found[-1], agreements(study)
    title = f"How good is {last.network}, and how many {study.settings.classes[0]}s are there?"
    parts = [
        pages.paragraph(said["verdict"], kind="verdict"),
        chapters.key_figures(last, counted, people),
        pages.paragraph(said["advice"]),
        *chapters.on_the_audit(study, found, comparison, people),
        *chapters.where_they_stand(last),
        *chapters.per_animal(last, comparison),
        *chapters.on_counts(study, last, counted),
        *chapters.mistakes(study, last.network),
        pages.heading("For the methods section"),
        pages.table(methods, kind="text"),
        pages.heading("What this rests on"),
        pages.tree(said["rests_on"]),
    ]
    return pages.page(title, parts)
