"""What all figures share: colours that every eye tells apart, and faces for light and dark pages."""

from typing import TYPE_CHECKING, Any

import numpy as np

from cellkit.tables import UNSURE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POSITIVE, NEGATIVE, UNDECIDED = "#0072B2", "#D55E00", "#F0E442"  # Okabe and Ito, as on the screens
FOUND, TOTAL = "#56B4E9", "#009E73"
INK = "#7a7a7a"  # as far from white as from black


def new_axes(ax: "Axes | None", *, size: tuple[float, float] = (4.6, 3.4)) -> "Axes":
    """Return `ax`, or the axes of a new figure of this size in inches, dressed for light and dark pages."""
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots(figsize=size, layout="constrained")[1]
    ax.get_figure().patch.set_alpha(0)
    return dress(ax)


def dress(ax: "Axes") -> "Axes":
    """Make the axes see-through and everything written on them grey."""
    ax.set_facecolor("none")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(INK)
    ax.tick_params(colors=INK, labelsize=9)
    for text in (ax.xaxis.label, ax.yaxis.label, ax.title):
        text.set(color=INK, fontsize=10)
    ax.title.set_fontsize(11)
    return ax


def bare(ax: "Axes") -> "Axes":
    """Take away ticks and frame: for pictures."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return ax


def write(ax: "Axes", x: float, y: float, text: str, **settings: Any) -> Any:
    """Write grey text of 9 points at a place of the data, unless `settings` say otherwise."""
    return ax.text(x, y, text, **({"color": INK, "fontsize": 9} | settings))


def colour_of(answer: str, classes: tuple[str, str]) -> str:
    """Return the colour of an answer: blue, vermillion, yellow; grey without one."""
    return dict(zip((*classes, UNSURE), (POSITIVE, NEGATIVE, UNDECIDED), strict=True)).get(answer, INK)


def letter_of(answer: str, classes: tuple[str, str]) -> str:
    """Return the letter of an answer, as on the screens: never colour alone."""
    return dict(zip((*classes, UNSURE), (classes[0][0].upper(), "X", "?"), strict=True)).get(answer, "")


def scale_bar(ax: "Axes", *, length_um: float, per_um: float, shape: tuple[int, int]) -> None:
    """Draw a white bar with its length in the lower right corner of a picture of this shape in pixels."""
    from matplotlib.patheffects import withStroke

    width = length_um * per_um
    y, x = 0.95 * shape[0], 0.96 * shape[1]
    halo = [withStroke(linewidth=2, foreground="black")]
    ax.plot([x - width, x], [y, y], color="white", linewidth=3, solid_capstyle="butt", path_effects=halo)
    label = {"ha": "center", "va": "bottom", "color": "white", "path_effects": halo}
    write(ax, x - width / 2, y - 0.015 * shape[0], f"{length_um:g} µm", **label)


def nice_length(whole_um: float) -> float:
    """Return a round length of up to a quarter of the whole, in µm."""
    wish = whole_um / 4
    step = 10 ** np.floor(np.log10(wish))
    return float(step * max(n for n in (1, 2, 5) if n * step <= wish))
