"""The audit's labelling: blind, in random order, and what is passed over is recorded."""

from collections.abc import Callable, Sequence

import pandas as pd

from cellkit import review
from cellkit.measuring.skips import note_skipped, read_skipped
from cellkit.study import Study
from cellkit.tables import PLACE_COLUMNS
from cellkit.widgets.gallery import Gallery


class AuditLabeller(Gallery):
    """Label a frozen audit in random order, without the network's opinion.

    A place that stays open while a later one is answered is recorded as passed over, so that nobody leaves
    out what is hard unseen; it can still be answered.

    Parameters
    ----------
    study : Study
    name : str
        Of the audit.
    who : str
        In whose name answers are saved.
    on_change : callable, optional
        Called without arguments when a person pauses after changes of the answers.
    """

    ordered = True

    def __init__(
        self,
        study: Study,
        name: str = "audit",
        *,
        who: str = "me",
        on_change: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self._skipped = _keys(read_skipped(study, name).query("who == @who"))
        super().__init__(study, review.audit_queue(study, name, answered=True), who=who, on_change=on_change)

    @property
    def noted(self) -> str:
        """How many places were passed over and are still open."""
        keys = [key in self._skipped for key in _keys_in_order(self.queue)]
        told = self.review.answers
        n = sum(skipped and answer == "" for skipped, answer in zip(keys, told, strict=True))
        return f"{n} passed over, recorded" if n else ""

    def _label(self, message: dict) -> None:
        rows = [int(row) for row in message["rows"]]
        if message["answer"]:
            told = self.review.answers
            self._skipped |= _keys(
                note_passed(self.study, self.queue, told, rows, who=self.who, name=self.name)
            )
        super()._label(message)


def note_passed(
    study: Study, queue: pd.DataFrame, told: Sequence[str], rows: Sequence[int], *, who: str, name: str
) -> pd.DataFrame:
    """Record the places of an audit that stay open while later ones, `rows`, are answered; return them."""
    last = max((row for row in rows if row < len(queue)), default=0)
    passed = queue.iloc[[row for row in range(last) if row not in rows and told[row] == ""]]
    note_skipped(study, passed, who, name=name)
    return passed


def _keys_in_order(places) -> list[tuple]:
    return list(places[list(PLACE_COLUMNS)].itertuples(index=False, name=None))


def _keys(places) -> set[tuple]:
    return set(_keys_in_order(places))
