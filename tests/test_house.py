"""Budgets and habits of the house."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "cellkit"
SOURCES = sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.js"), *PACKAGE.rglob("*.css")])


def function_lengths(source: str) -> dict[str, int]:
    """Return the number of lines of every function, its docstring not counted."""
    lengths = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            said = docstring.count("\n") + 1 if docstring else 0
            lengths[f"{node.name}:{node.lineno}"] = node.end_lineno - node.lineno + 1 - said
    return lengths


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_has_at_most_300_lines(path):
    assert len(path.read_text().splitlines()) <= 300


def test_a_function_has_at_most_40_lines_and_nine_in_ten_at_most_25():
    lengths = {
        f"{path.relative_to(PACKAGE)}:{name}": n
        for path in PACKAGE.rglob("*.py")
        for name, n in function_lengths(path.read_text()).items()
    }
    assert {name: n for name, n in lengths.items() if n > 40} == {}
    long = [name for name, n in lengths.items() if n > 25]
    assert len(long) <= 0.1 * len(lengths), long


def test_control_a_docstring_does_not_count_as_length():
    assert function_lengths('def f():\n    """One.\n\n    Two.\n    """\n    return 1\n') == {"f:1": 2}


def test_no_screen_asks_for_anything_outside():
    for path in PACKAGE.rglob("*.js"):
        assert "http://" not in path.read_text().replace("http://www.w3.org/", ""), path
        assert "https://" not in path.read_text(), path


IMPORT = """
import sys, time
start = time.perf_counter()
import cellkit
seconds = time.perf_counter() - start
heavy = {"keras", "tensorflow", "openvino", "ipywidgets", "anywidget", "matplotlib", "torch"}
print(sorted(heavy & set(sys.modules)), seconds)
"""


def test_import_cellkit_is_quick_and_loads_neither_keras_nor_widgets():
    runs = [
        subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    ]
    assert all(run.startswith("[] ") for run in runs)
    assert min(float(run.split()[-1]) for run in runs) < 0.5


@pytest.mark.parametrize("command", ["ruff check --no-cache .", "ruff format --no-cache --check .", "mypy"])
def test_the_linters_find_nothing(command, repository):
    found = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=repository, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout
