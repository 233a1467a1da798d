"""The floors of the house: a module imports only from the floors below its own."""

import ast
from pathlib import Path

import pytest

FLOORS = [  # lowest first; modules in one row may not import one another
    ["pixels", "finding", "folder", "labels", "teaching", "measuring", "sharing"],  # the bare packages
    ["tables", "pages"],
    ["pixels.blocks", "pixels.planes", "finding.smoothing"],
    ["pixels.tiffs", "finding.plateaus", "finding.grids"],
    ["pixels.files", "pixels.intensities"],
    ["finding.blobs"],
    [
        "finding.ranking",
        "finding.context",
        "labels.diversity",
        "teaching.learning",
        "folder.disk",
        "cubes",
        "augment",
        "match",
        "estimates",
        "measuring.strata",
    ],
    ["folder.settings", "folder.events", "pixels.stacks"],
    ["images", "ledger"],
    ["folder.holdings", "finding.sweep"],
    ["folder.state"],
    ["folder.summary"],
    ["study"],
    ["folder.neighbourhoods"],
    ["synthetic", "formats"],
    ["networks.backend"],
    ["networks.standout"],
    ["networks.architectures", "networks.calibration", "networks.splits"],
    ["networks.resnets", "networks.heads"],
    ["networks.course", "networks.checkpoint", "networks.pool"],
    ["networks.stream"],
    ["networks.card", "networks.engines"],
    ["networks.safe", "networks.inputs"],
    ["networks.store"],
    ["networks.fit", "networks.predict", "networks.cellfinder"],
    ["networks"],
    ["labels.places"],
    ["labels.keys", "teaching.pools", "teaching.cube_store", "teaching.summaries"],
    ["teaching.embedding_store"],
    ["measuring.audits"],
    [
        "measuring.drawing",
        "measuring.boxes",
        "measuring.parts",
        "measuring.guard",
    ],
    ["labels.looks", "measuring.planning"],
    ["labels.sampling"],
    ["teaching.labelled", "measuring.misses"],
    ["teaching.appraisal", "teaching.heads", "teaching.held_out", "sharing.bundles", "measuring.quality"],
    ["teaching.finishing"],
    ["labels.batches", "labels.told", "labels.balance", "labels.points", "measuring.assessment"],
    ["measuring.rivals", "measuring.paired"],
    ["measuring.counting", "labels.standing", "measuring.skips", "labels.similar", "labels.choosing"],
    ["measuring.advice"],
    ["detect", "review", "annotate", "retrain", "reassess"],
    ["plots", "sharing.exchange", "measuring.methods"],
    ["chapters"],
    ["report"],
    ["widgets"],
    ["tour"],
    ["cli"],
    ["__main__"],
]
HEIGHT = {module: floor for floor, row in enumerate(FLOORS) for module in row}
PACKAGE = Path(__file__).parent.parent / "cellkit"


def room(module: str) -> str | None:
    """Return the row entry that a module belongs to: itself, or the folder that holds it."""
    parts = module.split(".")
    return next(
        (".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in HEIGHT), None
    )


def imports_of(source: str) -> list[str]:
    """Return the cellkit modules that a source text imports, inside functions too."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name.removeprefix("cellkit.") for name in found if name.startswith("cellkit.")]


def faults(module: str, source: str) -> list[str]:
    here = room(module)
    if here is None:
        return [f"{module} stands on no floor"]
    said = []
    for name in imports_of(source):
        there = room(name)
        if there is not None and there != here and HEIGHT[there] >= HEIGHT[here]:
            said.append(f"{module} imports {name}, which is not below it")
    return said


def modules() -> list[Path]:
    return [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_imports_only_from_floors_below(path):
    assert faults(name_of(path), path.read_text()) == []


def test_control_an_import_from_above_or_beside_is_seen():
    assert faults("study", "def f():\n    from cellkit.detect import detect\n") == [
        "study imports detect.detect, which is not below it"
    ]
    assert faults("review", "from cellkit import annotate\n") == [
        "review imports annotate, which is not below it"
    ]
    assert faults("study", "from cellkit.images import open_image\n") == [], "control: a floor below"
    assert faults("attic", "") == ["attic stands on no floor"]
