"""The form of the notebooks: an essay in short cells, without outputs."""

import ast
import itertools
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def faults(book: nbformat.NotebookNode, *, last: bool) -> list[str]:
    """Say what keeps a notebook from the form."""
    said = []
    first, end = book.cells[0], book.cells[-1]
    if first.cell_type != "markdown" or not first.source.startswith("# "):
        said.append("must start with a title")
    elif "At the end" not in first.source or "minute" not in first.source:
        said.append("must say under its title what there is at the end and how long it takes")
    if not last and (end.cell_type != "markdown" or not end.source.startswith("Next: [")):
        said.append("must end with `Next: [NN](...)`")
    for number, cell in enumerate(book.cells):
        if cell.cell_type != "code":
            continue
        if len(cell.source.splitlines()) > 10:
            said.append(f"cell {number} has more than 10 lines")
        if cell.get("outputs") or cell.get("execution_count"):
            said.append(f"cell {number} has outputs")
        code = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))
        if any(
            isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda)
            for node in ast.walk(ast.parse(code))
        ):
            said.append(f"cell {number} defines something: it belongs to the package")
        if number and book.cells[number - 1].cell_type == "code":
            said.append(f"cell {number} has no prose before it")
    return said


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_a_notebook_is_an_essay_in_short_cells_without_outputs(path):
    assert faults(nbformat.read(path, as_version=4), last=path == NOTEBOOKS[-1]) == []


def test_the_notebooks_are_numbered_and_each_leads_to_the_next():
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{n:02}" for n in range(len(NOTEBOOKS))]
    for path, following in itertools.pairwise(NOTEBOOKS):
        end = nbformat.read(path, as_version=4).cells[-1].source
        assert end == f"Next: [{following.name[:2]}]({following.name})" or end.startswith(
            f"Next: [{following.name[:2]}]({following.name}), "
        )


def test_control_a_notebook_out_of_form_is_seen():
    cell = nbformat.v4.new_code_cell
    book = nbformat.v4.new_notebook(cells=[cell("x = 1"), cell("def f():\n    pass"), cell("x\n" * 11)])
    assert faults(book, last=False) == [
        "must start with a title",
        "must end with `Next: [NN](...)`",
        "cell 1 defines something: it belongs to the package",
        "cell 1 has no prose before it",
        "cell 2 has more than 10 lines",
        "cell 2 has no prose before it",
    ]
