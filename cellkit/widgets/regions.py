"""Sample regions: draw a rectangle or an outline, label the sample, flip the exceptions, draw the next."""

from html import escape

import ipywidgets

from cellkit import annotate
from cellkit.study import Study
from cellkit.widgets.slices import SliceBrowser
from cellkit.widgets.surface import Surface

AGAIN = "a region drawn before"


class RegionSampler(SliceBrowser):
    """Draw regions of an image one after the other; of each a random sample is labelled in the gallery below.

    Above the picture stand what the labels balance out to, what to label next, and the regions drawn before,
    which can be opened again.

    Parameters
    ----------
    study : Study
    image : str
        Name of a training image.
    who : str
        In whose name answers are saved.
    frame : int
        Frame of a time lapse that is shown first.
    """

    def __init__(self, study: Study, image: str, *, who: str = "me", frame: int = 0) -> None:
        super().__init__(study, image, who=who, frame=frame, tool="rectangle")
        self.meter = ipywidgets.HTML()
        self.regions = ipywidgets.Dropdown()
        self.regions.observe(self._again, names="value")
        self.top = [ipywidgets.HBox([self.regions, self.meter]), *self.top]
        self.on_change = self.refresh
        self.children = self.top
        self.refresh()

    def refresh(self) -> None:
        """Show the labels, the balance and the regions as they are now."""
        self.pane.refresh()
        balance = annotate.meter(self.study)
        counts = ", ".join(f"{n} {escape(str(name))}" for name, n in balance.of("class").items())
        self.meter.value = f"<b>{counts}</b> &nbsp; {escape(balance.advice)}"
        named = {AGAIN: ""}
        for name in annotate.regions_of(self.study, self.pane.name):
            still_open = annotate.answers_of(self.study, annotate.read_batch(self.study, name)).count("")
            named[f"{name}: {still_open} open" if still_open else f"{name}: done"] = name
        with self.hold_trait_notifications():
            self.regions.unobserve(self._again, names="value")
            self.regions.options = list(named.items())
            self.regions.value = ""
            self.regions.observe(self._again, names="value")

    def _again(self, change: dict) -> None:
        if change["new"]:
            Surface.open_queue(self, annotate.read_batch(self.study, change["new"]))

    def label(self, queue) -> None:
        """Show the sample of a region in the gallery below the picture."""
        super().label(queue)
        self.refresh()
