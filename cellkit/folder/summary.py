"""A study at one moment as text and as HTML: its tables, what is stale, what to do next."""

from collections.abc import Iterable
from html import escape
from typing import Any

import pandas as pd

from cellkit.folder.state import State, listed, next_step, stale
from cellkit.tables import UNSURE

STYLE = """<style>
.ck-study {color: var(--jp-ui-font-color1, inherit); font-family: var(--jp-ui-font-family, sans-serif)}
.ck-study h4 {margin: .8em 0 .2em; font-size: 1em}
.ck-study p {margin: .3em 0}
.ck-study table {border-collapse: collapse; margin: 0; color: inherit; background: none; font-size: .92em}
.ck-study th, .ck-study td {padding: .15em .8em .15em 0; text-align: left; background: none;
  border: 0; border-bottom: 1px solid var(--jp-border-color2, rgba(127, 127, 127, .35))}
.ck-study .ck-number {text-align: right; font-variant-numeric: tabular-nums}
.ck-study .ck-stale {border-left: 3px solid var(--jp-warn-color1, #d55e00); padding-left: .6em}
.ck-study .ck-next {border-left: 3px solid var(--jp-brand-color1, #0072b2); padding-left: .6em}
</style>"""


def image_table(state: State) -> pd.DataFrame:
    """Return one row for each image: animal, role, voxel size, shape, candidates, calls and labels."""
    positive = state.settings.classes[0]
    rows = []
    for entry in state.settings.images:
        image = state.images[entry.name]
        here = state.candidates[state.candidates["image"] == entry.name]
        network = image["made_by"].get("network", "")
        row: dict[str, Any] = {"image": entry.name, "animal": entry.animal, "role": entry.role}
        row |= {"channels": ", ".join(entry.channels), "voxel (µm)": _times(entry.voxel_um or ())}
        row |= {"shape": _shape(image["shape"]), "candidates": len(here)}
        row |= {f"called {positive}": int(here["called"].sum()) if network else "", "by": network}
        rows.append(row | {"labels": int((state.labels["image"] == entry.name).sum())})
    return pd.DataFrame(rows)


def label_table(state: State) -> pd.DataFrame:
    """Return one row for each animal and one for all: labels by answer, and how many are of an audit."""
    animals = {entry.name: entry.animal for entry in state.settings.images}
    labels = state.labels.assign(animal=state.labels["image"].map(animals).fillna("(not in the study)"))
    answers = list(dict.fromkeys([*state.settings.classes, UNSURE, *labels["answer"]]))
    groups = [*((str(animal), part) for animal, part in labels.groupby("animal")), ("all", labels)]
    return pd.DataFrame(
        [
            {"animal": animal}
            | {answer: int((part["answer"] == answer).sum()) for answer in answers}
            | {"of an audit": int((part["origin"] == "audit").sum())}
            for animal, part in groups
        ]
    )


def network_table(state: State) -> pd.DataFrame:
    """Return one row for each of the study's own networks, oldest first."""
    return pd.DataFrame(
        [
            {
                "network": card["name"],
                "from": (list(card.get("parents", [])) or ["the start"])[-1].split(" (")[0],
                "labels": card.get("trained_on", {}).get("n", ""),
                "F1": _f1(card.get("metrics", {})),
                "made": str(card.get("made_at", ""))[:16].replace("T", " "),
            }
            for card in state.cards
        ]
    )


def category_line(state: State) -> str:
    """Return how many labelled candidates stand in each category: "correct cell 12 · missed cell 3"."""
    named = state.candidates.loc[state.candidates["category"] != "", "category"]
    return " · ".join(f"{category} {n}" for category, n in named.value_counts().sort_index().items())


def as_text(state: State) -> str:
    """Return the study as plain text, for a terminal."""
    parts = [f"{_title(state)} in {state.folder}", image_table(state).to_string(index=False)]
    if len(state.labels):
        parts += [label_table(state).to_string(index=False), category_line(state)]
    if state.cards:
        parts.append(network_table(state).to_string(index=False))
    parts += [
        f"Audit {row.name}: {row.answered} of {row.places} answered"
        for row in state.audits.itertuples(index=False)
    ]
    parts += [
        f"Boxes {row.name}: {row.done} of {row.boxes} done" for row in state.boxes.itertuples(index=False)
    ]
    parts += [f"Stale: {sentence}" for sentence in stale(state)]
    return "\n".join(part for part in [*parts, f"Next: {next_step(state)}"] if part)


def as_html(state: State) -> str:
    """Return the study as HTML that stands in a light and in a dark notebook; all text is escaped."""
    parts = [
        f"<p><b>{escape(_title(state))}</b> in {escape(state.folder)}</p>",
        _html_table("Images", image_table(state)),
    ]
    if len(state.labels):
        parts += [_html_table("Labels", label_table(state)), f"<p>{escape(category_line(state))}</p>"]
    parts.append(_html_table("Networks", network_table(state)))
    parts += [_html_table("Audits", state.audits), _html_table("Boxes", state.boxes)]
    for sentence in stale(state):
        parts.append(f'<p class="ck-stale">Stale: {escape(sentence)}</p>')
    parts.append(f'<p class="ck-next">Next: {escape(next_step(state))}</p>')
    return f'{STYLE}<div class="ck-study">{"".join(parts)}</div>'


def _title(state: State) -> str:
    settings = state.settings
    about = f"task {settings.task}, diameter {settings.diameter_um:g} µm"
    return f"Study of {listed(settings.classes)} ({about})"


def _html_table(title: str, table: pd.DataFrame) -> str:
    if table.empty:
        return ""
    number = {name: pd.api.types.is_numeric_dtype(table[name]) for name in table.columns}

    def cells(tag: str, values: Iterable[Any]) -> str:
        kinds = (' class="ck-number"' if right else "" for right in number.values())
        return "".join(
            f"<{tag}{kind}>{escape(str(value))}</{tag}>" for kind, value in zip(kinds, values, strict=True)
        )

    head = cells("th", table.columns)
    rows = "".join(f"<tr>{cells('td', row)}</tr>" for row in table.itertuples(index=False))
    return f"<h4>{escape(title)}</h4><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _f1(metrics: dict[str, Any]) -> str:
    """Return every F1 that a card states, with its interval and where it was measured."""
    said = []
    for source, values in metrics.items():
        f1 = values.get("f1") if isinstance(values, dict) else None
        if isinstance(f1, dict) and f1.get("value") is not None:
            low, high = f1.get("low"), f1.get("high")
            interval = f" ({low:.2f} to {high:.2f})" if low is not None and high is not None else ""
            said.append(f"{f1['value']:.2f}{interval}, {source}")
    return "; ".join(said)


def _times(lengths: Iterable[float]) -> str:
    return " × ".join(f"{length:g}" for length in lengths)


def _shape(shape: tuple[int, ...] | None) -> str:
    if not shape:
        return ""
    t, _, z, y, x = shape
    return _times((z, y, x)) + (f", {t} frames" if t > 1 else "")
