"""Figures to click into: what stands behind a number opens in a gallery below it."""

import warnings
from itertools import count
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np
import pandas as pd

from cellkit.annotate import embedding_map
from cellkit.estimates import reliability
from cellkit.labels.choosing import at_threshold, inside_outline, places_of_bin, places_of_cell
from cellkit.labels.points import queue_of
from cellkit.measuring.assessment import Assessment
from cellkit.study import Study
from cellkit.widgets.surface import Surface

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 100
NUMBERS = count(1)
FROM_MAP = 200
BINS = 8
NEAR_POINT = 0.08  # of the axes' length


def canvas_of(size: tuple[float, float]) -> tuple["Figure", Any]:
    """Return a figure of this size in inches and the widget that shows it and hears the pointer."""
    from ipympl.backend_nbagg import Canvas, FigureManager
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    figure.patch.set_alpha(0)
    canvas = Canvas(figure)
    with warnings.catch_warnings():  # ipympl 0.10 makes its toolbar in a way that traitlets will drop
        warnings.simplefilter("ignore", DeprecationWarning)
        FigureManager(canvas, next(NUMBERS))
    canvas.header_visible = canvas.footer_visible = canvas.toolbar_visible = False
    canvas.resizable = False
    return figure, canvas


class ConfusionMatrix(Surface):
    """The confusion matrix of an assessment; a click on one of its cells opens its places in a gallery.

    Parameters
    ----------
    study : Study
    assessment : Assessment
        From `reassess.assess`.
    who : str
        In whose name answers are saved. Answers given here are not blind: they mend training, and the audit
        goes on with its first ones.
    """

    def __init__(self, study: Study, assessment: Assessment, *, who: str = "me") -> None:
        from cellkit.plots import plot_confusion

        self.assessment = assessment
        self.figure, self.canvas = canvas_of((4.4, 3.6))
        plot_confusion(assessment, ax=self.figure.add_subplot())
        self.canvas.mpl_connect("button_release_event", self._clicked)
        classes = assessment.classes
        self.buttons = [
            self._button(person, called) for person in classes for called in (True, False)
        ]  # for the keyboard, and where a figure cannot be clicked
        super().__init__(study, [self.canvas, ipywidgets.HBox(self.buttons)], who=who)

    def _button(self, person: str, called: bool) -> ipywidgets.Button:
        call = self.assessment.classes[0 if called else 1]
        button = ipywidgets.Button(description=f"you {person}, network {call}", layout={"width": "auto"})
        button.on_click(lambda _: self.open_cell(person=person, called=called))
        return button

    def _clicked(self, event: Any) -> None:
        if event.inaxes is not None:
            row, column = round(event.ydata), round(event.xdata)
            if {row, column} <= {0, 1}:
                self.open_cell(person=self.assessment.classes[row], called=column == 0)

    def open_cell(self, *, person: str, called: bool) -> None:
        """Open the places of one cell of the matrix in the gallery below."""
        self.open_queue(places_of_cell(self.study, self.assessment, person=person, called=called))


class CalibrationPlot(Surface):
    """How often candidates of like `p` are cells; a click on a point opens its places in a gallery.

    Parameters
    ----------
    study : Study
    assessment : Assessment
        From `reassess.assess`.
    bins : int
        Points of the plot.
    who : str
        In whose name answers are saved. They are not blind, as those of a `ConfusionMatrix`.
    """

    def __init__(self, study: Study, assessment: Assessment, *, bins: int = BINS, who: str = "me") -> None:
        from cellkit.plots import plot_calibration

        self.assessment, self.bins = assessment, bins
        places = assessment.places
        y, p, weight = (places[name].to_numpy() for name in ("cell", "p", "weight"))
        self.points = reliability(y, p, weight, bins=bins)
        self.figure, self.canvas = canvas_of((4.8, 3.8))
        plot_calibration(assessment, bins=bins, ax=self.figure.add_subplot())
        self.canvas.mpl_connect("button_release_event", self._clicked)
        self.buttons = [
            self._button(number, p) for number, p in enumerate(self.points.p)
        ]  # for the keyboard, and where a figure cannot be clicked
        row = ipywidgets.HBox(self.buttons, layout={"flex_flow": "row wrap"})
        super().__init__(study, [self.canvas, row], who=who)

    def _button(self, number: int, p: float) -> ipywidgets.Button:
        button = ipywidgets.Button(description=f"p near {p:.2f}", layout={"width": "auto"})
        button.on_click(lambda _: self.open_bin(number))
        return button

    def _clicked(self, event: Any) -> None:
        if event.inaxes is not None:
            away = np.hypot(self.points.p - event.xdata, self.points.share - event.ydata)
            if away.min() < NEAR_POINT:
                self.open_bin(int(np.argmin(away)))

    def open_bin(self, number: int) -> None:
        """Open the places of a bin, counted from the lowest `p`, in the gallery below."""
        self.open_queue(places_of_bin(self.study, self.assessment, number, bins=self.bins))


