"""Browse an image plane by plane: see the calls, label by a click, add missed cells, sample a rectangle."""

from collections.abc import Callable

import ipywidgets
import numpy as np
import pandas as pd

from cellkit import annotate
from cellkit.cubes import ROLES
from cellkit.study import Study
from cellkit.tables import UNSURE
from cellkit.widgets.gallery import Gallery
from cellkit.widgets.pictures import plane
from cellkit.widgets.screen import Handler, Screen, answer_styles, front_end

FROM_RECTANGLE = 40


class SlicePane(Screen):
    """The picture of a `SliceBrowser`: reads only the planes that it shows.

    Parameters
    ----------
    study : Study
    image : str
        Name of the image.
    who : str
        In whose name answers are saved.
    frame : int
        Frame of a time lapse.
    on_sample : callable, optional
        Called with the queue that was drawn from a rectangle.
    """

    _esm = front_end("slice_view.js", "slice_keys.js", "slices.js")

    def __init__(
        self,
        study: Study,
        image: str,
        *,
        who: str = "me",
        frame: int = 0,
        on_sample: Callable[[pd.DataFrame], None] | None = None,
    ) -> None:
        self.study, self.name, self.who, self.frame, self.on_sample = study, image, who, frame, on_sample
        self.image = study.image(image)
        self.roles = [role for role in ROLES if role in self.image.roles]
        self.revision = 0
        self.points = pd.DataFrame()
        super().__init__()

    @property
    def batch(self) -> str:
        """The batch of what is labelled here."""
        return f"browse {self.name}"

    def handlers(self) -> dict[str, Handler]:
        """Return what answers each op."""
        return {
            "ready": self._ready,
            "view": self._view,
            "label": self._label,
            "missed": self._missed,
            "rectangle": self._rectangle,
            "undo": lambda _: self._step(annotate.undo, "Undone"),
            "redo": lambda _: self._step(annotate.redo, "Redone"),
        }

    def _ready(self, _: dict) -> None:
        classes = self.study.settings.classes
        self.send(
            {
                "op": "open",
                "name": self.name,
                "shape": list(self.image.shape[2:]),
                "voxel_um": list(self.image.voxel_um),
                "diameter_um": self.study.settings.diameter_um,
                "roles": self.roles,
                "classes": list(classes),
                "styles": answer_styles(classes),
                "keymap": list(annotate.keymap(classes).items()),
                "judges": self.study.entry(self.name).role == "judge",
            }
        )
        self.refresh()

    def _view(self, message: dict) -> None:
        z, depth, step = (int(message[name]) for name in ("z", "depth", "step"))
        y0, y1, x0, x1 = (int(n) for n in message["box"])
        first, last = max(0, z - (depth - 1) // 2), min(self.image.shape[2], z + depth // 2 + 1)
        box = (slice(first, last), slice(y0, y1), slice(x0, x1))
        intensities = self.study.intensities(self.name)
        seen = [
            plane(self.image, role, intensities[role], box=box, frame=self.frame, step=step)
            for role in message["roles"]
            if role in self.roles
        ]
        said = {"key": message["key"], "z": z, "box": [y0, y1, x0, x1], "step": step}
        rows, columns = seen[0].shape
        self.send({"op": "view", **said, "rows": rows, "columns": columns}, [part.tobytes() for part in seen])

    def refresh(self, said: str = "") -> None:
        """Draw the candidates and labels of the image as they are now."""
        self.points = self._points()
        n = len(self.points)
        numbers = self.points[["z", "y", "x", "p"]].to_numpy("<f4")
        told = ["", *self.study.settings.classes, UNSURE]
        codes = np.stack([self.points["call"], self.points["answer"].map(told.index)], axis=1).astype("u1")
        message = {"op": "points", "n": n, "classes": list(self.study.settings.classes), "said": said}
        self.send({**message, "revision": self.revision}, [numbers.tobytes(), codes.reshape(n, 2).tobytes()])

    def _points(self) -> pd.DataFrame:
        """Return the candidates, then the labels that lie at none; `call` is 0 or 1, or 2 without a call."""
        table = self.study.labelled_candidates()
        table = table[(table["image"] == self.name) & (table["frame"] == self.frame)].reset_index(drop=True)
        called = table["called"].astype("int64") if "called" in table else pd.Series(2, index=table.index)
        p = table["p"] if "p" in table else pd.Series(np.nan, index=table.index)
        table = table.assign(call=called.where(p.notna(), 2), p=p)
        labels = self.study.labels()
        here = (labels["image"] == self.name) & (labels["frame"] == self.frame)
        added = labels[here & ~labels["id"].isin(table["label"])].reset_index(drop=True)
        voxels = added[["z_um", "y_um", "x_um"]].to_numpy("float64") / np.asarray(self.image.voxel_um)
        added = added[["image", "frame", "answer"]].assign(p=np.nan, call=2)
        added[["z", "y", "x"]] = voxels
        return pd.concat([part for part in (table, added) if len(part)] or [table], ignore_index=True)

    def _label(self, message: dict) -> None:
        row = self.points.iloc[[int(message["index"])]]
        if annotate.barred(self.study, row)[0]:
            raise ValueError(
                "Labels outside the audit keep away from it; this candidate is audited, or its cube overlaps "
                "one that is. Choose another."
            )
        if message["answer"]:
            row = row.assign(origin="category", weight=np.nan, batch=self.batch)
            annotate.answer(self.study, row, str(message["answer"]), self.who)
        else:
            annotate.clear(self.study, row, self.who)
        self._changed(f"Answered {message['answer']}" if message["answer"] else "Cleared")

    def _missed(self, message: dict) -> None:
        where = tuple(float(message[axis]) for axis in "zyx")
        annotate.missed(self.study, self.name, where, self.who, frame=self.frame, batch=self.batch)
        self._changed("Added")

    def _rectangle(self, message: dict) -> None:
        taken = set(annotate.batch_names(self.study))
        name = next(f"{self.name} {k}" for k in range(1, len(taken) + 2) if f"{self.name} {k}" not in taken)
        queue = annotate.draw_rectangle(
            self.study, name, self.name, box=tuple(message["box"]), n=FROM_RECTANGLE, frame=self.frame
        )
        if queue.empty:
            raise ValueError(
                "A rectangle needs candidates without a label; this one holds none that may be drawn. "
                "Draw a larger one."
            )
        self.refresh(f"{len(queue)} drawn")
        if self.on_sample:
            self.on_sample(queue)

    def _step(self, step: Callable, said: str) -> None:
        self._changed(f"{said}: {len(step(self.study, self.who, self.batch))}")

    def _changed(self, said: str) -> None:
        self.revision += 1
        self.refresh(said)

    def refuse(self, message: dict, reason: str) -> None:
        """Say why something was not done or not saved."""
        self.send(
            {"op": "error", "text": reason, "saved": message.get("op") in {"ready", "view", "rectangle"}}
        )


class SliceBrowser(ipywidgets.VBox):
    """Browse one image of a study; a rectangle opens a sample of its candidates in a gallery below.

    Parameters
    ----------
    study : Study
    image : str
        Name of the image.
    who : str
        In whose name answers are saved.
    frame : int
        Frame of a time lapse.
    """

    def __init__(self, study: Study, image: str, *, who: str = "me", frame: int = 0) -> None:
        self.study, self.who = study, who
        self.pane = SlicePane(study, image, who=who, frame=frame, on_sample=self.label)
        super().__init__([self.pane])

    def label(self, queue: pd.DataFrame) -> None:
        """Show a queue in the gallery below the picture."""
        self.children = [self.pane, Gallery(self.study, queue, who=self.who, on_change=self.pane.refresh)]
