"""One HTML page that asks nothing of any server: pictures in it, tables, notes; light, dark, on paper."""

import base64
import io
from collections.abc import Callable, Iterable
from html import escape
from typing import Any

import pandas as pd

DPI = 144
STYLE = """
:root { color-scheme: light dark; --blue: #0072B2;
  --line: color-mix(in srgb, currentColor 16%, transparent); }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; max-width: 64rem;
  margin: 2.5rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 1.2rem; }
h2 { font-size: 1.2rem; margin: 3rem 0 .8rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
.verdict { font-size: 1.1rem; padding: .9rem 1.1rem; border-left: 4px solid var(--blue);
  border-radius: 0 6px 6px 0; background: color-mix(in srgb, var(--blue) 9%, transparent); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem;
  margin: 1.2rem 0; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: .7rem .9rem; }
.card b { display: block; font-size: 1.6rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.card span, figcaption, .quiet { font-size: .85rem; opacity: .75; }
.card span { display: block; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; min-width: 50%; }
th, td { padding: .32rem .75rem; text-align: right; font-variant-numeric: tabular-nums; vertical-align: top;
  border-bottom: 1px solid var(--line); }
thead th { font-weight: 600; border-bottom: 2px solid var(--line); vertical-align: bottom; }
tbody tr:last-child td { border-bottom: 0; }
th:first-child, td:first-child, td.text { text-align: left; }
th, td { white-space: nowrap; }
table.last tbody tr:last-child td { font-weight: 600; border-top: 2px solid var(--line); }
table.text th, table.text td { text-align: left; }
table.text td, td.text { white-space: normal; overflow-wrap: anywhere; }
table.text td:first-child { white-space: nowrap; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
figure { margin: .4rem 0; max-width: 100%; }
figure img { max-width: 100%; height: auto; display: block; }
code { font-size: .85em; overflow-wrap: anywhere; }
li { margin: .2rem 0; }
@media print {
  :root { color-scheme: light; }
  body { font-size: 10.5pt; margin: 0; padding: 0; max-width: none; }
  h2 { margin-top: 1.6rem; break-after: avoid; }
  figure, .card, .verdict, tr { break-inside: avoid; }
  .verdict, .card { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .wide { overflow: visible; } table { font-size: 8.5pt; }
  th, td { padding: .2rem .45rem; white-space: normal; }
}
"""


def page(title: str, parts: Iterable[str]) -> str:
    """Return a whole page of these parts, HTML each; empty ones are left out."""
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title>\n"
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f"<body>\n<h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def heading(text: str) -> str:
    """Return the heading of a section."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str, *, kind: str = "") -> str:
    """Return a paragraph; `kind` is "verdict" or "quiet", or nothing."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def cards(told: Iterable[tuple[str, str, str]]) -> str:
    """Return key figures side by side, each as (what it is, the figure, what it rests on)."""
    each = (
        f"<span>{escape(what)}</span><b>{escape(number)}</b><span>{escape(basis)}</span>"
        for what, number, basis in told
    )
    inner = "".join(f'<div class="card">{one}</div>' for one in each)
    return f'<div class="cards">{inner}</div>'


def figure(
    plot: Callable[..., Any],
    *shown: Any,
    alt: str,
    size: tuple[float, float] = (4.6, 3.4),
    caption: str = "",
    **how: Any,
) -> str:
    """Return a figure as a picture within the page; pyplot and its windows are not touched.

    Parameters
    ----------
    plot : callable
        Takes `shown`, `ax=`, and further arguments by keyword.
    alt : str
        What it shows, for those who do not see it.
    size : tuple of 2 float
        In inches.
    caption : str
        Below it.
    """
    from matplotlib.figure import Figure

    drawn = Figure(figsize=size, layout="constrained")
    plot(*shown, ax=drawn.subplots(), **how)
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    text = base64.b64encode(buffer.getvalue()).decode()
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    picture = f'<img width="{96 * size[0]:.0f}" alt="{escape(alt)}" src="data:image/png;base64,{text}">'
    return f"<figure>{picture}{below}</figure>"


def side_by_side(*figures: str) -> str:
    """Return figures in rows, as many in each as there is room for."""
    return f'<div class="figures">{"".join(figures)}</div>'


def table(shown: pd.DataFrame, *, kind: str = "numbers") -> str:
    """Return a table, all in it escaped, NaN as nothing; the last row is bold if "last" is in its kind."""
    cells = shown.astype(object).where(shown.notna(), "")
    return f'<div class="wide">{cells.to_html(index=False, border=0, escape=True, classes=kind)}</div>'


def notes(sentences: Iterable[str]) -> str:
    """Return sentences as a list; nothing without any."""
    said = "".join(f"<li>{escape(note)}</li>" for note in sentences)
    return f"<ul>{said}</ul>" if said else ""


def tree(values: dict[str, Any]) -> str:
    """Return nested values as a table of two columns."""
    rows = []
    for key, value in values.items():
        if isinstance(value, dict):
            inner = "<br>".join(f"{escape(str(k))}: <code>{escape(str(v))}</code>" for k, v in value.items())
        else:
            inner = f"<code>{escape(str(value))}</code>"
        rows.append(f"<tr><td>{escape(key.replace('_', ' '))}</td><td class='text'>{inner}</td></tr>")
    return f'<div class="wide"><table>{"".join(rows)}</table></div>'


def interval_text(value: float, low: float, high: float, *, digits: int = 3, sign: str = "") -> str:
    """Return a figure with its interval, "cannot be said" where it is NaN; `sign` "+" is for differences."""
    if pd.isna(value):
        return "cannot be said"
    how = f"{sign},.{digits}f"
    return f"{value:{how}} ({low:{how}} to {high:{how}})"
