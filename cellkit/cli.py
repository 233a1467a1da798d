"""The command `cellkit`: the loop without a notebook, and the way to the notebooks."""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cellkit import __version__

TAKEN = (
    "a bundle of `cellkit pack`, or of cellfinder a training.yaml or its folder, points (.xml, .yml, .csv; "
    "with --image), or a network (.keras, .h5)"
)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line on stderr and exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Print one line that says what is wrong and where help is."""
        self.exit(2, f"{self.prog}: {message}. See `{self.prog} --help`.\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0, 2 for an error said in one line, 130 when interrupted."""
    options = build_parser().parse_args(arguments)
    warnings.showwarning = _show_warning
    try:
        options.run(options)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"cellkit: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("cellkit: stopped; what was finished is kept.", file=sys.stderr)
        return 130
    return 0


def _show_warning(message: Warning | str, *_: object) -> None:
    print(f"cellkit: note: {' '.join(str(message).split())}", file=sys.stderr)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = Parser(prog="cellkit", description="Teach a network to see your cells.")
    parser.add_argument("--version", action="version", version=f"cellkit {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_loop(commands)
    _add_image_commands(commands)
    _add_study_commands(commands)
    return parser


def _add_loop(commands: argparse._SubParsersAction) -> None:
    tour = commands.add_parser("tour", help="the whole loop on the sample study, without a screen")
    tour.add_argument("--out", type=Path, default=Path("cellkit-tour"), metavar="DIR")
    tour.set_defaults(run=_tour)
    lab = commands.add_parser("lab", help="open JupyterLab on the notebooks")
    lab.add_argument("folder", type=Path, nargs="?", default=Path("cellkit-notebooks"), metavar="DIR")
    lab.add_argument("--dry-run", action="store_true", help="print the command instead of running it")
    lab.set_defaults(run=_lab)
    books = commands.add_parser("notebooks", help="`notebooks copy DIR`: your own copy of the notebooks")
    copy = books.add_subparsers(required=True, metavar="copy").add_parser("copy")
    copy.add_argument("folder", type=Path, metavar="DIR")
    copy.set_defaults(run=_copy)


def _add_image_commands(commands: argparse._SubParsersAction) -> None:
    detect = commands.add_parser("detect", help="image -> candidates (CSV, strongest first)")
    _add_image(detect)
    detect.set_defaults(run=_detect)
    classify = commands.add_parser("classify", help="image and candidates -> calls (CSV)")
    _add_image(classify)
    classify.add_argument("candidates", type=Path, metavar="CANDIDATES.csv")
    classify.add_argument("--network", default="cells-1", metavar="NAME_OR_PATH")
    classify.set_defaults(run=_classify)


def _add_image(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("--background", metavar="IMAGE", help="the image of the background channel")
    parser.add_argument("--voxel-um", type=float, nargs=3, metavar=("Z", "Y", "X"), help="voxel size in µm")
    parser.add_argument("--diameter-um", type=float, required=True, metavar="D", help="cell diameter in µm")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.csv")


def _add_study_commands(commands: argparse._SubParsersAction) -> None:
    for name, run, text in [
        ("retrain", _retrain, "a study's labels -> a new network"),
        ("reassess", _reassess, "a study's networks on its audit; counts; report"),
    ]:
        command = commands.add_parser(name, help=text)
        command.add_argument("study", type=Path, metavar="STUDY")
        command.set_defaults(run=run)
        if name == "reassess":
            command.add_argument("--audit", default="audit", metavar="NAME")
            command.add_argument("--by", metavar="COLUMN", help="counts of parts: region, depth, brightness")
    _add_exchange(commands)


def _add_exchange(commands: argparse._SubParsersAction) -> None:
    pack = commands.add_parser("pack", help="a study's labels with their cubes -> one file to pass on")
    pack.add_argument("study", type=Path, metavar="STUDY")
    pack.add_argument("--out", type=Path, required=True, metavar="FILE.zip")
    for about in ("description", "licence", "contact"):
        pack.add_argument(f"--{about}", default="", metavar="TEXT")
    pack.set_defaults(run=_pack)
    take = commands.add_parser("import", help="labels or a network of others -> a study")
    take.add_argument("study", type=Path, metavar="STUDY")
    take.add_argument("file", type=Path, metavar="FILE", help=TAKEN)
    take.add_argument("--image", metavar="NAME", help="the study's image that the labels are of")
    take.add_argument("--name", help="what the pool or the network is to be called")
    take.add_argument("--who", default="cellfinder", help="whose labels they are, with --image")
    take.add_argument("--diameter-um", type=float, metavar="D", help="of cells in a training folder")
    take.add_argument("--background", default="background", help='"signal" for a network trained so')
    take.set_defaults(run=_import)
    give = commands.add_parser("export", help="a study's labels -> training folders of cellfinder")
    give.add_argument("study", type=Path, metavar="STUDY")
    give.add_argument("--out", type=Path, required=True, metavar="DIR")
    give.set_defaults(run=_export)


def _tour(options: argparse.Namespace) -> None:
    from cellkit.tour import take_tour

    print(take_tour(options.out))


def _lab(options: argparse.Namespace) -> None:
    from cellkit.tour import open_lab

    open_lab(options.folder, dry_run=options.dry_run)


def _copy(options: argparse.Namespace) -> None:
    from cellkit.tour import copy_notebooks

    for path in copy_notebooks(options.folder):
        print(path)


def _open(options: argparse.Namespace):
    from cellkit.images import open_image

    _check_out(options.out)
    voxel_um = tuple(options.voxel_um) if options.voxel_um else None
    if options.background is None:
        return open_image(options.image, voxel_um=voxel_um, name="image")
    paths = [options.image, options.background]
    return open_image(paths, voxel_um=voxel_um, roles=("signal", "background"), name="image")


def _check_out(path: Path) -> None:
    if path.suffix != ".csv":
        raise ValueError(f"--out must end in .csv; got {str(path)!r}. Rename it.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"--out must lie in a folder that is there; {path.parent} is not. Make it.")


def _detect(options: argparse.Namespace) -> None:
    from cellkit.detect import find_candidates
    from cellkit.tables import write_table

    candidates = find_candidates(_open(options), diameter_um=options.diameter_um, progress=True)
    write_table(candidates[["z", "y", "x", "score", "diameter_um"]], options.out)
    print(f"{len(candidates)} candidates in {options.out}")


def _classify(options: argparse.Namespace) -> None:
    from cellkit.detect import call_candidates
    from cellkit.tables import check_inside, read_table, write_table

    places = read_table(options.candidates, dict.fromkeys("zyx", "float64"))
    image = _open(options)
    check_inside(places, image.shape[2:], what=str(options.candidates))
    called = call_candidates(image, places, network=options.network, diameter_um=options.diameter_um)
    write_table(called.drop(columns="network"), options.out)
    print(f"{int(called['called'].sum())} of {len(called)} called {options.network}: {options.out}")


def _retrain(options: argparse.Namespace) -> None:
    from cellkit.detect import classify
    from cellkit.retrain import retrain
    from cellkit.sharing.exchange import pools_of
    from cellkit.study import open_study

    study = open_study(options.study)
    network = retrain(study, pools=pools_of(study), on_epoch=_say_epoch)
    classify(study, network.card.name)
    print(f"{network.card.name} in {study.network_folder(network.card.name)}")


def _say_epoch(row: dict) -> None:
    numbers = (f"{name} {row[name]:.3f}" for name in ("loss", "val_loss", "val_f1") if name in row)
    print(f"epoch {row['epoch']}: {', '.join(numbers)}", flush=True)


def _reassess(options: argparse.Namespace) -> None:
    from cellkit.measuring.advice import advise
    from cellkit.reassess import counts
    from cellkit.report import write_report
    from cellkit.study import open_study
    from cellkit.tables import write_table

    study = open_study(options.study)
    page = write_report(study, audit=options.audit)
    print(advise(study, audit=options.audit).sentence)
    if options.by:
        table = counts(study, audit=options.audit, by=options.by)
        print(write_table(table, page.with_name(f"counts-by-{options.by}.csv")))
    print(page)


def _pack(options: argparse.Namespace) -> None:
    from cellkit.sharing.exchange import pack
    from cellkit.study import open_study

    about = {name: getattr(options, name) for name in ("description", "licence", "contact")}
    print(pack(open_study(options.study), options.out, **about))


def _import(options: argparse.Namespace) -> None:
    from cellkit.sharing.exchange import import_labels, import_pool
    from cellkit.study import open_study

    study, file = open_study(options.study), options.file
    if file.suffix in (".keras", ".h5"):
        from cellkit.networks.cellfinder import import_cellfinder

        folder, background = study.folder / "networks", options.background
        print(import_cellfinder(file, folder, name=options.name, background=background))
    elif options.image:
        added = import_labels(study, file, options.image, who=options.who)
        print(f"{added} labels of {options.image} added as those of {options.who}")
    elif file.is_dir() or file.suffix == ".zip" or file.name == "training.yaml":
        print(import_pool(study, file, diameter_um=options.diameter_um, name=options.name))
    else:
        raise ValueError(f"Points need the image that they are of; got {file} alone. Name it with --image.")


def _export(options: argparse.Namespace) -> None:
    from cellkit.sharing.exchange import export_training
    from cellkit.study import open_study

    for path in export_training(open_study(options.study), options.out):
        print(path)
