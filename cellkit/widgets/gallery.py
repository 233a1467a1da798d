"""The labelling surface: a grid of crops, answered by key, by click and by rectangle."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from cellkit import annotate
from cellkit.labels.places import add_micrometres
from cellkit.measuring.audits import REGION
from cellkit.study import Study
from cellkit.tables import PLACE_COLUMNS, UNSURE, check_table
from cellkit.widgets.packed import pack_table, pack_words
from cellkit.widgets.pictures import CROP, crops
from cellkit.widgets.screen import Handler, LabelScreen, answer_styles, front_end

AT_ONCE = 32
BLIND = ["image", "z_um", "y_um", "x_um"]
SHOWN = [*BLIND, "p", "called", "network", "category"]
ANSWERS = {"label", "undo", "redo"}


class Gallery(LabelScreen):
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
    group : str
        What the candidates are grouped by at first: "none", "answer", "called", "p", "region" (as
        `review.name_parts` named it), "image" or "category".
    on_change : callable, optional
        Called without arguments when a person pauses after changes of the answers.

    Attributes
    ----------
    on_similar : callable or None
        Called with the row of the queue that others are to resemble; without it there is no such button.
    """

    _esm = front_end("crops.js", "gallery_grid.js", "gallery_keys.js", "gallery.js")
    ordered = False  # whether rows must be answered one after the other

    def __init__(
        self,
        study: Study,
        queue: pd.DataFrame,
        *,
        who: str = "me",
        group: str = "none",
        on_change: Callable[[], None] | None = None,
    ) -> None:
        self.group, self.on_change = group, on_change
        self.on_similar: Callable[[pd.DataFrame], None] | None = None
        self.queue = checked_queue(study, queue)
        self._review: annotate.Review | None = None
        self.revision = 0
        super().__init__(study, who)

    @property
    def review(self) -> annotate.Review:
        """The answers, and where the person stands; read from disk when first needed."""
        if self._review is None:
            self._review = annotate.open_review(self.study, self.queue)
        return self._review

    @review.setter
    def review(self, review: annotate.Review) -> None:
        self._review = review

    @property
    def batch(self) -> str | None:
        """The batch that undo and redo stay in; None if the queue holds several."""
        names = self.queue["batch"].unique() if "batch" in self.queue else []
        return str(names[0]) if len(names) == 1 else None

    @property
    def blind(self) -> bool:
        """Whether the network's opinion is kept back."""
        return bool((self.queue["origin"] == "audit").any())

    @property
    def title(self) -> str:
        """What stands above the gallery."""
        name = "" if self.batch in {None, "audit"} else str(self.batch)
        return " ".join(filter(None, ["Audit" if self.blind else "Batch", name]))

    @property
    def noted(self) -> str:
        """What else a person should know, beside the counts."""
        return ""

    def handlers(self) -> dict[str, Handler]:
        """Return what answers each op."""
        return {
            "ready": self._ready,
            "crops": self._crops,
            "label": self._label,
            "undo": lambda _: self._step(annotate.undo, "Undone"),
            "redo": lambda _: self._step(annotate.redo, "Redone"),
            "remap": self.remap,
            "similar": self._similar,
            "settled": lambda _: self.on_change() if self.on_change else None,
        }

    def _ready(self, _: dict) -> None:
        self.review = annotate.open_review(self.study, self.queue)
        classes = self.review.classes
        images = self.queue["image"].unique()
        answers = ["", *classes, UNSURE]
        columns, buffers = pack_table(self.rows())
        self.send(
            {
                "op": "open",
                "title": self.title,
                "who": self.who,
                "styles": answer_styles(classes),
                "keymap": self.keymap,
                "classes": list(classes),
                "n": len(self.queue),
                "columns": columns,
                "crop": CROP.shape,
                "width_um": CROP.extent[2] * self.study.settings.diameter_um,
                "background": any(self.study.image(str(name)).has_background for name in images),
                "flat": all(self.study.image(str(name)).shape[2] == 1 for name in images),
                "blind": self.blind,
                "ordered": self.ordered,
                "group": self.group,
                "similar": self.on_similar is not None,
                "answers": answers,
                "cursor": self.review.cursor,
                "noted": self.noted,
                "revision": self.revision,
            },
            [*buffers, pack_words(self.review.answers, answers)],
        )

    def rows(self) -> pd.DataFrame:
        """Return what is shown of every row of the queue; "note" is a line of text, "region" a name."""
        if self.blind:
            return self.queue[BLIND]
        table = self.queue[[name for name in (*SHOWN, "note") if name in self.queue]]
        found = [self.study.candidates(str(name)) for name in self.queue["image"].unique()]
        named = [part[[*PLACE_COLUMNS, REGION]] for part in found if REGION in part]
        if not named:
            return table
        known = pd.concat(named).drop_duplicates(list(PLACE_COLUMNS))
        both = self.queue[list(PLACE_COLUMNS)].merge(known, how="left", on=list(PLACE_COLUMNS))
        return table.assign(region=both[REGION].to_numpy())

    def _crops(self, message: dict) -> None:
        rows, part = [int(row) for row in message["rows"][:AT_ONCE]], str(message["part"])
        said = {"op": "crops", "rows": rows, "part": part}
        self.send(said, crops(self.study, self.queue.iloc[rows], part))

    def _label(self, message: dict) -> None:
        rows, answer = [int(row) for row in message["rows"]], str(message["answer"])
        review = annotate.label(self.review, rows, answer)
        if answer:
            annotate.answer(self.study, self.queue.iloc[rows], answer, self.who)
        else:
            annotate.clear(self.study, self.queue.iloc[rows], self.who)
            answers = tuple(annotate.answers_of(self.study, self.queue))
            review = replace(review, answers=answers, cursor=rows[0])
        said = f"{len(rows)} answered {answer}" if answer else f"{len(rows)} cleared"
        self._changed(review, said)

    def _step(self, step: Callable, said: str) -> None:
        n = len(step(self.study, self.who, self.batch))
        answers = tuple(annotate.answers_of(self.study, self.queue))
        moved = self._moved(answers)
        cursor = moved[0] if moved else self.review.cursor
        nothing = f"Nothing to {'undo' if said == 'Undone' else 'redo'} in this batch"
        self._changed(replace(self.review, answers=answers, cursor=cursor), f"{said}: {n}" if n else nothing)

    def _similar(self, message: dict) -> None:
        if self.on_similar is not None:
            self.on_similar(self.queue.iloc[[int(message["row"])]])

    def _moved(self, answers: Sequence[str]) -> list[int]:
        both = zip(answers, self.review.answers, strict=True)
        return [row for row, (now, before) in enumerate(both) if now != before]

    def _told(self, rows: Sequence[int]) -> dict[str, Any]:
        """Return the answers of these rows as they are on disk: only what changes is sent."""
        known = [row for row in rows if 0 <= row < len(self.review.answers)]
        return {
            "rows": known,
            "told": [self.review.answers[row] for row in known],
            "cursor": self.review.cursor,
            "noted": self.noted,
            "revision": self.revision,
        }

    def _changed(self, review: annotate.Review, said: str) -> None:
        moved = self._moved(review.answers)
        self.review = review
        self.revision += 1
        self.send({"op": "answers", "said": said, **self._told(moved)})

    def refuse(self, message: dict, reason: str) -> None:
        """Say why something was not saved, and show the answers as they are on disk."""
        op = message.get("op")
        rows = [int(row) for row in message.get("rows", [])] if op == "label" else []
        error = {"op": "error", "text": reason, "saved": op not in ANSWERS, "asked": op}
        self.send(error | self._told(rows))


def checked_queue(study: Study, queue: pd.DataFrame) -> pd.DataFrame:
    """Return a queue with its rows numbered anew, and with its places in µm.

    Raises
    ------
    ValueError
        If it lacks a column, or holds places of images that the study has not.
    """
    check_table(queue, PLACE_COLUMNS | {"origin": "str"}, what="a queue")
    strange = [str(name) for name in queue["image"].unique() if name not in study.names]
    if strange:
        raise ValueError(
            f"A queue's places lie in images of its study, {', '.join(study.names)}; got {strange[0]!r}. "
            "Open the study that the queue was drawn from."
        )
    there = {"z_um", "y_um", "x_um"} <= {*queue.columns}
    return queue.reset_index(drop=True) if there else add_micrometres(study, queue)
