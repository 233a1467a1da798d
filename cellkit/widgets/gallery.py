"""The labelling surface: a grid of crops, answered by key, by click and by rectangle."""

from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from cellkit import annotate
from cellkit.study import Study
from cellkit.widgets.pictures import CROP, crops
from cellkit.widgets.screen import Handler, Screen, answer_styles, front_end

AT_ONCE = 32


class Gallery(Screen):
    """Show the candidates of a queue and save what a person answers, each answer at once.

    The answers are in the study's ledger, so the same queue goes on where it was: in another cell, after the
    kernel was restarted, on another day. The queue of an audit is shown blind: without the network's opinion.

    Parameters
    ----------
    study : Study
    queue : DataFrame
        As `annotate.sample`, `annotate.draw_batch`, `annotate.rectangle` or `review.audit_queue` return it.
    who : str
        In whose name answers are saved.
    on_change : callable, optional
        Called without arguments after each change of the answers.

    Attributes
    ----------
    review : Review
        The answers, and where the person stands.
    """

    _esm = front_end("crops.js", "gallery_keys.js", "gallery.js")

    def __init__(
        self,
        study: Study,
        queue: pd.DataFrame,
        *,
        who: str = "me",
        on_change: Callable[[], None] | None = None,
    ) -> None:
        self.study, self.who, self.on_change = study, who, on_change
        self.queue = queue.reset_index(drop=True)
        self.review = annotate.open_review(study, self.queue)
        self.revision = 0
        super().__init__()

    @property
    def batch(self) -> str | None:
        """The batch that undo and redo stay in; None if the queue holds several."""
        names = self.queue["batch"].unique() if "batch" in self.queue else []
        return str(names[0]) if len(names) == 1 else None

    @property
    def blind(self) -> bool:
        """Whether the network's opinion is kept back."""
        return bool((self.queue["origin"] == "audit").any())

    def handlers(self) -> dict[str, Handler]:
        """Return what answers each op."""
        return {
            "ready": self._ready,
            "crops": self._crops,
            "label": self._label,
            "undo": lambda _: self._step(annotate.undo, "Undone"),
            "redo": lambda _: self._step(annotate.redo, "Redone"),
        }

    def _ready(self, _: dict) -> None:
        self.review = annotate.open_review(self.study, self.queue)
        classes = self.review.classes
        images = self.queue["image"].unique()
        shown = ["image", "z_um", "y_um", "x_um"] + ([] if self.blind else ["p", "called", "network"])
        rows = self.queue[[name for name in shown if name in self.queue]]
        self.send(
            {
                "op": "open",
                "title": " ".join(filter(None, ["Audit" if self.blind else "Batch", self._name()])),
                "who": self.who,
                "styles": answer_styles(classes),
                "keymap": list(annotate.keymap(classes).items()),
                "classes": list(classes),
                "rows": rows.astype(object).where(rows.notna(), None).to_dict("records"),
                "crop": CROP.shape,
                "width_um": CROP.extent[2] * self.study.settings.diameter_um,
                "background": any(self.study.image(str(name)).has_background for name in images),
                "flat": all(self.study.image(str(name)).shape[2] == 1 for name in images),
                **self._state(),
            }
        )

    def _name(self) -> str:
        return "" if self.batch in {None, "audit"} else str(self.batch)

    def _state(self) -> dict:
        return {
            "answers": list(self.review.answers),
            "cursor": self.review.cursor,
            "counts": self.review.counts,
            "revision": self.revision,
        }

    def _crops(self, message: dict) -> None:
        rows = [int(row) for row in message["rows"][:AT_ONCE]]
        self.send({"op": "crops", "rows": rows}, crops(self.study, self.queue.iloc[rows]))

    def _label(self, message: dict) -> None:
        rows, answer = [int(row) for row in message["rows"]], str(message["answer"])
        review = annotate.label(self.review, rows, answer)
        if answer:
            annotate.answer(self.study, self.queue.iloc[rows], answer, self.who)
        else:
            annotate.clear(self.study, self.queue.iloc[rows], self.who)
            review = replace(
                review, answers=tuple(annotate.answers_of(self.study, self.queue)), cursor=rows[0]
            )
        said = f"{len(rows)} answered {answer}" if answer else f"{len(rows)} cleared"
        self._changed(review, said)

    def _step(self, step: Callable, said: str) -> None:
        n = len(step(self.study, self.who, self.batch))
        answers = tuple(annotate.answers_of(self.study, self.queue))
        moved = [
            row
            for row, both in enumerate(zip(answers, self.review.answers, strict=True))
            if both[0] != both[1]
        ]
        cursor = moved[0] if moved else self.review.cursor
        nothing = f"Nothing to {'undo' if said == 'Undone' else 'redo'} in this batch"
        self._changed(replace(self.review, answers=answers, cursor=cursor), f"{said}: {n}" if n else nothing)

    def _changed(self, review: annotate.Review, said: str) -> None:
        self.review = review
        self.revision += 1
        self.send({"op": "answers", "said": said, **self._state()})
        if self.on_change:
            self.on_change()

    def refuse(self, message: dict, reason: str) -> None:
        """Say why something was not saved, and show the answers as they are on disk."""
        self.send(
            {
                "op": "error",
                "text": reason,
                "saved": message.get("op") not in {"label", "undo", "redo"},
                **self._state(),
            }
        )
