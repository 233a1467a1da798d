"""How large an audit must be, or what so many answers will tell: said before it is drawn."""

from dataclasses import dataclass
from html import escape

import pandas as pd

from cellkit.labels.places import cube_sides_um
from cellkit.measuring.drawing import TRAIN_SHARE, frame_to_draw
from cellkit.measuring.strata import LEAST, Shares, expected_half_width, make_strata
from cellkit.study import Study

ROOM, NEARLY = 1.5, 1.1


@dataclass(frozen=True)
class Plan:
    """How large an audit should be.

    Attributes
    ----------
    n : int
        Places to draw.
    half_width : float
        Of the interval of the count, as a share of the count, that these places are expected to give.
    sentence : str
        The same in words.
    """

    n: int
    half_width: float
    sentence: str

    def __repr__(self) -> str:
        return self.sentence

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.sentence)}</p>"


def plan_audit(
    study: Study, half_width: float = 0.1, *, n: int | None = None, train_share: float = TRAIN_SHARE
) -> Plan:
    """Say, before an audit is drawn, how many places it needs until the count is known to a share of itself.

    Or how well so many places will tell it.

    Parameters
    ----------
    study : Study
        With candidates that a network has called; its `p` is what the forecast rests on.
    half_width : float
        Wished for: 0.1 is "give or take 10 %".
    n : int, optional
        Places that you are ready to answer; then no width is wished for.
    train_share : float
        As of `draw_audit`.

    Raises
    ------
    ValueError
        If candidates are not called, the wish is not between 0 and 1, or `n` is too small for an audit.
    """
    if not 0 < half_width < 1:
        raise ValueError(f"A half-width lies between 0 and 1; got {half_width}. 0.1 is 10 % to either side.")
    frame, cell = frame_to_draw(study), study.settings.classes[0]
    cells = f"about {frame['p'].sum():,.0f} {cell}s ({int(frame['called'].sum()):,} called)"
    if n is not None:
        strata = make_strata(frame, n, shares=Shares(train_share, 0.0), side_um=cube_sides_um(study))
        told = expected_half_width(strata)
        off = f"to ± {told:.0%}"
        if set(frame["role"]) == {"judge", "train"}:
            judging = expected_half_width(strata[strata["role"] == "judge"])
            off += f", that of the animals that judge to ± {judging:.0%}"
        off += f"; if p is far off, to {ROOM:g} times as much"
        return Plan(n, told, f"{n:,} answers on {cells} tell the count {off}, and extend_audit can add more.")
    n, reached = _places_for(study, frame, half_width, train_share)
    wish = f"For ± {half_width:.0%}"
    sure = f"if p is far off, up to {ROOM * ROOM:g} times as many, which extend_audit can add"
    if reached <= NEARLY * half_width:
        return Plan(n, reached, f"{wish} on {cells} the audit needs about {n:,} answers; {sure}.")
    said = f"Even {n:,} answers give only ± {reached:.1%}, wished ± {half_width:.1%}: there are {cells}"
    if set(frame["role"]) != {"judge", "train"}:
        return Plan(n, reached, f"{said}.")
    why = "more places in animals that train would keep too many of their candidates from training"
    n, reached = _places_for(study, frame, half_width, train_share, role="judge")
    if reached > NEARLY * half_width:
        return Plan(n, reached, f"{said}; {why}.")
    said = f"{wish} on the {cell}s of the animals that judge the audit needs about {n:,} answers; {sure}"
    return Plan(n, reached, f"{said}. For all animals it cannot be had: {why}.")


def _places_for(
    study: Study, frame: pd.DataFrame, wish: float, train_share: float, role: str | None = None
) -> tuple[int, float]:
    """Return how many places bring the count (over animals of a role) to a half-width, and what they do."""
    shares, side_um = Shares(train_share, 0.0), cube_sides_um(study)

    def expected(n: int) -> float:
        strata = make_strata(frame, n, shares=shares, side_um=side_um)
        return expected_half_width(strata if role is None else strata[strata["role"] == role])

    n, most = 4 * LEAST, max(4 * LEAST, len(frame))
    while most - n > max(1, n // 50):
        middle = int((n * most) ** 0.5)
        n, most = (n, middle) if expected(middle) <= wish else (middle, most)
    n = min(len(frame), -(-most // 10) * 10)
    return n, expected(n)
