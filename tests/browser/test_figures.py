"""Figures that are clicked into, in a real browser."""

import pytest
from made_up import answer, make_study

from cellkit import review
from cellkit.reassess import assess

pytest.importorskip("playwright", reason="playwright is not installed")
from playwright.sync_api import expect

pytestmark = pytest.mark.browser
OPEN = "from cellkit.study import open_study\nstudy = open_study('{0}')"
STAND_IN = """from types import SimpleNamespace
from cellkit.labels import similar
card = SimpleNamespace(name='net-a', sha256='0')
similar.find_network = lambda study, name: SimpleNamespace(card=card)
similar.look_once = lambda study, name, network: None
similar.embeddings_at = lambda study, network, places: places[['z', 'y', 'x']].to_numpy('float32')"""


@pytest.fixture
def study(lab, request):
    """An answered audit beside the notebook."""
    study = make_study(lab.home / request.node.name, n=200)
    review.draw_audit(study, 100)
    answer(study, review.audit_queue(study), wrong=0.2)
    return study


def drag(page, points):
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=4)
    page.mouse.up()


def test_a_click_on_the_matrix_opens_that_cell_and_the_slider_moves_the_threshold(run, study):
    found = assess(study, "net-a")
    cells = (
        OPEN.format(study.folder.name),
        "from cellkit.reassess import assess\nfound = assess(study, 'net-a')",
        "from cellkit.widgets import ConfusionMatrix, ThresholdExplorer\nConfusionMatrix(study, found)",
        "explorer = ThresholdExplorer(found, study.candidates())\nexplorer",
    )
    page = run("matrix.ipynb", *cells)
    figure = page.locator(".jupyter-matplotlib-canvas-container canvas").first
    expect(figure).to_be_visible(timeout=30_000)
    figure.scroll_into_view_if_needed()
    box = figure.bounding_box()
    page.mouse.click(box["x"] + 0.76 * box["width"], box["y"] + 0.3 * box["height"])
    gallery = page.locator(".ck-gallery")
    expect(gallery).to_have_attribute("data-ready", "1", timeout=30_000)
    expect(gallery).to_contain_text("missed cell")
    n = int(found.confusion.to_numpy()[0, 1])
    assert n > 0, "control: there are missed cells"
    expect(gallery.locator(".ck-tile")).to_have_count(n)
    called = page.get_by_text("candidates called")
    before = called.inner_text()
    slider = page.locator(".widget-slider .noUi-handle").first
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    expect(called).not_to_have_text(before)


def test_a_lasso_in_the_map_opens_the_candidates_inside_it(run, study):
    show = "from cellkit.widgets import EmbeddingMap\nEmbeddingMap(study)"
    page = run("map.ipynb", OPEN.format(study.folder.name), STAND_IN, show)
    figure = page.locator(".jupyter-matplotlib-canvas-container canvas").first
    expect(figure).to_be_visible(timeout=30_000)
    figure.scroll_into_view_if_needed()
    box = figure.bounding_box()
    corners = [(0.1, 0.1), (0.5, 0.1), (0.5, 0.9), (0.1, 0.9), (0.1, 0.12)]
    drag(page, [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners])
    gallery = page.locator(".ck-gallery")
    expect(gallery).to_have_attribute("data-ready", "1", timeout=30_000)
    note = page.get_by_text("inside,").inner_text()
    shown = int(note.split(" inside, ")[1].split(" shown")[0])
    inside = int(note.split(" inside")[0])
    assert 20 < inside < 380
    expect(gallery).to_have_attribute("data-open", str(shown))
