"""One page to keep and to send: all numbers of a study's networks, their figures, and what they rest on."""

import base64
import io
import os
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from cellkit.folder.disk import fingerprint, write_json, write_text, writing
from cellkit.ledger import read_events
from cellkit.measuring.assessment import Assessment
from cellkit.measuring.audits import find_network, newest_network, read_audit
from cellkit.measuring.methods import methods_table, versions
from cellkit.measuring.quality import agreements
from cellkit.plots import (
    plot_calibration,
    plot_confusion,
    plot_counts,
    plot_gallery,
    plot_metrics,
    plot_precision_recall,
)
from cellkit.reassess import Comparison, assess, compare, counts
from cellkit.review import errors
from cellkit.study import Study
from cellkit.tables import write_table

HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width"><style>{style}</style></head>
"""
STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.4rem; }
.verdict { font-size: 1.1rem; padding: .8rem 1rem; border-left: 4px solid #0072B2;
  background: color-mix(in srgb, #0072B2 10%, transparent); }
table { border-collapse: collapse; font-size: .9rem; display: block; overflow-x: auto; }
th, td { padding: .3rem .7rem; text-align: right; font-variant-numeric: tabular-nums;
  border-bottom: 1px solid color-mix(in srgb, currentColor 18%, transparent); }
th:first-child, td:first-child, td.text { text-align: left; }
td:first-child { white-space: nowrap; }
table.text th, table.text td { text-align: left; vertical-align: top; }
figure { display: inline-block; margin: .6rem .6rem .6rem 0; max-width: 100%; vertical-align: top; }
figure img { max-width: 100%; height: auto; } figcaption, .quiet { font-size: .85rem; opacity: .75; }
code { font-size: .85em; overflow-wrap: anywhere; }
"""
CROPS = "Signal above, background below; p is the network's, the letter is the person's answer."
COUNTS = (
    "Naive: candidates called. Corrected: with the errors that the audit found taken out, and its 95 % "
    "interval. Missed: by the detector; total: with them. Hidden: so many more may hide where the audit saw "
    "none. More: further answers until the interval is 10 % to either side. Adjusted and em are for "
    "comparison; the warning says where the audit contradicts them."
)


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
    last = found[-1]
    wrong = errors(study, last.network).head(24)
    rows = -(-len(wrong) // 8)
    title = f"How good is {last.network}, and how many {study.settings.classes[0]}s are there?"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="verdict">{escape(said["verdict"])}</p>',
        "<h2>Networks on the audit</h2>",
        _figure(plot_metrics, found, alt="Metrics of the networks with 95 % intervals", size=(5.2, 3.2)),
        _table(comparison.table.reset_index() if comparison else _rounded(last.metrics)),
        _list([*dict.fromkeys(note for each in found for note in each.notes), agreements(study).sentence]),
        f"<h2>Where {escape(last.network)} and the person stand</h2>",
        _figure(plot_confusion, last, alt="Answers by call"),
        _figure(plot_precision_recall, last, alt="Precision against recall"),
        _figure(plot_calibration, last, alt="How often candidates of like p are cells"),
        "<h2>Metrics of each animal</h2>",
        _table(_rounded(last.per_animal)),
        "<h2>Counts</h2>",
        _figure(plot_counts, counted, alt="Counts with intervals", size=(5.6, 0.9 + 0.45 * len(counted))),
        _table(counted.drop(columns=["note", "warning"])),
        _list(_remarks(counted)),
        f'<p class="quiet">{escape(COUNTS)}</p>',
        "<h2>Surest mistakes</h2>" if len(wrong) else "",
        _figure(plot_gallery, study, wrong, alt="Crops", size=(8, 2.3 * rows), caption=CROPS) if rows else "",
        "<h2>For the methods section</h2>",
        _table(methods, kind="text"),
        "<h2>What this rests on</h2>",
        _tree(said["rests_on"]),
    ]
    body = "\n".join(part for part in parts if part)
    return HEAD.format(title=escape(title), style=STYLE) + f"<body>\n{body}\n</body></html>\n"


def _figure(
    plot: Callable[..., Any],
    *shown: Any,
    alt: str,
    size: tuple[float, float] = (4.6, 3.4),
    caption: str = "",
) -> str:
    """Return a figure as a picture within the page; pyplot and its windows are not touched."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    plot(*shown, ax=figure.subplots())
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    text = base64.b64encode(buffer.getvalue()).decode()
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    picture = f'<img width="{96 * size[0]:.0f}" alt="{escape(alt)}" src="data:image/png;base64,{text}">'
    return f"<figure>{picture}{below}</figure>"


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    numbers = table.select_dtypes("float").columns
    shown = table.assign(**{name: table[name].map("{:.3f}".format) for name in numbers})
    unknown = table["value"].isna()
    return shown.assign(
        value=shown["value"].where(~unknown, "cannot be said"),
        low=shown["low"].where(~unknown, ""),
        high=shown["high"].where(~unknown, ""),
    )


def _table(table: pd.DataFrame, *, kind: str = "numbers") -> str:
    shown = table.astype(object).where(table.notna(), "")
    return shown.to_html(index=False, border=0, escape=True, classes=kind)


def _remarks(counted: pd.DataFrame) -> list[str]:
    """Return what each count rests on, and what the audit says against the counts for comparison."""
    both = counted[["animal", "note", "warning"]].itertuples(index=False)
    return [
        f"{row.animal}: {row.note}." + (f" For comparison, {row.warning}." if row.warning else "")
        for row in both
    ]


def _list(notes: Any) -> str:
    return "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>"


def _tree(basis: dict[str, Any]) -> str:
    """Return nested values as a table of two columns, everything escaped."""
    rows = []
    for key, value in basis.items():
        if isinstance(value, dict):
            inner = "<br>".join(f"{escape(str(k))}: <code>{escape(str(v))}</code>" for k, v in value.items())
        else:
            inner = f"<code>{escape(str(value))}</code>"
        rows.append(f"<tr><td>{escape(key.replace('_', ' '))}</td><td class='text'>{inner}</td></tr>")
    return f"<table>{''.join(rows)}</table>"
