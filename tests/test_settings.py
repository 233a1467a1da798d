import re
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellkit.folder.settings import (
    RESERVED,
    ImageEntry,
    StudySettings,
    as_toml,
    check_name,
    make_settings,
    read_settings,
)

M1 = {"name": "m1", "path": "m1.tif", "animal": "mouse 1"}
SAID = {"diameter_um": 15, "images": [M1]}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda text: text.strip()
)
LENGTH = st.floats(1e-6, 1e6)
ENTRY = st.builds(
    ImageEntry,
    name=st.from_regex(r"[a-z0-9 _-]{1,12}", fullmatch=True).filter(
        lambda name: name == name.strip() and name not in RESERVED
    ),
    path=TEXT | st.lists(TEXT, min_size=1, max_size=3).map(tuple),
    animal=TEXT,
    channels=st.sampled_from([(), ("signal",), ("none", "background", "signal")]),
    voxel_um=st.none() | st.tuples(LENGTH, LENGTH, LENGTH),
    role=st.sampled_from(["train", "judge"]),
    axes=st.none() | st.just("tzyx"),
    level=st.integers(0, 9),
)
SETTINGS = st.builds(
    StudySettings,
    diameter_um=LENGTH,
    task=st.sampled_from(["cell", "expression"]),
    classes=st.sampled_from([("cell", "artefact"), ("<b>", "\"'\\\n"), ("OFF", "on")]),
    seed=st.integers(0, 2**40),
    images=st.lists(ENTRY, min_size=1, max_size=3, unique_by=lambda entry: entry.name).map(tuple),
)


@settings(max_examples=150, deadline=None)
@given(SETTINGS)
def test_settings_survive_the_round_trip_through_toml(said):
    assert make_settings(tomllib.loads(as_toml(said))) == said


def test_windows_paths_are_written_as_a_person_would():
    path = r"C:\data\new\m1.tif"
    text = as_toml(make_settings({**SAID, "images": [{**M1, "path": path}]}))
    assert rf"path = '{path}'" in text
    assert tomllib.loads(text)["images"][0]["path"] == path


