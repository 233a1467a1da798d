"""The picture of a slice browser: planes, calls and labels, and what a person does with them."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from cellkit import annotate
from cellkit.cubes import ROLES, Intensities
from cellkit.labels.points import GONE, image_points, queue_of, what_changed
from cellkit.study import Study
from cellkit.tables import UNSURE
from cellkit.widgets.pictures import View, plane
from cellkit.widgets.screen import Handler, LabelScreen, answer_styles, front_end
from cellkit.widgets.slabs import SlabReader, Wish

FROM_REGION = 40
NOT_LABELS = {"ready", "view", "views", "region", "gallery", "frame", "remap", "box", "go", "settled"}
TOOLS = ("look", "missed", "rectangle", "outline")


class SlicePane(LabelScreen):
    """The picture of a `SliceBrowser`: reads only the planes that it shows.

    Parameters
    ----------
    study : Study
    image : str
        Name of the image.
    who : str
        In whose name answers are saved.
    frame : int
        Frame of a time lapse that is shown first.
    tool : str
        What a click does at first: "look" (select), "missed", "rectangle" or "outline".
    on_sample : callable, optional
        Called with the queue that was drawn from a region or chosen for the gallery.
    """

    _esm = front_end(
        "slice_view.js", "slice_marks.js", "slice_panes.js", "slice_keys.js", "slice_filters.js",
        "slice_points.js", "slice_queue.js", "slice_pointer.js", "slice_actions.js", "slices.js",
    )  # fmt: skip

    def __init__(
        self,
        study: Study,
        image: str,
        *,
        who: str = "me",
        frame: int = 0,
        tool: str = "look",
        on_sample: Callable[[pd.DataFrame], None] | None = None,
    ) -> None:
        if tool not in TOOLS:
            raise ValueError(f"A tool must be one of {', '.join(TOOLS)}; got {tool!r}. Choose one of them.")
        self.study, self.tool, self.on_sample = study, tool, on_sample
        self.turn_to(image, frame)
        self.revision = 0
        self.candidates = study.candidates(image)
        self.slabs = SlabReader(lambda message, buffers: self.send(message, buffers))
        super().__init__(study, who)
        self.points = self._points_now()

    @property
    def batch(self) -> str:
        """The batch of what is labelled here."""
        return f"browse {self.name}"

    def handlers(self) -> dict[str, Handler]:
        """Return what answers each op."""
        return {
            "ready": self._ready,
            "view": self._view,
            "views": self._views,
            "frame": self._frame,
            "label": self._label,
            "missed": self._missed,
            "region": self._region,
            "gallery": self._gallery,
            "remap": self.remap,
            "settled": lambda _: self.refresh(),
            "undo": lambda _: self._step(annotate.undo, "Undone"),
            "redo": lambda _: self._step(annotate.redo, "Redone"),
        }

    def _ready(self, _: dict) -> None:
        self.send({"op": "open", **self.opened()})
        self.candidates = self.study.candidates(self.name)
        self._all_points()

    def opened(self) -> dict:
        """Return what the front end is told of the image."""
        classes = self.study.settings.classes
        return {
            "name": self.name,
            "shape": list(self.image.shape[2:]),
            "frames": self.image.frames,
            "frame": self.frame,
            "voxel_um": list(self.image.voxel_um),
            "diameter_um": self.study.settings.diameter_um,
            "roles": self.roles,
            "classes": list(classes),
            "answers": self._answers,
            "styles": answer_styles(classes),
            "keymap": self.keymap,
            "judges": self.study.entry(self.name).role == "judge",
            "tool": self.tool,
        }

    @property
    def _answers(self) -> list[str]:
        return ["", *self.study.settings.classes, UNSURE, GONE]

    def _view(self, message: dict) -> None:
        """Send a part of the image: at once, or, where it goes through many planes, as it is read."""
        if message.get("image", self.name) != self.name:
            return  # the front end has turned to another image since
        if not message.get("slow"):
            said, seen = self._seen(message)
            self.send({"op": "view", **said}, seen)
            return
        near, key = int(message.get("near", 0)), str(message["key"])
        wish = Wish(str(message["pane"]), key, self.image, self._shown(message), _view_of(message), near)
        self.slabs.ask(wish)

    def _views(self, message: dict) -> None:
        """Send parts of the image that will be wanted next in one message."""
        here = [view for view in message["views"] if view.get("image", self.name) == self.name]
        found = [self._seen(view) for view in here]
        views = [said | {"channels": len(seen)} for said, seen in found]
        self.send({"op": "views", "views": views}, [part for _, seen in found for part in seen])

    def _seen(self, message: dict) -> tuple[dict, list[bytes]]:
        """Return how large a part of the image is, and its pixels, a buffer for each channel."""
        view = _view_of(message)
        seen = [plane(self.image, role, known, view=view) for role, known in self._shown(message).items()]
        rows, columns = seen[0].shape
        said = {"key": message["key"], "rows": rows, "columns": columns}
        return said, [part.tobytes() for part in seen]

    def _shown(self, message: dict) -> dict[str, Intensities]:
        intensities = self.study.intensities(self.name)
        return {role: intensities[role] for role in message["roles"] if role in self.roles}

    def _frame(self, message: dict) -> None:
        self.frame = min(max(int(message["frame"]), 0), self.image.frames - 1)
        self._all_points()

    def _all_points(self, said: str = "") -> None:
        """Send every point; afterwards only what changes."""
        self.points = self._points_now()
        message = {"op": "points", "frame": self.frame, "said": said, "revision": self.revision}
        message |= {"n": len(self.points), **self.beside(whole=True)}
        self.send(message, self._packed(self.points))

    def beside(self, *, whole: bool) -> dict:
        """Return what else the front end is told, with all points (`whole`) or with what changed of them."""
        return {}

    def turn_to(self, image: str, frame: int) -> None:
        """Take another image from now on."""
        self.name, self.frame = image, frame
        self.image = self.study.image(image)
        self.roles = [role for role in ROLES if role in self.image.roles]

    def _points_now(self) -> pd.DataFrame:
        return image_points(self.study, self.name, frame=self.frame, candidates=self.candidates)

    def _packed(self, points: pd.DataFrame) -> list[bytes]:
        """Return `z, y, x, p` as float32, and `call, answer` as bytes, a row each."""
        numbers = points[["z", "y", "x", "p"]].to_numpy("<f4")
        codes = np.stack([points["call"], points["answer"].map(self._answers.index)], axis=1)
        return [numbers.tobytes(), codes.reshape(len(points), 2).astype("u1").tobytes()]

    def refresh(self, said: str = "") -> None:
        """Show the labels of the image as they are now: only points that changed are sent."""
        change = what_changed(self.points, self._points_now())
        self.points = change.points
        self._tell(change.rows.tolist(), change.added, said)

    def _tell(self, rows: list[int], added: int, said: str) -> None:
        """Send the answers of these points, and the points that came last."""
        answers = self.points["answer"].iloc[rows]
        message = {
            "op": "changed",
            "rows": rows,
            "codes": [self._answers.index(answer) for answer in answers],
            "n": added,
            "said": said,
            "revision": self.revision,
        }
        self.send(message | self.beside(whole=False), self._packed(self.points.tail(added)))

    def _row(self, index: int) -> pd.DataFrame:
        return queue_of(self.study, self.points.iloc[[index]], batch=self.batch)

    def _label(self, message: dict) -> None:
        row, answer = self._row(int(message["index"])), str(message["answer"])
        if annotate.barred(self.study, row)[0]:
            raise ValueError(
                "Labels outside the audit keep away from it; this candidate is audited, or its cube overlaps "
                "one that is. Choose another."
            )
        if answer:
            annotate.answer(self.study, row, answer, self.who)
            self._answered(int(message["index"]), answer)
        else:
            annotate.clear(self.study, row, self.who)
            self._changed("Cleared")

    def _answered(self, index: int, answer: str) -> None:
        """Say that a point was answered; what else changed by it is looked up when the person pauses."""
        self.revision += 1
        self.points.iat[index, self.points.columns.get_loc("answer")] = answer
        self._tell([index], 0, f"Answered {answer}")

    def _missed(self, message: dict) -> None:
        where = tuple(float(message[axis]) for axis in "zyx")
        annotate.missed(self.study, self.name, where, self.who, frame=self.frame, batch=self.batch)
        self._changed("Added")

    def _region(self, message: dict) -> None:
        """Draw a sample of what a person outlined: a box, or a polygon between two planes."""
        taken = set(annotate.batch_names(self.study))
        name = next(f"{self.name} {k}" for k in range(1, len(taken) + 2) if f"{self.name} {k}" not in taken)
        (z, *_), outline = message["box"], message.get("outline")
        region = (
            annotate.outlined(self.name, outline, z=tuple(z), frame=self.frame)
            if outline
            else annotate.Region(self.name, tuple(message["box"]), frame=self.frame)
        )
        queue = annotate.draw_region(self.study, name, region, n=FROM_REGION)
        if queue.empty:
            raise ValueError(
                "A region needs candidates without a label that no other batch holds; this one has none that "
                "may be drawn. Draw a larger one, or open the batch that holds them."
            )
        self.refresh(f"{len(queue)} drawn")
        self._open(queue)

    def _gallery(self, message: dict) -> None:
        """Open chosen candidates below, to be labelled as they are labelled here."""
        points = self.points.iloc[[int(row) for row in message["rows"]]]
        queue = queue_of(self.study, points, batch=self.batch)
        queue = queue[~annotate.barred(self.study, queue)]
        if queue.empty:
            raise ValueError(
                "A gallery needs candidates that may be labelled; those chosen are audited or overlap an "
                "audited place. Choose others."
            )
        self._open(queue)

    def _open(self, queue: pd.DataFrame) -> None:
        if self.on_sample:
            self.on_sample(queue)

    def _step(self, step: Callable, said: str) -> None:
        n = len(step(self.study, self.who, self.batch))
        self._changed(f"{said}: {n}" if n else f"Nothing to {'undo' if said == 'Undone' else 'redo'} here")

    def _changed(self, said: str) -> None:
        self.revision += 1
        self.refresh(said)

    def refuse(self, message: dict, reason: str) -> None:
        """Say why something was not done or not saved, and show the labels as they are on disk."""
        saved = message.get("op") in NOT_LABELS
        if not saved:
            self._all_points()
        error = {"op": "error", "text": reason, "saved": saved, "asked": message.get("op")}
        self.send(error | {"key": message.get("key")})


def _view_of(message: dict) -> View:
    """Return what a message of the front end asks for."""
    return View(
        along=int(message["along"]),
        box=tuple((int(first), int(stop)) for first, stop in message["box"]),
        step=(int(message["step"][0]), int(message["step"][1])),
        frame=int(message["frame"]),
    )
