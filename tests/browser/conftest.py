"""A real JupyterLab and a real Chromium, both of this machine and talking to nothing outside it."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from types import SimpleNamespace

import nbformat
import pytest

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
READY = "async () => { await window.jupyterapp.shell.currentWidget.sessionContext.ready; }"
RUN_ALL = "async () => { await window.jupyterapp.commands.execute('notebook:run-all-cells'); }"


@pytest.fixture(scope="session")
def chromium():
    """The browser's program: CELLKIT_CHROMIUM, or whichever of Chromium, Chrome and Edge is installed."""
    names = ("chromium", "chromium-browser", "google-chrome", "microsoft-edge")
    found = os.environ.get("CELLKIT_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if not found:
        pytest.skip(f"no browser: none of {', '.join(names)} is installed, and CELLKIT_CHROMIUM names none")
    return found


@pytest.fixture(scope="session")
def browser(chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory, chromium):
    """A JupyterLab with settings of its own, on a free port of this machine."""
    home = tmp_path_factory.mktemp("lab")
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
        wait_for(f"{url}/api?token={token}", server, log)
        yield SimpleNamespace(url=url, token=token, home=home)
    finally:
        server.terminate()
        server.wait(20)


def wait_for(address, server, log):
    for _ in range(240):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except OSError:
            time.sleep(0.25)
    pytest.fail(log.read_text())


@pytest.fixture
def page(lab, browser):
    """A page that fails its test when it asks for anything outside or meets an error."""
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    page = context.new_page()
    bad = []
    own = (lab.url, "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(own) else bad.append(request.url))
    page.on("pageerror", lambda error: bad.append(str(error)))
    yield page
    context.close()
    assert not bad


@pytest.fixture
def run(lab, page):
    """Write a notebook with these cells, open it and run it; without cells, open the one that is there."""

    def run(name, *cells, after=RUN_ALL):
        if cells:
            book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
            book.metadata["kernelspec"] = {
                "name": "python3",
                "display_name": "Python 3",
                "language": "python",
            }
            nbformat.write(book, lab.home / name)
        page.goto(f"{lab.url}/lab/tree/{name}?reset&token={lab.token}")
        page.wait_for_selector(".jp-NotebookPanel .jp-Notebook .jp-Cell", timeout=60_000)
        page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.context?.isReady")
        page.evaluate(READY)
        page.evaluate(after)
        return page

    return run
