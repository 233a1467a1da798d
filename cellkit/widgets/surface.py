"""A screen with a gallery below it, in which what was chosen above is labelled."""

from collections.abc import Callable

import ipywidgets
import pandas as pd

from cellkit import annotate
from cellkit.study import Study
from cellkit.widgets.gallery import Gallery


class Surface(ipywidgets.VBox):
    """Widgets, and below them the gallery of the queue that was opened last.

    Parameters
    ----------
    study : Study
    top : list of Widget
        What stands above the gallery.
    who : str
        In whose name answers are saved.
    on_change : callable, optional
        Called without arguments when a person pauses after changes of the answers.
    """

    def __init__(
        self,
        study: Study,
        top: list[ipywidgets.Widget],
        *,
        who: str,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        self.study, self.who, self.top, self.on_change = study, who, top, on_change
        super().__init__(top)

    @property
    def gallery(self) -> Gallery | None:
        """The gallery that is open."""
        last = self.children[-1]
        return last if isinstance(last, Gallery) else None

    def open_queue(self, queue: pd.DataFrame, *, group: str = "none") -> None:
        """Show a queue in the gallery."""
        gallery = Gallery(self.study, queue, who=self.who, group=group, on_change=self.on_change)
        gallery.on_similar = self.open_similar
        self.children = [*self.top, gallery]

    def open_similar(self, row: pd.DataFrame) -> None:
        """Open a batch of the candidates that look most like one, in place of the gallery."""
        taken = set(annotate.batch_names(self.study))
        name = next(f"similar {k}" for k in range(1, len(taken) + 2) if f"similar {k}" not in taken)
        self.open_queue(annotate.draw_similar(self.study, name, row))
