"""Watch a training: curves that grow, and a Stop that keeps the best network."""

import asyncio
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from typing import Any

import pandas as pd

from cellkit.retrain import history
from cellkit.study import Study
from cellkit.widgets.screen import Handler, Screen, front_end

PAUSE_S = 0.5  # between two messages to the browser, at least
POLL_S = 0.1
SHOWN = ("epoch", "loss", "val_loss", "kept", "f1", "val_f1", "learning_rate", "seconds")
FORMER = 4


class TrainingMonitor(Screen):
    """Run a training in the background and show its curves; other cells and screens stay alive.

    ``network = await monitor`` waits for the end in a cell of a notebook: Stop and all screens answer
    meanwhile. `result` waits where there is no event loop.

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
    former : dict of str to DataFrame
        Histories of former networks, drawn behind the curves; the newest of the study if left as they are.
    """

    _esm = front_end("monitor.js")

    def __init__(self, train: Callable[..., Any], *arguments: Any, **settings: Any) -> None:
        self.state, self.error = "running", None
        self._rows: list[dict[str, float]] = []
        self._result: Any = None
        self._stop, self._told = threading.Event(), 0.0
        self._epochs = getattr(settings.get("settings"), "epochs", None)
        self._held = False
        self.former = former_histories(arguments, without=settings.get("name"))
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
        self._hold(True)
        try:
            self._thread.join()
        except KeyboardInterrupt:
            self.stop()
            self._thread.join()
        finally:
            self._hold(False)
        return self._outcome()

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait as `result` does, but let the kernel answer the screens meanwhile."""
        return self._ended().__await__()

    async def _ended(self) -> Any:
        try:
            while self._thread.is_alive():
                await asyncio.sleep(POLL_S)
        except (asyncio.CancelledError, KeyboardInterrupt):
            self.stop()
            self._thread.join()
        return self._outcome()

    def _outcome(self) -> Any:
        if self.error is not None:
            raise self.error
        return self._result

    def _hold(self, held: bool) -> None:
        """Tell the screen whether a cell waits and keeps the kernel from answering."""
        self._held = held
        if self._thread.is_alive():
            self._show()

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
                "rows": [_shown(row) for row in self._rows],
                "epochs": self._epochs,
                "name": str(name),
                "error": str(self.error or ""),
                "held": self._held,
                "former": [
                    {"name": name, "rows": [_shown(row) for row in table.to_dict("records")]}
                    for name, table in self.former.items()
                ],
            }
        )


def former_histories(arguments: tuple, *, without: str | None = None) -> dict[str, pd.DataFrame]:
    """Return the histories of the newest networks of the study among these arguments, oldest first."""
    study = next((each for each in arguments if isinstance(each, Study)), None)
    found: dict[str, pd.DataFrame] = {}
    for name in study.networks() if study is not None else []:
        with suppress(FileNotFoundError):  # of some only the head was trained
            found |= {name: history(study, name)} if name != without else {}
    return dict(list(found.items())[-FORMER:])


def _shown(row: Mapping[Any, Any]) -> dict[str, float | None]:
    """Return what is drawn of a row of a history; a number that is none is left empty, as JSON has none."""
    return {key: float(row[key]) if pd.notna(row.get(key)) else None for key in SHOWN}
