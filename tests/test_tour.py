"""The notebooks, executed in order on the sample study, with its known truth in place of a person."""

import re

import nbformat
import pytest

from cellkit.folder.disk import fingerprint
from cellkit.study import open_study
from cellkit.tour import STUDY, execute, notebooks_folder, take_tour

pytestmark = pytest.mark.notebooks


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    """The folder of a whole tour, and its summary."""
    folder = tmp_path_factory.mktemp("tour") / "tour"
    return folder, take_tour(folder)


def kept(study_folder):
    """What must not change when all is run again: labels, batches, audits, candidates and networks."""
    files = [
        path for path in sorted(study_folder.rglob("*")) if path.is_file() and "rounds" not in path.parts
    ]
    return {str(path.relative_to(study_folder)): fingerprint(path.read_bytes().hex()) for path in files}


def test_the_tour_says_f1_before_and_after_and_retraining_helped(tour):
    _, summary = tour
    said = re.findall(r"^F1 of (\S+) +(0\.\d{3})   95 % interval (0\.\d{3}) to (0\.\d{3})$", summary, re.M)
    assert [name for name, *_ in said] == ["cells-1", "net-1"]
    before, after = (float(row[1]) for row in said)
    assert after > before
    assert all(float(low) <= float(f1) <= float(high) for _, f1, low, high in said)


def test_the_tour_leaves_executed_notebooks_and_a_report_that_asks_for_nothing_outside(tour):
    folder, _ = tour
    for path in sorted((folder / "notebooks").glob("*.ipynb")):
        book = nbformat.read(path, as_version=4)
        assert all(cell.execution_count for cell in book.cells if cell.cell_type == "code"), path.name
        assert "widgets" not in book.metadata, "the state of screens does not go into the file"
    report = (folder / "report.html").read_text()
    assert "net-1" in report
    assert not re.findall(r"""(?:src|href)=["']?https?://""", report)


def test_every_label_of_the_tour_is_in_the_ledger_with_its_origin(tour):
    folder, _ = tour
    labels = open_study(folder / STUDY).labels()
    assert {"audit", "uncertain", "random", "category", "rectangle"} <= set(labels["origin"])
    assert (labels.loc[labels["origin"] == "audit", "weight"] >= 1).all()


def test_running_all_again_labels_trains_and_changes_nothing(tour):
    folder, _ = tour
    before = kept(folder / STUDY)
    assert any(name.startswith("labels/") for name in before), "control"
    for notebook in sorted(notebooks_folder().glob("*.ipynb")):
        execute(notebook, folder / "again.ipynb", cwd=folder)
    assert kept(folder / STUDY) == before


def test_a_failing_cell_names_its_notebook_and_its_error(tmp_path):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("raise ValueError('no such cell')")])
    nbformat.write(book, tmp_path / "bad.ipynb")
    out = tmp_path / "out.ipynb"
    message = f"bad.ipynb must run to its end; a cell failed with ValueError: no such cell. See {out}."
    with pytest.raises(RuntimeError, match=f"^{re.escape(message)}$"):
        execute(tmp_path / "bad.ipynb", out, cwd=tmp_path)
    assert out.exists()
