"""A real JupyterLab of this machine alone, and what opens and runs notebooks in it."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import nbformat

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
SETTINGS = {  # no toast over the page; cells outside the window stay drawn
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
FOLDERS = [
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_DATA_DIR",
    "JUPYTER_RUNTIME_DIR",
    "JUPYTERLAB_SETTINGS_DIR",
    "JUPYTERLAB_WORKSPACES_DIR",
    "IPYTHONDIR",
]
OPTIONS = [
    "--no-browser",
    "--allow-root",
    "--ip=127.0.0.1",
    "--ServerApp.port_retries=0",
    "--LabApp.expose_app_in_browser=True",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
]
CLOSE = """async () => {
  for (const widget of [...window.jupyterapp.shell.widgets('main')]) {
    await widget.sessionContext?.shutdown();
    widget.dispose();
  }
}"""
OPENED = """path => {
  const context = window.jupyterapp?.shell.currentWidget?.context;
  return context?.path === path && context.isReady;
}"""
OPEN = "async path => { await window.jupyterapp.commands.execute('docmanager:open', { path }); }"
READY = "async () => { await window.jupyterapp.shell.currentWidget.sessionContext.ready; }"
RUN_ALL = "async () => { await window.jupyterapp.commands.execute('notebook:run-all-cells'); }"


@contextmanager
def serve(home: Path) -> Iterator[SimpleNamespace]:
    """Serve a folder with settings of its own, on a free port; yields `url`, `token`, `home`."""
    env = os.environ | {name: str(home / name.lower()) for name in FOLDERS}
    for plugin, values in SETTINGS.items():
        file = home / "jupyterlab_settings_dir" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token, url, log = secrets.token_hex(8), f"http://127.0.0.1:{port}", home / "server.log"
    own = [f"--port={port}", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={home}"]
    with log.open("w") as sink:
        command = [sys.executable, "-m", "jupyterlab", *OPTIONS, *own]
        server = subprocess.Popen(command, env=env, stdout=sink, stderr=sink)
    try:
        _wait_for(f"{url}/api?token={token}", server, log)
        yield SimpleNamespace(url=url, token=token, home=home)
    finally:
        server.terminate()
        server.wait(20)


def _wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(240):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except OSError:
            time.sleep(0.25)
    raise TimeoutError(log.read_text())


def open_book(lab: SimpleNamespace, page, name: str, *cells: str, after: str = RUN_ALL):
    """Write a notebook with these cells, open it alone and run it; without cells, open the one that is there.

    A page that shows JupyterLab already is not loaded again, which takes longer than most tests, unless it
    shows this notebook.
    """
    if cells:
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(book, lab.home / name)
    if page.url.startswith(f"{lab.url}/lab") and not page.evaluate(OPENED, name):
        close_books(page)
        page.evaluate(OPEN, name)
    else:
        page.goto(f"{lab.url}/lab/tree/{name}?reset&token={lab.token}")
    page.wait_for_function(OPENED, arg=name, timeout=60_000)
    page.wait_for_selector(".jp-NotebookPanel .jp-Notebook .jp-Cell", timeout=60_000)
    page.evaluate(READY)
    page.evaluate(after)
    return page


def close_books(page) -> None:
    """Close all notebooks of a page as they are, and end their kernels."""
    page.evaluate(CLOSE)
