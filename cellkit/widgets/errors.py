"""What a network gets wrong, the surest mistake first; where the person was wrong, the label is mended."""

from collections.abc import Callable

import numpy as np

from cellkit import review
from cellkit.measuring.audits import newest_network
from cellkit.study import Study
from cellkit.widgets.gallery import Gallery


class ErrorGallery(Gallery):
    """Show the false and the missed cells of a network, each group with its surest mistakes first.

    A new answer is a new line of the ledger: the one before it stays on disk.

    Parameters
    ----------
    study : Study
    network : str, optional
        Name of a supplied network or of one of the study; the newest if left out.
    who : str
        In whose name answers are saved.
    on_change : callable, optional
        Called without arguments when a person pauses after changes of the answers.
    """

    def __init__(
        self,
        study: Study,
        network: str | None = None,
        *,
        who: str = "me",
        on_change: Callable[[], None] | None = None,
    ) -> None:
        self.network = network or newest_network(study)
        errors = review.errors(study, self.network)
        self.before = errors["answer"].tolist()
        sure = np.round(100 * errors["sure"]).astype(int)
        judges = [study.entry(str(image)).role == "judge" for image in errors["image"]]
        looked_at = np.where(judges, "; its image judges: look only", "")
        note = [f"{n} % sure of its mistake{more}" for n, more in zip(sure, looked_at, strict=True)]
        queue = errors.assign(note=note)
        super().__init__(study, queue, who=who, group="category", on_change=on_change)

    @property
    def title(self) -> str:
        """What stands above the gallery."""
        return f"Errors of {self.network}"

    @property
    def noted(self) -> str:
        """How many labels were mended here."""
        n = sum(now != was for now, was in zip(self.review.answers, self.before, strict=True))
        return f"{n} mended" if n else ""
