"""cellfinder's points: XML, YAML and CSV."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellkit.formats.cellfinder_points import (
    candidates_of_points,
    labels_of_points,
    points_of_candidates,
    points_of_labels,
    read_points,
    write_points,
)

XML = """<?xml version="1.0" encoding="UTF-8"?>
<CellCounter_Marker_File>
  <Image_Properties>
    <Image_Filename>placeholder.tif</Image_Filename>
  </Image_Properties>
  <Marker_Data>
    <Current_Type>1</Current_Type>
    <Marker_Type>
      <Type>2</Type>
      <Marker>
        <MarkerX>132</MarkerX>
        <MarkerY>308</MarkerY>
        <MarkerZ>10</MarkerZ>
      </Marker>
    </Marker_Type>
  </Marker_Data>
</CellCounter_Marker_File>
"""
YAML = """brainglobe_utils_version: 0.11.2
CellCounter_Marker_File: true
num_candidates: 2
candidate_cells:
  - x: 132
    y: 308
    z: 10
    type: 2
    metadata:
      p: 0.93
      least: 1e-05
  - x: 319
    y: 211
    z: 11
    type: 2
    metadata: {}
"""
CSV = ",p,x,y,z,type\n0,0.93,132,308,10,2\n1,,319,211,11,2\n"
BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"
ENTITIES = '<!DOCTYPE a [<!ENTITY e "ha">]><CellCounter_Marker_File>&e;</CellCounter_Marker_File>'

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
METADATA = st.dictionaries(
    TEXT, st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(), TEXT)
)
POINT = st.tuples(*[st.integers(0, 2**31)] * 3, st.sampled_from([2, 1, -1]), METADATA)


def points(*rows):
    return pd.DataFrame(rows, columns=["z", "y", "x", "type", "metadata"])


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("points")


# --- the exact formats ------------------------------------------------------------------------------


def test_xml_is_written_letter_by_letter_as_cellfinder_writes_it(tmp_path):
    path = write_points(points((10, 308, 132, 2, {})), tmp_path / "cells.xml")
    assert path.read_text() == XML


def test_points_of_cellfinder_are_read(tmp_path):
    one = read_points(written(tmp_path, "cells.xml", XML))
    assert one.values.tolist() == [[10.0, 308.0, 132.0, 2, {}]]
    two = read_points(written(tmp_path, "cells.yml", YAML))
    assert two["metadata"].tolist() == [{"p": 0.93, "least": 1e-05}, {}]
    assert two[["z", "y", "x", "type"]].values.tolist() == [[10, 308, 132, 2], [11, 211, 319, 2]]
    three = read_points(written(tmp_path, "cells.csv", CSV))
    assert three["metadata"].tolist() == [{"p": 0.93}, {}]
    assert three[["z", "y", "x", "type"]].equals(two[["z", "y", "x", "type"]])


def test_csv_is_written_as_cellfinder_writes_it(tmp_path):
    table = points((10, 308, 132, 2, {"p": 0.93}), (11, 211, 319, 2, {}))
    assert write_points(table, tmp_path / "cells.csv").read_text() == CSV
    bare = write_points(table.drop(columns="metadata"), tmp_path / "bare.csv").read_text()
    assert bare.startswith(",x,y,z,type\n0,132,308,10,2\n")


# --- round trips -------------------------------------------------------------------------------------


@settings(deadline=None)
@given(rows=st.lists(POINT, min_size=1, max_size=8))
def test_yaml_keeps_every_point_and_its_metadata(rows, folder):
    table = points(*rows)
    back = read_points(write_points(table, folder / "cells.yml"))
    pd.testing.assert_frame_equal(back, table.astype(back.dtypes.to_dict()))


@settings(deadline=None)
@given(rows=st.lists(POINT, min_size=1, max_size=8), ending=st.sampled_from(["xml", "csv"]))
def test_xml_and_csv_keep_every_place_and_type(rows, ending, folder):
    table = points(*rows).assign(metadata=[{} for _ in rows])
    back = read_points(write_points(table, folder / f"cells.{ending}"))
    kept = ["type", "z", "y", "x"]
    expected = table[kept].astype(back[kept].dtypes.to_dict())
    if ending == "xml":
        expected = expected.sort_values("type", kind="stable", ignore_index=True)
    pd.testing.assert_frame_equal(back[kept], expected)


def test_writing_leaves_the_table_as_it_was(tmp_path):
    table = points((0.4, 1.6, 2.0, -1, {}))
    before = table.copy()
    write_points(table, tmp_path / "cells.yml")
    pd.testing.assert_frame_equal(table, before)
    back = read_points(tmp_path / "cells.yml")
    assert back.values.tolist() == [[0.0, 2.0, 2.0, -1, {}]], "0 and -1 survive; places become whole voxels"


# --- candidates and labels ---------------------------------------------------------------------------


def test_candidates_become_points_and_points_become_candidates():
    candidates = pd.DataFrame(
        {
            "image": "a",
            "frame": 0,
            "z": [1.0, 2.0],
            "y": 3.0,
            "x": 4.0,
            "score": [5.0, 6.0],
            "diameter_um": 16.0,
        }
    )
    plain = points_of_candidates(candidates)
    assert plain["type"].tolist() == [1, 1], "control: nobody called them"
    called = points_of_candidates(candidates.assign(p=[0.9, 0.1], called=[True, False]))
    assert called["type"].tolist() == [2, 1]
    assert called["metadata"].tolist() == [{"score": 5.0, "p": 0.9}, {"score": 6.0, "p": 0.1}]
    pd.testing.assert_frame_equal(
        candidates_of_points(called, image="a", diameter_um=16.0)[list(candidates)],
        candidates,
        check_dtype=False,
    )


def test_labels_become_points_and_points_become_labels():
    labels = pd.DataFrame(
        {
            "image": "a",
            "z_um": [10.0, 20.0, 30.0],
            "y_um": 4.0,
            "x_um": 6.0,
            "answer": ["cell", "artefact", "unsure"],
        }
    )
    made = points_of_labels(labels, voxel_um=(5.0, 2.0, 2.0), classes=("cell", "artefact"))
    assert made[["z", "y", "x", "type"]].values.tolist() == [[2, 2, 3, 2], [4, 2, 3, 1]]
    rows = labels_of_points(
        pd.concat([made, points((0, 0, 0, -1, {}))]), image="a", classes=("cell", "artefact")
    )
    assert rows["answer"].tolist() == ["cell", "artefact", "artefact"]
    assert set(rows["origin"]) == {"imported"}


SEVERAL = (
    "A file of points is of one image; these are of a, b. "
    'Write one file an image: table[table["image"] == name].'
)


def test_points_are_of_one_image():
    labels = pd.DataFrame({"image": ["a", "b"], "answer": "cell"})
    with pytest.raises(ValueError, match=f"^{re.escape(SEVERAL)}$"):
        points_of_labels(labels, voxel_um=(1, 1, 1), classes=("cell", "artefact"))


# --- bad input ---------------------------------------------------------------------------------------

PLAIN = "A YAML file may have no aliases and at most 20 levels; {} "
TWICE = ". It was not read: write it again without."
WRONG = {
    "a bomb of aliases": ("a.yml", BOMB, PLAIN + "uses aliases" + TWICE),
    "a deep nest": ("a.yml", "[" * 100_000, PLAIN + "nests deeper than 20 levels" + TWICE),
    "entities": (
        "a.xml",
        ENTITIES,
        "An XML file may not declare a document type or entities; {} does. It was not read: "
        "write it again with the program that it is of.",
    ),
    "torn": (
        "a.xml",
        XML[:200],
        "{} must be XML; it cannot be read: unclosed token: line 7, column 19. Copy it again.",
    ),
    "no number": (
        "a.xml",
        XML.replace("132", "1a"),
        "{}: every MarkerX must be a number; one is '1a'. Mend it.",
    ),
    "NaN": (
        "a.xml",
        XML.replace("10<", "nan<"),
        "{}: column z must be a finite number; row 0 holds nan. Mend it.",
    ),
    "unknown type": (
        "a.xml",
        XML.replace("<Type>2", "<Type>7"),
        "{}: a point is of type 2 (cell), 1 (no cell) or -1 (cluster), its metadata a dict; row 0 has the "
        "type 7. Mend it.",
    ),
    "another XML": (
        "a.xml",
        "<html></html>",
        "{} must be cellfinder's points, a CellCounter_Marker_File with Marker_Data; it is a html. "
        "Is it the right file?",
    ),
    "another YAML": (
        "a.yml",
        "data: []",
        "{} must be cellfinder's points, with CellCounter_Marker_File: true and candidate_cells; it is not. "
        "Is it the right file?",
    ),
    "a key is missing": (
        "a.yml",
        YAML.replace("    type: 2\n", "", 1),
        "{}: every point needs x, y, z, type and metadata; row 0 lacks type. Mend it.",
    ),
    "a column is missing": (
        "a.csv",
        "x,y,z\n1,2,3\n",
        "{} must have the columns z, y, x, type; type is missing. Found: x, y, z.",
    ),
    "empty": (
        "a.csv",
        "",
        "{} must hold a table; it cannot be read: No columns to parse from file. Write it again.",
    ),
    "another ending": (
        "a.txt",
        "",
        "A file of points must end in .xml, .yml, .yaml, .csv; got 'a.txt'. Rename it.",
    ),
}


@pytest.mark.parametrize("name, text, said", WRONG.values(), ids=list(WRONG))
def test_a_file_that_is_no_file_of_points_says_so(tmp_path, name, text, said):
    path = written(tmp_path, name, text)
    with pytest.raises(ValueError, match=f"^{re.escape(said.format(path))}$"):
        read_points(path)


def test_yaml_that_is_code_is_not_run(tmp_path):
    path = written(tmp_path, "a.yml", f"!!python/object/apply:os.mkdir [{tmp_path / 'made'}]")
    with pytest.raises(
        ValueError, match=r"^.*a\.yml must be plain YAML; it cannot be read: could not .* again\.$"
    ):
        read_points(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("ending", ["xml", "yml", "csv"])
def test_a_missing_file_says_so(tmp_path, ending):
    path = tmp_path / f"no.{ending}"
    said = f"A file must be there to be read; {path} is not. Is the path right?"
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(said)}$"):
        read_points(path)


def refused(table, path, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        write_points(table, path)
    assert not path.exists()


def test_what_cellfinder_could_not_read_is_not_written(tmp_path):
    path = tmp_path / "a.xml"
    refused(
        points((0, 0, 0, 1, {}), (0, -3, 2, 2, {})),
        path,
        "cellfinder's points lie at 0 or above; row 1 is at (0, -3, 2) (z, y, x). Are the columns swapped?",
    )
    refused(
        points(),
        path,
        f"cellfinder cannot read a file without points; there is none for {path}. Write a .csv, or nothing.",
    )
    assert len(read_points(write_points(points(), tmp_path / "none.csv"))) == 0, "control: no point in a CSV"


def test_metadata_must_be_plain(tmp_path):
    path = tmp_path / "a.yml"
    refused(
        points((0, 0, 0, 1, {"p": np.nan})),
        path,
        f"Metadata must be plain values, without NaN; {{'p': nan}} for {path} is not. Leave it out.",
    )
