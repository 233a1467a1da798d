"""The wheel holds all that a user needs, and works from where it is installed."""

import subprocess
import sys
import zipfile

import pytest


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(out),
        str(repository),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_the_wheel_holds_notebooks_screens_and_supplied_networks(wheel, repository):
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {f"cellkit/notebooks/{path.name}" for path in (repository / "notebooks").glob("*.ipynb")}
    for pattern in ("*.py", "*.js", "*.css", "networks/supplied/*/*"):
        found = {str(path.relative_to(repository)) for path in (repository / "cellkit").rglob(pattern)}
        assert found, pattern
        wanted |= found
    assert wanted - held == set()
    assert not [name for name in held if name.startswith(("tests/", "data/", "benchmarks/"))]


def test_the_unpacked_wheel_finds_its_notebooks_and_networks(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import cellkit; from cellkit.tour import notebooks_folder; "
        "from cellkit.networks.store import supplied_networks; "
        "print(cellkit.__file__, len(list(notebooks_folder().glob('*.ipynb'))), supplied_networks())"
    )
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said.startswith(str(tmp_path)) and "cells-1" in said
    assert int(said.split()[1]) >= 6
