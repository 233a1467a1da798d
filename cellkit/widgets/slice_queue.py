"""The picture of a slice browser that leads through a queue: an answer goes on to the next place."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from cellkit import annotate
from cellkit.labels.points import NOT_CALLED
from cellkit.study import Study
from cellkit.widgets.audit import note_passed
from cellkit.widgets.gallery import checked_queue
from cellkit.widgets.screen import Handler
from cellkit.widgets.slice_pane import SlicePane


class QueuePane(SlicePane):
    """Show the places of a queue one after the other, each in its image; of one image all before the next.

    Answers are those of the queue, as a gallery gives them: the same batch, origin and weight, found again in
    both. An audit is shown blind and in its order, and what is passed over is recorded.

    Parameters
    ----------
    study : Study
    queue : DataFrame
        As a gallery takes it.
    who : str
        In whose name answers are saved.
    tool : str
        What a click does at first.
    on_sample : callable, optional
        Called with the queue that was drawn from a region or chosen for the gallery.

    Attributes
    ----------
    review : Review
        The answers, and where the person stands.
    """

    def __init__(
        self,
        study: Study,
        queue: pd.DataFrame,
        *,
        who: str = "me",
        tool: str = "look",
        on_sample: Callable[[pd.DataFrame], None] | None = None,
    ) -> None:
        self.queue = checked_queue(study, queue)
        if self.queue.empty:
            raise ValueError(
                "A browser leads through the places of a queue; this one is empty. Draw another, or give an "
                "image: `SliceBrowser(study, image)`."
            )
        self.review = annotate.open_review(study, self.queue)
        self._at = [-1] * len(self.queue)  # the point of each row, as far as it is shown
        self.blind = bool((self.queue["origin"] == "audit").any())
        image, frame = self._place(self.review.cursor)
        super().__init__(study, image, who=who, frame=frame, tool=tool, on_sample=on_sample)

    def _place(self, row: int) -> tuple[str, int]:
        place = self.queue.iloc[row]
        return str(place["image"]), int(place["frame"])

    @property
    def batch(self) -> str:
        """The batch of the queue, in which undo and redo stay."""
        names = self.queue["batch"].unique() if "batch" in self.queue else []
        return str(names[0]) if len(names) == 1 else super().batch

    def handlers(self) -> dict[str, Handler]:
        """Return what answers each op."""
        return super().handlers() | {"go": lambda message: self.stand_at(int(message["row"]))}

    def opened(self) -> dict:
        """Return what the front end is told of the image: an audit's places may be answered everywhere."""
        told = super().opened()
        return told | {"queued": True, "ordered": self.blind, "judges": told["judges"] and not self.blind}

    def _points_now(self) -> pd.DataFrame:
        """Return the points of the image, with the queue's answers at its rows; of an audit no others."""
        points = super()._points_now()
        here = np.flatnonzero((self.queue["image"] == self.name) & (self.queue["frame"] == self.frame))
        rows = self.queue.iloc[here]
        known = {place: index for index, place in enumerate(_places(points))}
        lacking = [k for k, place in enumerate(_places(rows)) if place not in known]
        if lacking:
            alone = rows.iloc[lacking].assign(key=[f"row {here[k]}" for k in lacking], answer="")
            alone = alone.reindex(columns=points.columns).assign(call=NOT_CALLED, p=np.nan)
            points = pd.concat([points, alone], ignore_index=True)
            known = {place: index for index, place in enumerate(_places(points))}
        at = [known[place] for place in _places(rows)]
        answers = points["answer"].to_numpy(dtype=object).copy()
        answers[at] = np.array(self.review.answers, dtype=object)[here]
        points = points.assign(answer=answers)
        if self.blind:
            points = points.iloc[at].reset_index(drop=True).assign(call=NOT_CALLED, p=np.nan)
        return points

    def beside(self, *, whole: bool) -> dict:
        """Return the answers of all rows; with all points also which point a row is, and where one stands."""
        told = [self._answers.index(answer) for answer in self.review.answers]
        if not whole:
            return {"queue": {"told": told}}
        known = {place: index for index, place in enumerate(_places(self.points))}
        here = (self.queue["image"] == self.name) & (self.queue["frame"] == self.frame)
        places = zip(_places(self.queue), here, strict=True)
        points = [known.get(place, -1) if shown else -1 for place, shown in places]
        self._at = points
        _, frame = self._place(self.review.cursor)
        return {"queue": {"told": told, "points": points, "at": self.review.cursor, "frame": frame}}

    def stand_at(self, row: int) -> None:
        """Show a row of the queue, in its image."""
        self.review = replace(self.review, cursor=row)
        if self._place(row) != (self.name, self.frame):
            self.turn_to(*self._place(row))
            self._ready({})
        else:
            self.send({"op": "go", "row": row})

    def refresh(self, said: str = "") -> None:
        """Show the labels as they are; without a word of what was done here, another screen answered."""
        if not said:
            self._look_up()
        super().refresh(said)

    def _look_up(self) -> None:
        self.review = replace(self.review, answers=tuple(annotate.answers_of(self.study, self.queue)))

    def _label(self, message: dict) -> None:
        if message.get("row") is None:
            return super()._label(message)
        row, answer = int(message["row"]), str(message["answer"])
        self.review = replace(self.review, cursor=row)
        review = annotate.label(self.review, [row], answer)
        place = self.queue.iloc[[row]]
        if answer:
            if self.blind:
                note_passed(self.study, self.queue, self.review.answers, [row], who=self.who, name=self.batch)
            annotate.answer(self.study, place, answer, self.who)
            self.review = review
        else:
            annotate.clear(self.study, place, self.who)
            self._look_up()
        if answer and self._at[row] >= 0:
            self._answered(self._at[row], answer)
        else:
            self._changed(f"Answered {answer}" if answer else "Cleared")
        return None

    def _step(self, step: Callable, said: str) -> None:
        """Undo or redo, and go back to the row that it was about."""
        before = self.review.answers

        def and_look_up(study: Study, who: str, batch: str) -> list[dict]:
            taken = step(study, who, batch)
            self._look_up()
            return taken

        super()._step(and_look_up, said)
        both = zip(self.review.answers, before, strict=True)
        moved = [row for row, (now, was) in enumerate(both) if now != was]
        if moved:
            self.stand_at(moved[0])


def _places(table: pd.DataFrame) -> list[tuple[float, float, float]]:
    """Return z, y, x of every row; those of one image and frame are told apart by them."""
    return list(table[["z", "y", "x"]].itertuples(index=False, name=None))
