"""A Chromium driven by the bare DevTools protocol, for measuring what a person would wait for.

Playwright listens to every frame of every socket that a page opens, and takes it apart in two more processes:
the cores that this needs are missing to what is measured. This one hears nothing but the answers to what it
asks. Names are as Playwright's.
"""

import json
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

KEYS = {"Home": 36, "End": 35, "Enter": 13, "ArrowUp": 38, "ArrowDown": 40}


class Page:
    """The one page of a Chromium.

    Parameters
    ----------
    address : str
        Of its DevTools socket.
    """

    def __init__(self, address: str) -> None:
        from websocket import create_connection

        self._socket = create_connection(address, suppress_origin=True, timeout=120)
        self._numbers = count(1)
        self.url = "about:blank"
        self.send("Emulation.setFocusEmulationEnabled", enabled=True)

    def send(self, method: str, **parameters: Any) -> dict:
        """Send a command and return its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            said = json.loads(self._socket.recv())
            if said.get("id") == number:
                if "error" in said:
                    raise RuntimeError(f"{method}: {said['error']['message']}")
                return said["result"]

    def goto(self, url: str) -> None:
        """Open an address; what it shows is to be waited for."""
        self.send("Page.navigate", url=url)
        self.url = url

    def evaluate(self, function: str, *arguments: Any) -> Any:
        """Call a function of the page; what it returns comes back as plain values."""
        call = f"({function})({', '.join(json.dumps(each) for each in arguments)})"
        said = self.send("Runtime.evaluate", expression=call, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in said:
            details = said["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return said["result"].get("value")

    def wait_for_function(self, function: str, *, arg: Any = None, timeout: float = 60_000) -> None:
        """Wait until a function of the page says so."""
        until = time.monotonic() + timeout / 1000
        while not self._holds(function, arg):
            if time.monotonic() > until:
                raise TimeoutError(f"waited {timeout / 1000:.0f} s for {function}")
            time.sleep(0.05)

    def _holds(self, function: str, argument: Any) -> bool:
        try:
            return bool(self.evaluate(function, argument))
        except RuntimeError:
            return False  # the page is being loaded

    def wait_for_selector(self, selector: str, *, timeout: float = 60_000) -> None:
        """Wait until the page holds such an element."""
        self.wait_for_function(
            "(name) => document.querySelector(name) !== null", arg=selector, timeout=timeout
        )

    @staticmethod
    def wait_for_timeout(ms: float) -> None:
        """Wait."""
        time.sleep(ms / 1000)

    def box(self, selector: str) -> dict[str, float]:
        """Return where an element lies: x, y, width, height."""
        return self.evaluate(
            "(name) => document.querySelector(name).getBoundingClientRect().toJSON()", selector
        )

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        code = KEYS.get(key, ord(key.upper()[0]))
        said = {
            "key": key,
            "windowsVirtualKeyCode": code,
            "code": key if key in KEYS else f"Key{key.upper()}",
        }
        text = {} if key in KEYS and key != "Enter" else {"text": "\r" if key == "Enter" else key}
        self.send("Input.dispatchKeyEvent", type="keyDown", **said, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **said)

    def write(self, text: str) -> None:
        """Put text in where the cursor is."""
        self.send("Input.insertText", text=text)

    def mouse(self, kind: str, x: float, y: float, *, held: bool = False) -> None:
        """Move the pointer ("mouseMoved"), press its button ("mousePressed"), let it go ("mouseReleased")."""
        button = {"button": "left", "clickCount": 1} if kind != "mouseMoved" else {}
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, buttons=int(held), **button)


@contextmanager
def open_chromium(program: str, flags: list[str]) -> Iterator[Page]:
    """Start a Chromium with a window of 1366 x 900 and yield its page."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        own = [
            "--headless=new",
            "--remote-debugging-port=0",
            f"--user-data-dir={home}",
            "--window-size=1366,900",
        ]
        started = subprocess.Popen([program, *own, *flags, "about:blank"], stderr=subprocess.DEVNULL)
        try:
            yield Page(_address(started, Path(home) / "DevToolsActivePort"))
        finally:
            started.terminate()
            started.wait(20)


def _address(started: subprocess.Popen, said: Path) -> str:
    """Return the address of the page's socket, once the browser has said where it listens."""
    for _ in range(200):
        if started.poll() is not None:
            raise RuntimeError(f"the browser ended with {started.returncode}")
        if said.exists() and (lines := said.read_text().splitlines()):
            with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json") as answer:
                pages = [each for each in json.load(answer) if each["type"] == "page"]
            if pages:
                return pages[0]["webSocketDebuggerUrl"]
        time.sleep(0.1)
    raise TimeoutError("the browser did not say where it listens")
