"""The four categories as a table: how many are labelled, how many more there are, and a batch of each."""

from collections.abc import Callable

from cellkit import annotate
from cellkit.labels.sampling import category_names
from cellkit.study import Study
from cellkit.widgets.screen import Handler, Screen, answer_styles, front_end
from cellkit.widgets.surface import Surface

N = 40
WAYS = ("mixed", "uncertain", "diverse", "random")


class CategoryTable(Screen):
    """The table of a `CategorySampler`.

    Parameters
    ----------
    study : Study
    quotas : dict of str to int, optional
        Labels wanted per category; equal numbers if left out.
    on_open : callable
        Called with the name of the category whose box was opened, or with a way of drawing.
    """

    _esm = front_end("categories.js")

    def __init__(
        self, study: Study, *, quotas: dict[str, int] | None, on_open: Callable[[str], None]
    ) -> None:
        self.study, self.quotas, self.on_open = study, quotas, on_open
        super().__init__()

    def handlers(self) -> dict[str, Handler]:
        """Return what answers each op."""
        return {"ready": lambda _: self.refresh(), "open": lambda message: self.on_open(message["category"])}

    def refresh(self) -> None:
        """Draw the counts as they are now."""
        balance = annotate.meter(self.study)
        names = category_names(self.study.settings.classes)
        candidates = self.study.candidates()
        trains = candidates["image"].map(lambda name: self.study.entry(name).role != "judge").astype(bool)
        called = candidates.loc[trains, "called"] if "called" in candidates else trains[:0]
        self.send(
            {
                "op": "counts",
                "names": list(names),
                "classes": list(self.study.settings.classes),
                "styles": answer_styles(self.study.settings.classes),
                "labels": balance.of("category").astype(int).to_dict(),
                "quotas": self.quotas or {},
                "ways": list(WAYS),
                "called": [int(called.sum()), int((~called.astype(bool)).sum())],
                "spread": {by: balance.of(by).astype(int).to_dict() for by in ("class", "animal", "origin")},
                "advice": balance.advice,
            }
        )


class CategorySampler(Surface):
    """Choose what to label by category, or by another way of drawing; a batch opens in a gallery below.

    A batch that is not finished is opened again.

    Parameters
    ----------
    study : Study
    who : str
        In whose name answers are saved.
    n : int
        Candidates in a batch.
    quotas : dict of str to int, optional
        Labels wanted per category, such as ``{"missed cell": 200}``; equal numbers if left out.
    """

    def __init__(
        self, study: Study, *, who: str = "me", n: int = N, quotas: dict[str, int] | None = None
    ) -> None:
        self.n = n
        self.table = CategoryTable(study, quotas=quotas, on_open=self.label)
        super().__init__(study, [self.table], who=who, on_change=self.table.refresh)

    def label(self, kind: str) -> None:
        """Open the unfinished batch of a category or way of drawing, or a new one, in the gallery below."""
        self.open_queue(self._batch(kind))

    def _batch(self, kind: str):
        how = {"by": kind} if kind in WAYS else {"by": "category", "quotas": {kind: 10**9}}
        k = 1
        while True:
            queue = annotate.draw_batch(self.study, f"{kind} {k}", self.n, **how)
            if queue.empty or "" in annotate.answers_of(self.study, queue):
                return queue
            k += 1
