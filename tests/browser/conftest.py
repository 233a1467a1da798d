"""A real JupyterLab and a real Chromium, both of this machine and talking to nothing outside it."""

import os
import shutil

import pytest
from lab import FLAGS, RUN_ALL, close_books, open_book, serve


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
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=15_000)  # a machine that runs other tests beside it may be slow
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory, chromium):
    """A JupyterLab with settings of its own, on a free port of this machine."""
    with serve(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="session")
def window(browser):
    """The page in which all tests open their notebooks."""
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    yield context.new_page()
    context.close()


@pytest.fixture
def page(lab, window):
    """A page that fails its test when it asks for anything outside or meets an error."""
    bad = []
    own = (lab.url, "data:", "blob:")

    def asked(request):
        if not request.url.startswith(own):
            bad.append(request.url)

    def broke(error):
        bad.append(str(error))

    window.on("request", asked)
    window.on("pageerror", broke)
    yield window
    if window.url.startswith(lab.url):
        close_books(window)
        if window.locator(".jp-Dialog").count():
            window.goto("about:blank")  # the next test begins with a page of its own
    window.remove_listener("request", asked)
    window.remove_listener("pageerror", broke)
    assert not bad


@pytest.fixture
def run(lab, page):
    """Write a notebook with these cells, open it and run it; without cells, open the one that is there."""

    def run(name, *cells, after=RUN_ALL):
        return open_book(lab, page, name, *cells, after=after)

    return run
