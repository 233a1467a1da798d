"""Browse an image in three planes: see the calls, label by a click, add missed cells, sample a region."""

import pandas as pd

from cellkit.study import Study
from cellkit.widgets.slice_pane import SlicePane
from cellkit.widgets.slice_queue import QueuePane
from cellkit.widgets.surface import Surface


class SliceBrowser(Surface):
    """Browse one image of a study; a region, or the candidates in view, open in a gallery below.

    With a queue in place of an image it leads through the queue, each place in its image: an answer goes on
    to the next open one. The answers are the queue's, as in a gallery, and so is where a person stands.

    Parameters
    ----------
    study : Study
    image : str, optional
        Name of the image; left out with a queue.
    queue : DataFrame, optional
        As `annotate.sample`, `annotate.draw_batch`, `annotate.rectangle` or `review.audit_queue` return it.
    who : str
        In whose name answers are saved.
    frame : int
        Frame of a time lapse that is shown first.
    tool : str
        What a click does at first: "look" (select), "missed", "rectangle" or "outline".

    Raises
    ------
    ValueError
        If neither an image nor a queue is given, or both.
    """

    def __init__(
        self,
        study: Study,
        image: str | None = None,
        *,
        queue: pd.DataFrame | None = None,
        who: str = "me",
        frame: int = 0,
        tool: str = "look",
    ) -> None:
        if (image is None) == (queue is None):
            came = "neither" if image is None else "both"
            raise ValueError(
                f"A browser shows an image or leads through a queue; got {came}. "
                "Give one of them: `SliceBrowser(study, image)` or `SliceBrowser(study, queue=queue)`."
            )
        self.pane: SlicePane
        if queue is not None:
            self.pane = QueuePane(study, queue, who=who, tool=tool, on_sample=self.label)
        else:
            self.pane = SlicePane(study, str(image), who=who, frame=frame, tool=tool, on_sample=self.label)
        super().__init__(study, [self.pane], who=who, on_change=self.pane.refresh)

    def label(self, queue: pd.DataFrame) -> None:
        """Show a queue in the gallery below the picture."""
        self.open_queue(queue)
