"""The notebooks without a screen: where they lie, copies of them, JupyterLab on them, and the tour."""

import filecmp
import json
import shlex
import shutil
import subprocess
import sys
import time
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

STUDY = "my-study"


def notebooks_folder() -> Path:
    """Return the folder of the notebooks: in the installed package, else in the source tree."""
    installed = Path(str(resources.files("cellkit"))) / "notebooks"
    return installed if installed.is_dir() else installed.parent.parent / "notebooks"


def copy_notebooks(folder: Path) -> list[Path]:
    """Copy the notebooks to a folder; return the copies, those that were there already included.

    Raises
    ------
    FileExistsError
        If the folder holds a notebook of the same name with other content; then nothing is copied.
    """
    originals = sorted(notebooks_folder().glob("*.ipynb"))
    copies = [folder / original.name for original in originals]
    edited = [
        copy.name
        for original, copy in zip(originals, copies, strict=True)
        if copy.exists() and not filecmp.cmp(original, copy, shallow=False)
    ]
    if edited:
        raise FileExistsError(
            f"Copying never overwrites your notebooks; {folder} holds {', '.join(edited)} with other "
            "content. Name another folder, or rename yours."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for original, copy in zip(originals, copies, strict=True):
        if not copy.exists():
            shutil.copyfile(original, copy)
    return copies


def open_lab(folder: Path, *, dry_run: bool = False) -> None:
    """Start JupyterLab in a folder; a folder without notebooks gets a copy of them first.

    Raises
    ------
    ModuleNotFoundError
        If JupyterLab is not installed.
    """
    if not any(folder.glob("*.ipynb")):
        copy_notebooks(folder)
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.resolve()}"]
    if dry_run:
        print(shlex.join(command))
        return
    if find_spec("jupyterlab") is None:
        raise ModuleNotFoundError(
            "`cellkit lab` needs JupyterLab; it is not installed here. `pip install jupyterlab`."
        )
    subprocess.run(command, check=False)


def take_tour(folder: Path) -> str:
    """Execute the notebooks in order on the sample study, its known truth answering; return a summary.

    Writes into `folder`: `notebooks/` (executed), `my-study/` and `report.html`.

    Parameters
    ----------
    folder : Path
        A new or empty folder, or one of an earlier tour, which is then made anew.

    Raises
    ------
    FileExistsError
        If the folder holds anything that is not an earlier tour.
    RuntimeError
        If a cell of a notebook fails; says which, and with what.
    """
    _clear(folder)
    originals = sorted(notebooks_folder().glob("*.ipynb"))
    begin = time.monotonic()
    for number, original in enumerate(originals):
        print(f"[{number + 1}/{len(originals)}] {original.stem} ...", end=" ", flush=True)
        start = time.monotonic()
        execute(original, folder / "notebooks" / original.name, cwd=folder)
        print(f"{time.monotonic() - start:.0f} s", flush=True)
    return _summary(folder, time.monotonic() - begin)


def _clear(folder: Path) -> None:
    mark = folder / ".cellkit-tour"
    if folder.is_dir() and any(folder.iterdir()):
        if not mark.exists():
            raise FileExistsError(
                f"A tour needs a folder of its own; {folder} holds other files. Name another with --out."
            )
        shutil.rmtree(folder)
    (folder / "notebooks").mkdir(parents=True, exist_ok=True)
    mark.touch()


def execute(notebook: Path, out: Path, *, cwd: Path, timeout: int = 900) -> None:
    """Run all cells of a notebook in `cwd` and write it with its outputs, without the state of its screens.

    Raises
    ------
    RuntimeError
        If a cell fails; the outputs up to there are written.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    book = nbformat.read(notebook, as_version=4)
    client = NotebookClient(
        book, timeout=timeout, kernel_name="python3", store_widget_state=False,
        extra_arguments=["--IPKernelApp.log_level=40"],
        resources={"metadata": {"path": str(cwd)}},
    )  # fmt: skip
    try:
        client.execute()
    except CellExecutionError as error:
        raise RuntimeError(
            f"{notebook.name} must run to its end; a cell failed with {error.ename}: {error.evalue}. "
            f"See {out}."
        ) from error
    finally:
        nbformat.write(book, out)


def _summary(folder: Path, seconds: float) -> str:
    study = folder / STUDY
    last = max((study / "rounds").iterdir(), key=lambda path: int(path.name))
    shutil.copyfile(last / "report.html", folder / "report.html")
    assessment = json.loads((last / "assessment.json").read_text())
    lines = [f"The loop took {seconds / 60:.1f} minutes.", ""]
    for network in assessment["networks"]:
        f1 = network["f1"]
        interval = f"{f1['low']:.3f} to {f1['high']:.3f}"
        lines.append(f"F1 of {network['name']:<10} {f1['value']:.3f}   95 % interval {interval}")
    lines += [
        "",
        assessment["verdict"],
        "",
        f"Report: {folder / 'report.html'}",
        f"Notebooks: {folder / 'notebooks'}",
    ]
    return "\n".join(lines)
