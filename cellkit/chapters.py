"""The chapters of a report, each a list of HTML parts: key figures, the audit, animals, counts, mistakes."""

import pandas as pd

from cellkit import pages
from cellkit.estimates import Interval
from cellkit.measuring.assessment import Assessment
from cellkit.measuring.counting import counts_by_person
from cellkit.measuring.quality import Agreements
from cellkit.plots import (
    plot_calibration,
    plot_confusion,
    plot_counts,
    plot_gallery,
    plot_metrics,
    plot_precision_recall,
)
from cellkit.reassess import Comparison, changes
from cellkit.review import errors
from cellkit.study import Study

CROPS = "Signal above, background below; p is the network's, the letter is the person's answer."
CHANGES = "p of the first and of the last network; the letter is the person's answer."
COUNTS = (
    "Called: by the network, as they are. Corrected: with the errors that the audit found taken out, and its "
    "95 % interval. Total: with the cells that the detector missed. May hide: so many more where the audit "
    "saw none. For ± 10 %: label about so many more places of the audit, and the corrected count is known to "
    "10 % either way. Adjusted and EM are for comparison; below stands where the audit contradicts them."
)
SHOWN = ("precision", "recall", "F1", "specificity", "average precision")


def key_figures(last: Assessment, counted: pd.DataFrame, people: Agreements) -> str:
    """Return the figures that a reader looks for first: F1, the count, a person's own F1, what measured."""
    every, cell = counted.iloc[-1], last.classes[0]
    whole = pd.notna(every["total"])
    names = ("total", "total_low", "total_high") if whole else ("corrected", "low", "high")
    value, low, high = (every[name] for name in names)
    missed = "with those the detector missed" if whole else "without those the detector missed"
    told = [
        (f"F1 of {last.network}", *_bare(last.interval("F1"), last.over)),
        (f"{cell}s in all", f"{value:,.0f}", f"{low:,.0f} to {high:,.0f}, {missed}"),
    ]
    if people.ceiling is not None:
        asked = f"{people.ceiling.n} places"
        told.append(("F1 of a person, asked twice", *_bare(people.ceiling.positive, asked)))
    measure = f"{len(last.places):,} of them measure {last.network}"
    return pages.cards([*told, ("audited places", f"{len(last.everywhere):,}", measure)])


def _bare(interval: Interval, over: str) -> tuple[str, str]:
    if pd.isna(interval.value):
        return "cannot be said", over
    return f"{interval.value:.2f}", f"{interval.low:.2f} to {interval.high:.2f}, {over}"


def on_the_audit(
    study: Study, found: tuple[Assessment, ...], comparison: Comparison | None, people: Agreements
) -> list[str]:
    """Return networks side by side, what a reader must know, and what the last network fixed and broke."""
    last, alt = found[-1], "Metrics of the networks with 95 % intervals"
    over = last.metrics["over"] == last.over
    alone = _as_text(last.metrics[over], ["metric"])
    parts = [
        pages.heading("Networks on the audit"),
        pages.figure(plot_metrics, found, alt=alt, size=(6.4, 3.4), ceiling=people.ceiling),
        pages.table(alone if comparison is None else comparison.table.reset_index()),
        pages.notes([*dict.fromkeys(note for each in found for note in each.notes), people.sentence]),
    ]
    if comparison is not None:
        changed, first = changes(comparison), found[0].network
        for kind, verb, was in (("fixed", "fixed", "wrong"), ("broken", "broke", "right")):
            some = changed[changed["category"] == kind]
            title = f"What {last.network} {verb}: {len(some)} places that {first} called {was}"
            parts += [pages.heading(title), _crops(study, some.head(16), CHANGES) if len(some) else ""]
    return parts