class ThresholdExplorer(ipywidgets.VBox):
    """Precision against recall, with a slider for the probability from which on a network calls.

    Parameters
    ----------
    assessment : Assessment
        From `reassess.assess`.
    calls : DataFrame, optional
        Candidates with the network's `p`: how many would be called is shown while the slider moves.
    """

    def __init__(self, assessment: Assessment, calls: pd.DataFrame | None = None) -> None:
        from cellkit.plots import plot_precision_recall
        from cellkit.plots.style import TOTAL

        self.assessment, self.calls = assessment, calls
        self.figure, self.canvas = canvas_of((5.2, 3.8))
        axes = plot_precision_recall(assessment, ax=self.figure.add_subplot())
        (self.point,) = axes.plot([], [], "D", color=TOTAL, markersize=9)
        called = assessment.places.loc[assessment.places["called"], "p"]
        now = float(called.min()) if len(called) else 0.5
        self.slider = ipywidgets.FloatSlider(
            value=now, min=0.01, max=0.99, step=0.01, description="threshold", continuous_update=True
        )
        self.text = ipywidgets.HTML()
        self.slider.observe(lambda change: self.move(change["new"]), names="value")
        super().__init__([self.canvas, self.slider, self.text])
        self.move(self.slider.value)

    def move(self, threshold: float) -> pd.DataFrame:
        """Show what another threshold would do; returns it as `choosing.at_threshold` does."""
        found = at_threshold(self.assessment, threshold).set_index("metric")
        self.point.set_data([found.loc["recall", "value"]], [found.loc["precision", "value"]])
        self.canvas.draw_idle()
        told = [
            f"{name} <b>{row['value']:.2f}</b> ({row['low']:.2f} to {row['high']:.2f})"
            for name, row in found.drop("called").iterrows()
        ]
        if self.calls is not None:
            told.append(f"<b>{int((self.calls['p'] >= threshold).sum()):,}</b> candidates called")
        self.text.value = " &nbsp; ".join(told)
        return found.reset_index()


class EmbeddingMap(Surface):
    """Candidates laid out by how alike they look to a network; a lasso opens those inside it in a gallery.

    Parameters
    ----------
    study : Study
    network : str, optional
        Name of a supplied network or of one of the study; the newest if left out.
    who : str
        In whose name answers are saved.
    """

    def __init__(self, study: Study, network: str | None = None, *, who: str = "me") -> None:
        from matplotlib.widgets import LassoSelector

        self.places = embedding_map(study, network)
        self.figure, self.canvas = canvas_of((6.4, 4.6))
        axes = draw_map(self.places, study.settings.classes, self.figure.add_subplot())
        self.lasso = LassoSelector(axes, onselect=self.open_inside, useblit=False)
        self.note = ipywidgets.HTML("Draw around candidates to open them below.")
        super().__init__(study, [self.canvas, self.note], who=who)

    def open_inside(self, outline: Any) -> None:
        """Open the candidates inside a polygon of the map, at most 200, in the gallery below."""
        inside = inside_outline(self.places, np.asarray(outline), x="across", y="down")
        labelled = (inside["answer"] != "") & (inside["origin"] != "audit")
        free = inside[inside["free"] | labelled].head(FROM_MAP)
        self.note.value = f"{len(inside)} inside, {len(free)} shown; audited places and open batches are not."
        if len(free):
            self.open_queue(queue_of(self.study, free, batch="map"))


def draw_map(places: pd.DataFrame, classes: tuple[str, str], axes: Any) -> Any:
    """Draw a map of candidates: grey without a label, else in the colour and with the mark of the answer."""
    from cellkit.plots.style import INK, bare, colour_of

    for answer, mark in (("", "."), (classes[0], "o"), (classes[1], "x")):
        here = places[places["answer"] == answer]
        colour = colour_of(answer, classes) if answer else INK
        label = f"{answer or 'no label'} ({len(here)})"
        axes.scatter(here["across"], here["down"], s=14 if answer else 6, c=colour, marker=mark, label=label)
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    axes.set_facecolor("none")
    return bare(axes)