def test_a_study_needs_few_lines():
    assert make_settings(SAID) == StudySettings(
        15.0, "cell", ("cell", "artefact"), 0, (ImageEntry("m1", "m1.tif", "mouse 1"),)
    )
    assert make_settings({**SAID, "task": "expression"}).classes == ("on", "off")
    assert make_settings({**SAID, "images": [{**M1, "roles": ["signal"]}]}).images[0].channels == ("signal",)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"version": 2}, "This cellkit reads studies of version 1; got 2. Update cellkit."),
        ({"version": "1"}, "`version` must be 1; got '1'. Leave it out."),
        (
            {"diameter": 3},
            "A study may hold version, task, classes, diameter_um, seed, images; got ['diameter']. "
            "Mend the name or leave it out.",
        ),
        ({"diameter_um": 0}, "`diameter_um` must be a positive number of µm; got 0. Measure a typical cell."),
        (
            {"diameter_um": None},
            "`diameter_um` must be a positive number of µm; got None. Measure a typical cell.",
        ),
        (
            {"diameter_um": "15"},
            "`diameter_um` must be a positive number of µm; got '15'. Measure a typical cell.",
        ),
        (
            {"diameter_um": True},
            "`diameter_um` must be a positive number of µm; got True. Measure a typical cell.",
        ),
        ({"task": "cells"}, "`task` must be cell or expression; got 'cells'. Choose one."),
        ({"seed": -1}, "`seed` must be a whole number from 0; got -1. Give one."),
        (
            {"classes": ["a", "b", "c"]},
            "`classes` must be two names, the positive class first; got ['a', 'b', 'c']. "
            'As in ["cell", "artefact"].',
        ),
        (
            {"classes": "ab"},
            '`classes` must be two names, the positive class first; got \'ab\'. As in ["cell", "artefact"].',
        ),
        *(
            (
                {"classes": classes},
                "The two `classes` must be different texts, none of unsure, undo, clear; "
                f"got {classes}. Rename one.",
            )
            for classes in (["a", "a"], ["a", "unsure"], ["undo", "a"], ["a", ""], ["a", 1])
        ),
        ({"images": []}, "A study needs a list of images; got []. Give name, path and animal of each."),
        ({"images": None}, "A study needs a list of images; got None. Give name, path and animal of each."),
        (
            {"images": ["m1.tif"]},
            "An image must be given by name, path, animal, channels, voxel_um, role, axes, level; "
            "got 'm1.tif'. Write it as a dict.",
        ),
        (
            {"images": [M1, {**M1, "name": "M1"}]},
            "Every image needs a name of its own, whatever the case; got ['m1', 'M1']. Rename one.",
        ),
    ],
)
def test_what_cannot_be_is_said_with_the_rule(wrong, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make_settings(SAID | wrong)


CURE = 'Leave out / \\ : * ? " < > | and points or spaces at the ends.'


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        *(
            ({"name": name}, f"The name of this image must be usable as a file's; got {name!r}. {CURE}")
            for name in ["a/b", "a\\b", "", " a", "a.", "..", "a\nb", "x" * 81, "<b>", 3]
        ),
        *(
            (
                {"name": name},
                f"The name of this image must be usable as a file's; got {name!r}. "
                "Windows keeps it for itself; put something before it.",
            )
            for name in ["nul.tif", "prn"]
        ),
        ({"path": None}, "Image 'm1' needs `path`; got None. Add it."),
        (
            {"animal": None},
            "Image 'm1' needs `animal`, which all images of one animal share; got None. Add it.",
        ),
        ({"path": []}, "`path` of image 'm1' must be one path or a list of paths; got []. Mend it."),
        ({"path": [""]}, "`path` of image 'm1' must be one path or a list of paths; got ['']. Mend it."),
        ({"animal": 3}, "`animal` of image 'm1' must be a text; got 3. Name the animal."),
        ({"role": "test"}, "`role` of image 'm1' must be train or judge; got 'test'. Choose one."),
        (
            {"channels": ["signal", "bg"]},
            "Each of `channels` of image 'm1' must be one of signal, background, none; got ['signal', 'bg']. "
            "Name the role of every channel, in their order.",
        ),
        (
            {"channels": "signal"},
            "Each of `channels` of image 'm1' must be one of signal, background, none; got 'signal'. "
            "Name the role of every channel, in their order.",
        ),
        *(
            (
                {"channels": channels},
                "One of `channels` of image 'm1' must be the signal, and at most one the background; "
                f"got {channels}. Say which channel shows the cells.",
            )
            for channels in (["background"], ["signal", "signal"], ["signal", "background", "background"])
        ),
        *(
            (
                {"voxel_um": voxel},
                f"`voxel_um` of image 'm1' must be three positive numbers of µm: z, y, x; got {voxel}. "
                "The microscope's notes have them.",
            )
            for voxel in ([5, 2], [5, 0, 2], [5, -2, 2], 5, [5, 2, float("nan")], [5, 2, True])
        ),
        ({"level": -1}, "`level` of image 'm1' must be a whole number from 0; got -1. Give one."),
        ({"axes": 3}, "`axes` of image 'm1' must be a text such as zcyx; got 3. Mend it."),
        (
            {"voxel": [5, 2, 2]},
            "An image may hold name, path, animal, channels, voxel_um, role, axes, level; got ['voxel']. "
            "Mend the name or leave it out.",
        ),
    ],
)  # fmt: skip
def test_what_an_image_cannot_be_is_said_with_the_rule(wrong, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make_settings({**SAID, "images": [M1 | wrong]})


@pytest.mark.parametrize("name", ["m1", "Maus 3 (links)", "李雷", "m1.ome", "a'b & c", "-1"])
def test_control_ordinary_names_are_taken(name):
    assert check_name(name, what="image") == name


def test_a_file_that_is_not_toml_is_said_to_be_so_with_a_hint_on_paths(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text('diameter_um = 15\n[[images]]\npath = "C:\\data\\m1.tif"\n')
    message = re.escape(f"A study's study.toml must be TOML in UTF-8; {path} is not: ")
    cure = re.escape("Texts stand in double quotes, Windows paths in single ones.")
    with pytest.raises(ValueError, match=rf"^{message}.*line 3.* {cure}$"):
        read_settings(tmp_path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=rf"^{message}.*can't decode.* {cure}$"):
        read_settings(tmp_path)


def test_a_file_written_by_hand_with_comments_and_a_byte_order_mark_is_read(tmp_path):
    text = (
        '# mine\ndiameter_um = 15 # µm\n[[images]]\nname = "m1"\npath = \'C:\\new.tif\'\nanimal = "Maus ä"\n'
    )
    (tmp_path / "study.toml").write_text(text, encoding="utf-8-sig")
    assert read_settings(tmp_path).images[0] == ImageEntry("m1", r"C:\new.tif", "Maus ä")