def _crops(study: Study, places: pd.DataFrame, caption: str) -> str:
    size = (8, 2.3 * -(-len(places) // 8))
    return pages.figure(plot_gallery, study, places, alt="Crops", size=size, caption=caption)


def where_they_stand(last: Assessment) -> list[str]:
    """Return the four categories, what another threshold would give, and whether p can be believed."""
    candidates = _as_text(last.categories, ["category", "answers"], ("candidates", "low", "high"), digits=0)
    return [
        pages.heading(f"Where {last.network} and the person stand"),
        pages.side_by_side(
            pages.figure(plot_confusion, last, alt="Answers by call"),
            pages.figure(plot_precision_recall, last, alt="Precision against recall"),
            pages.figure(plot_calibration, last, alt="How often candidates of like p are cells"),
            pages.table(candidates),
        ),
    ]


def per_animal(last: Assessment, comparison: Comparison | None) -> list[str]:
    """Return the metrics of every animal with strata of its own, one row each; nothing without any."""
    if last.per_animal.empty:
        return []
    table = _as_text(last.per_animal, ["animal", "role", "metric"], digits=2)
    wide = table.pivot(index=["animal", "role"], columns="metric", values="value")[list(SHOWN)]
    if comparison is not None:
        gain = comparison.per_animal.query("metric == 'F1'")
        said = _as_text(gain, ["animal"], digits=2, sign="+").set_index("animal")["value"]
        wide["change of F1"] = [said.get(animal, "") for animal, _ in wide.index]
    return [pages.heading("Each animal"), pages.table(wide.reset_index().rename_axis(columns=None))]


def on_counts(study: Study, last: Assessment, counted: pd.DataFrame) -> list[str]:
    """Return the counts with their intervals, by whoever answered, and what each rests on."""
    shown = counted[["animal"]].assign(
        candidates=_whole(counted["candidates"]), called=_whole(counted["naive"])
    )
    shown["corrected"] = _as_text(counted, [], ("corrected", "low", "high"), digits=0)["corrected"]
    if counted["total"].notna().any():
        total = _as_text(counted, [], ("total", "total_low", "total_high"), digits=0)["total"]
        shown = shown.assign(missed=_whole(counted["missed"]), total=total)
    compared = {"may hide": "hidden", "for ± 10 %": "more", "adjusted": "adjusted", "EM": "em"}
    shown = shown.assign(**{name: _whole(counted[column]) for name, column in compared.items()})
    by_person = counts_by_person(study, last.network, audit=last.audit)
    several = [
        pages.paragraph("Counted by the answers of each person who answered the audit:"),
        pages.table(by_person.rename(columns={"why_not": "why not"})),
    ]
    tall = 1.3 + 0.45 * len(counted)
    return [
        pages.heading("Counts"),
        pages.figure(plot_counts, counted, alt="Counts with intervals", size=(6.4, tall)),
        pages.table(shown, kind="numbers last"),
        pages.paragraph(COUNTS, kind="quiet"),
        pages.notes(_remarks(counted)),
        *(several if len(by_person) > 1 else []),
    ]


def mistakes(study: Study, network: str) -> list[str]:
    """Return the surest mistakes among all labelled candidates; nothing without any."""
    wrong = errors(study, network).head(24)
    return [pages.heading("Surest mistakes"), _crops(study, wrong, CROPS)] if len(wrong) else []


def _as_text(
    table: pd.DataFrame,
    kept: list[str],
    names: tuple[str, ...] = ("value", "low", "high"),
    *,
    digits: int = 3,
    sign: str = "",
) -> pd.DataFrame:
    """Return the columns that are kept, and a figure with its interval as text under the figure's name."""
    rows = table[list(names)].itertuples(index=False)
    text = [pages.interval_text(*row, digits=digits, sign=sign) for row in rows]
    return table[kept].assign(**{names[0]: text})


def _whole(column: pd.Series) -> list[str]:
    return ["" if pd.isna(n) else f"{n:,.0f}" for n in column]


def _remarks(counted: pd.DataFrame) -> list[str]:
    """Return what each count rests on, and what the audit says against the counts for comparison."""
    both = counted[["animal", "note", "warning"]].itertuples(index=False)
    return [
        f"{row.animal}: {row.note}." + (f" For comparison, {row.warning}." if row.warning else "")
        for row in both
    ]
