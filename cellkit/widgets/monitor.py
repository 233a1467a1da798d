"""Watch a training: curves that grow, and a Stop that keeps the best network."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pandas as pd

from cellkit.widgets.screen import Handler, Screen, front_end

PAUSE_S = 0.5  # between two messages to the browser, at least
SHOWN = ("epoch", "loss", "val_loss", "f1", "val_f1", "seconds")


class TrainingMonitor(Screen):
    """Run a training in the background and show its curves; other cells and screens stay alive.

    Parameters
    ----------
    train : callable
        `retrain.retrain`, or anything that takes `on_epoch` and `stop` as it does.
    *arguments, **settings
        Passed on to `train`.

    Attributes
    ----------
    state : str
        "running", "stopping", "done" or "failed".
    """

    _esm = front_end("monitor.js")

    def __init__(self, train: Callable[..., Any], *arguments: Any, **settings: Any) -> None:
        self.state, self.error = "running", None
        self._rows: list[dict[str, float]] = []
        self._result: Any = None
        self._stop, self._told = threading.Event(), 0.0
        self._epochs = getattr(settings.get("settings"), "epochs", None)
        super().__init__()
        work = (train, arguments, settings | {"on_epoch": self._on_epoch, "stop": self._stop})
        self._thread = threading.Thread(target=self._run, args=work, daemon=True, name="training")
        self._thread.start()

    @property
    def history(self) -> pd.DataFrame:
        """The rows of the history so far, one an epoch."""
        return pd.DataFrame(self._rows)

    def stop(self) -> None:
        """End the training within a batch; the best epoch so far is kept."""
        self._stop.set()
        self._now("stopping", only_from="running")

    def result(self) -> Any:
        """Wait until the training has ended and return what it returned; its error, if it failed.

        Interrupting the wait (the notebook's stop button) ends the training and keeps the best epoch so far.
        """
        try:
            self._thread.join()
        except KeyboardInterrupt:
            self.stop()
            self._thread.join()
        if self.error is not None:
            raise self.error
        return self._result

    def handlers(self) -> dict[str, Handler]:
        """Return what answers each op."""
        return {"ready": lambda _: self._show(), "stop": lambda _: self.stop()}

    def _run(self, train: Callable[..., Any], arguments: tuple, settings: dict) -> None:
        try:
            self._result = train(*arguments, **settings)
            self._now("done")
        except Exception as error:
            self.error = error
            self._now("failed")

    def _now(self, state: str, *, only_from: str | None = None) -> None:
        """Take a state and show it; an end that came first is not overwritten by a wish to stop."""
        with self._lock:
            if only_from in {None, self.state}:
                self.state = state
            self._show()

    def _on_epoch(self, row: dict[str, float]) -> None:
        self._rows.append({name: float(value) for name, value in row.items()})
        if time.monotonic() - self._told >= PAUSE_S:
            self._show()

    def _show(self) -> None:
        self._told = time.monotonic()
        name = getattr(getattr(self._result, "card", None), "name", "")
        self.send(
            {
                "op": "curves",
                "state": self.state,
                "rows": [{key: row.get(key) for key in SHOWN} for row in self._rows],
                "epochs": self._epochs,
                "name": str(name),
                "error": str(self.error or ""),
            }
        )
