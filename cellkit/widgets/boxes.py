"""Boxes of which every cell is marked: what the detector missed."""

import pandas as pd

from cellkit import review
from cellkit.labels.points import NOT_CALLED
from cellkit.study import Study
from cellkit.widgets.screen import Handler
from cellkit.widgets.slice_pane import SlicePane

ENDS = (("z0", "z1"), ("y0", "y1"), ("x0", "x1"))


class BoxLabeller(SlicePane):
    """Show one box after the other, without candidates and calls; a click marks a cell, "d" finishes the box.

    Boxes come in random order, those that nobody has finished. Marks of other people are not shown.

    Parameters
    ----------
    study : Study
    name : str
        Of the draw of boxes.
    who : str
        In whose name marks are saved.
    again : bool
        Boxes that other people have finished, too: how far two people agree is said by `review.agreements`.
    """

    def __init__(self, study: Study, name: str = "boxes", *, who: str = "me", again: bool = False) -> None:
        self.draw = name
        self.whose = who if again else None
        self.queue = review.box_queue(study, name, who=self.whose)
        self.total = len(review.read_boxes(study, name)[0])
        self.current = 0
        if self.queue.empty:
            raise ValueError(
                f"Cells are marked in boxes that are not done; all {self.total} of {name!r} are. "
                "Draw others with review.draw_boxes(study, name=...)."
            )
        super().__init__(study, str(self.box["image"]), who=who, frame=int(self.box["frame"]), tool="missed")

    @property
    def box(self) -> pd.Series:
        """The box that is shown."""
        return self.queue.iloc[self.current]

    def handlers(self) -> dict[str, Handler]:
        """Return what answers each op."""
        every = super().handlers()
        kept = {name: every[name] for name in ("ready", "view", "frame")}
        return {**kept, "missed": self._missed, "undo": self._undo, "done": self._done, "box": self._go}

    def opened(self) -> dict:
        """Return what the front end is told of the image, and the box."""
        box = [[int(self.box[first]), int(self.box[stop])] for first, stop in ENDS]
        done = self.total - len(review.box_queue(self.study, self.draw, who=self.whose))
        said = f"box {self.current + 1} of {len(self.queue)}, {done} of {self.total} done"
        return super().opened() | {"box": box, "progress": said, "keymap": [], "judges": False}

    def _points_now(self) -> pd.DataFrame:
        marks = review.box_marks(self.study, self.draw)
        mine = marks[(marks["who"] == self.who) & (marks["box"] == self.box["box"])].reset_index(drop=True)
        keys = mine[["z", "y", "x"]].round(3).astype(str).agg(" ".join, axis=1) if len(mine) else []
        answer = self.study.settings.classes[0]
        return mine.assign(key=keys, p=float("nan"), call=NOT_CALLED, answer=answer)

    def _missed(self, message: dict) -> None:
        where = [[float(message[axis]) for axis in "zyx"]]
        review.mark_cells(self.study, int(self.box["box"]), where, self.who, name=self.draw)
        self._changed("Marked")

    def _undo(self, _: dict) -> None:
        n = len(review.unmark(self.study, int(self.box["box"]), self.who, name=self.draw))
        self._changed("Taken back" if n else "Nothing to undo in this box")

    def _done(self, _: dict) -> None:
        review.finish_box(self.study, int(self.box["box"]), self.who, name=self.draw)
        self._go({"by": 1})

    def _go(self, message: dict) -> None:
        """Show the next box, or the one before."""
        self.current = min(max(self.current + int(message["by"]), 0), len(self.queue) - 1)
        self.turn_to(str(self.box["image"]), int(self.box["frame"]))
        self._ready({})
