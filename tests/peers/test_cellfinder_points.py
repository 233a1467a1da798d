"""Points go to cellfinder 1.10.1 and come back."""

import pandas as pd
import pytest

from cellkit.formats.cellfinder_points import read_points, write_points

pytestmark = pytest.mark.peer

POINTS = pd.DataFrame(
    [
        (10, 308, 132, 2, {"p": 0.93, "least": 1e-05, "who": "Åsa 🧠\x7f"}),
        (0, 0, 0, 1, {}),
        (3, 4, 5, -1, {"p": 0.1}),
    ],
    columns=["z", "y", "x", "type", "metadata"],
)
READ = """
from brainglobe_utils.IO.cells import get_cells
cells = get_cells(arguments[0])
print(json.dumps([[c.z, c.y, c.x, c.type, c.metadata] for c in cells]))
"""
WRITE = """
from brainglobe_utils.IO.cells import save_cells
from brainglobe_utils.cells.cells import Cell
cells = [Cell((x, y, z), kind, metadata) for z, y, x, kind, metadata in json.loads(arguments[1])]
save_cells(cells, arguments[0], save_csv=True)
print(len(cells))
"""


def rows(points: pd.DataFrame) -> list[list]:
    return points.astype(object).values.tolist()


@pytest.mark.parametrize("ending", ["xml", "yml"])
def test_cellfinder_reads_what_we_write(cellfinder, tmp_path, ending):
    path = write_points(POINTS, tmp_path / f"cells.{ending}")
    bare = ending == "xml"
    expected = [[*row[:4], {} if bare else row[4]] for row in rows(POINTS)]
    read = cellfinder(READ, path)
    assert sorted(read, key=str) == sorted(expected, key=str)


@pytest.mark.parametrize("ending", ["xml", "yml"])
def test_we_read_what_cellfinder_writes_and_write_the_same_xml(cellfinder, tmp_path, ending):
    path = tmp_path / f"theirs.{ending}"
    table = POINTS[POINTS["z"] > 0].assign(metadata=[{"p": 0.93, "who": "Åsa"}, {"p": 0.1}])
    expected = table.assign(type=[2, 1])
    cellfinder(WRITE, path, expected.to_json(orient="values"))
    theirs, csv = read_points(path), read_points(path.with_suffix(".csv"))
    if ending == "xml":
        bare = expected.sort_values("type").drop(columns="metadata")
        assert rows(theirs.drop(columns="metadata")) == rows(bare)
        ours = write_points(expected, tmp_path / "ours.xml")
        assert ours.read_text().strip() == path.read_text().strip()
    else:
        assert rows(theirs) == rows(expected)
        assert csv["metadata"].tolist() == expected["metadata"].tolist()
