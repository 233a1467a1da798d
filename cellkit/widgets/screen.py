"""What all screens share: their front end, messages in and out, and errors that are shown."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import anywidget

from cellkit import annotate
from cellkit.study import Study
from cellkit.tables import UNSURE

HERE = Path(__file__).parent
COLOURS = ("#0072B2", "#D55E00", "#F0E442")  # Okabe and Ito: blue, vermillion, yellow
MARKS = ("#56B4E9", "#E8762D", "#F0E442")  # the same hues, light enough for lines on a dark image
Handler = Callable[[dict], None]


def front_end(*names: str) -> str:
    """Return the ES module of a screen: what all share, then its own parts."""
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("common.js", *names))


def answer_styles(classes: tuple[str, str]) -> dict[str, dict[str, str]]:
    """Return letter, colour, and colour on an image of every answer: never colour alone."""
    letters = (classes[0][0].upper(), "X", "?")
    named = zip((*classes, UNSURE), letters, COLOURS, MARKS, strict=True)
    return {name: {"letter": letter, "color": color, "mark": mark} for name, letter, color, mark in named}


class Screen(anywidget.AnyWidget):
    """A screen: the browser sends what is meant, `{"op": "label", ...}`, and draws what comes back.

    The browser asks with `{"op": "ready"}` once it is drawn, so that a page opened again is filled again.
    A subclass gives its `_esm` and one method for each op in `handlers`.
    """

    _esm = "export default { render() {} }"
    _css = (HERE / "screens.css").read_text(encoding="utf-8")

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()
        self.on_msg(self._receive)

    def handlers(self) -> dict[str, Handler]:
        """Return what answers each op."""
        raise NotImplementedError

    def _receive(self, _: object, message: dict, buffers: list) -> None:
        """Answer one message; an error goes to the screen and to the log, never to nowhere."""
        with self._lock:
            try:
                self.handlers()[message["op"]](message)
            except Exception as error:
                logging.getLogger(__name__).exception("%s failed", message.get("op"))
                self.refuse(message, str(error) or type(error).__name__)

    def refuse(self, message: dict, reason: str) -> None:
        """Say on the screen why something was not done."""
        self.send({"op": "error", "text": reason})


class LabelScreen(Screen):
    """A screen on which a person answers by keys of their own.

    Parameters
    ----------
    study : Study
    who : str
        In whose name answers and keys are saved.
    """

    def __init__(self, study: Study, who: str) -> None:
        self.study, self.who = study, who
        super().__init__()

    @property
    def keymap(self) -> list[tuple[str, str]]:
        """The keys and what they answer, as the front end takes them."""
        return list(annotate.read_keymap(self.study, self.who).items())

    def remap(self, message: dict) -> None:
        """Let another letter give an answer from now on."""
        annotate.remap(self.study, str(message["key"]), str(message["answer"]), self.who)
        self.send({"op": "keys", "keymap": self.keymap})
