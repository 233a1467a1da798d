import subprocess
import sys

import pytest

from cellkit import __version__
from cellkit.cli import main


def run(capsys, *arguments):
    """Run a command as the shell would; return its exit code and what it printed."""
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    return code, said.out, said.err


def test_version_is_printed(capsys):
    assert run(capsys, "--version") == (0, f"cellkit {__version__}\n", "")


def test_an_unknown_command_is_one_line_and_exit_code_2(capsys):
    code, out, err = run(capsys, "paint")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("cellkit: argument COMMAND: invalid choice: 'paint'")
    assert err.endswith("See `cellkit --help`.\n")


def test_a_missing_image_is_one_line_and_exit_code_2_and_nothing_is_written(capsys, tmp_path):
    out_file = tmp_path / "out.csv"
    arguments = ["--voxel-um", "5", "2", "2", "--diameter-um", "16", "--out", str(out_file)]
    code, out, err = run(capsys, "detect", str(tmp_path / "no.tif"), *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "no.tif" in err and "Traceback" not in err
    assert not out_file.exists()


@pytest.mark.parametrize("command", ["retrain", "reassess"])
def test_a_folder_that_is_no_study_is_one_line_and_exit_code_2(capsys, tmp_path, command):
    code, out, err = run(capsys, command, str(tmp_path))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "study.toml" in err


def test_out_must_be_a_csv_in_a_folder_that_is_there(capsys, tmp_path):
    arguments = ["detect", "x.tif", "--diameter-um", "16", "--out"]
    assert run(capsys, *arguments, "out.txt") == (
        2,
        "",
        "cellkit: --out must end in .csv; got 'out.txt'. Rename it.\n",
    )
    folder = tmp_path / "no"
    assert run(capsys, *arguments, str(folder / "out.csv")) == (
        2,
        "",
        f"cellkit: --out must lie in a folder that is there; {folder} is not. Make it.\n",
    )


def test_notebooks_are_copied_once_and_never_overwritten(capsys, tmp_path):
    folder = tmp_path / "mine"
    code, out, _ = run(capsys, "notebooks", "copy", str(folder))
    assert code == 0 and "00_start.ipynb" in out
    assert run(capsys, "notebooks", "copy", str(folder))[0] == 0, "control: untouched copies are fine"
    mine = folder / "01_detect.ipynb"
    mine.write_text("{}")
    assert run(capsys, "notebooks", "copy", str(folder)) == (
        2,
        "",
        f"cellkit: Copying never overwrites your notebooks; {folder} holds 01_detect.ipynb with other "
        "content. Name another folder, or rename yours.\n",
    )
    assert mine.read_text() == "{}"


def test_lab_copies_the_notebooks_and_starts_jupyterlab_there(capsys, tmp_path):
    code, out, _ = run(capsys, "lab", str(tmp_path / "lab"), "--dry-run")
    assert code == 0 and (tmp_path / "lab" / "00_start.ipynb").exists()
    assert out.startswith(sys.executable) and "jupyterlab" in out and str(tmp_path / "lab") in out


def test_a_tour_needs_a_folder_of_its_own(capsys, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    assert run(capsys, "tour", "--out", str(tmp_path)) == (
        2,
        "",
        f"cellkit: A tour needs a folder of its own; {tmp_path} holds other files. "
        "Name another with --out.\n",
    )
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_python_m_cellkit_is_the_command():
    said = subprocess.run(
        [sys.executable, "-m", "cellkit", "--version"], capture_output=True, text=True, check=True
    )
    assert said.stdout == f"cellkit {__version__}\n"
