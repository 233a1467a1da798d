"""Where a person stands in a queue: what is answered, what is open, and what a key does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from cellkit.labels.keys import keymap
from cellkit.labels.told import look_up
from cellkit.study import Study
from cellkit.tables import UNSURE


@dataclass(frozen=True)
class Review:
    """What a labelling screen knows: the answer of every row of its queue ("" is open), where it stands."""

    answers: tuple[str, ...]
    classes: tuple[str, str]
    cursor: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows by answer; "" counts the open ones."""
        return {name: self.answers.count(name) for name in (*self.classes, UNSURE, "")}


def open_review(study: Study, queue: pd.DataFrame) -> Review:
    """Return the review of a queue as its labels have it, at the next open row after the last answer."""
    said = look_up(study, queue)
    newest = int(np.argmax(said["at"])) if said["at"].ne("").any() else -1
    return stand_at_open(Review(tuple(said["answer"]), study.settings.classes), newest)


def label(review: Review, rows: Sequence[int], answer: str) -> Review:
    """Return the review with these rows answered, at the next open row after them.

    Raises
    ------
    ValueError
        If a row or the answer is none of the review's.
    """
    allowed = (*review.classes, UNSURE, "")
    if answer not in allowed:
        raise ValueError(f"An answer must be one of {', '.join(allowed[:3])}; got {answer!r}. Mend it.")
    outside = [row for row in rows if not 0 <= row < len(review.answers)]
    if outside:
        raise ValueError(
            f"This queue has rows 0 to {len(review.answers) - 1}; got {outside[0]}. Choose another."
        )
    chosen = set(rows)
    answers = tuple(answer if row in chosen else old for row, old in enumerate(review.answers))
    return stand_at_open(replace(review, answers=answers), max(rows, default=review.cursor))


def stand_at_open(review: Review, after: int) -> Review:
    """Return the review at the next open row after this one, around the end; at this row if none is open."""
    n = len(review.answers)
    ahead = ((after + step) % n for step in range(1, n + 1))
    return replace(review, cursor=next((row for row in ahead if review.answers[row] == ""), max(after, 0)))


def press(review: Review, key: str, rows: Sequence[int] | None = None) -> Review:
    """Return the review after a key of `keymap` was pressed for these rows, or for the row where it stands.

    Raises
    ------
    ValueError
        If the key gives no answer.
    """
    keys = keymap(review.classes)
    if key not in keys:
        raise ValueError(f"A key that answers is one of {', '.join(keys)}; got {key!r}. Press one of them.")
    return label(review, [review.cursor] if rows is None else rows, keys[key])
