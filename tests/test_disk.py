import dataclasses
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from cellkit.folder import disk
from cellkit.folder.disk import (
    append_text,
    fingerprint,
    read_frozen,
    read_json,
    write_frozen,
    write_json,
    write_text,
)


@dataclasses.dataclass(frozen=True)
class Settings:
    diameter_um: float
    shape: tuple[int, ...]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_file_that_cannot_be_finished_leaves_the_old_one_and_no_part(tmp_path, monkeypatch, step):
    path = write_text(tmp_path / "new" / "a.txt", "old")

    def stop(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk.os, step, stop)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_json_comes_back_and_nan_is_refused(tmp_path):
    record = {"ä": [1, 2.5, None, "<\n>"]}
    assert read_json(write_json(tmp_path / "a.json", record), what="A record") == record
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    (tmp_path / "a.json").write_text("{")
    said = re.escape(f"A record must hold JSON; {tmp_path / 'a.json'} does not: ")
    with pytest.raises(ValueError, match=rf"^{said}.*\. Put back a copy of it\.$"):
        read_json(tmp_path / "a.json", what="A record")


def test_text_is_appended_as_whole_lines(tmp_path):
    path = tmp_path / "a.txt"
    for text in ("one\n", "torn", "two\n", "three\n"):
        append_text(path, text)
    assert path.read_text() == "one\ntorn\ntwo\nthree\n"


def test_equal_things_have_one_fingerprint_and_others_another(tmp_path):
    table = pd.DataFrame({"x": [1.0, np.nan], "n": [1, 2], "name": ["a", None], "b": [True, False]})
    things = {
        "record": {"a": 1, "b": [1, 2]},
        "text": "a",
        "settings": Settings(15.0, (1, 2)),
        "other settings": Settings(15.5, (1, 2)),
        "table": table,
        "other order": table[["n", "x", "name", "b"]],
        "other name": table.rename(columns={"x": "y"}),
        "other number": table.assign(x=[1.0, 2.0]),
        "other text": table.assign(name=["a", "b"]),
        "shorter": table[:1],
        "array": np.arange(3),
        "other type": np.arange(3.0),
        "other shape": np.arange(3)[None],
    }
    prints = {name: fingerprint(thing) for name, thing in things.items()}
    assert len(set(prints.values())) == len(prints)
    assert all(re.fullmatch("[0-9a-f]{16}", print_) for print_ in prints.values())
    assert fingerprint({"b": (1, 2), "a": 1}) == prints["record"]
    assert fingerprint({"diameter_um": 15.0, "shape": [np.int64(1), 2]}) == prints["settings"]
    table.to_parquet(tmp_path / "t.parquet")
    assert fingerprint(pd.read_parquet(tmp_path / "t.parquet")) == prints["table"]
    assert fingerprint(table.set_index(pd.Index([5, 6]))) == prints["table"], "row numbers do not count"
    with pytest.raises(
        TypeError, match=r"^Plain values are needed; got a set\. Pass numbers, texts, lists and dicts\.$"
    ):
        fingerprint({1, 2})


def test_a_file_counts_by_its_content_and_not_by_its_name_or_time(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"x" * 100)
    before = fingerprint(path)
    shutil.copy(path, tmp_path / "b.tif")
    assert fingerprint(tmp_path / "b.tif") == before
    path.write_bytes(b"x" * 99 + b"y")
    assert fingerprint(path) != before
    assert fingerprint(str(path)) != fingerprint(path), "control: a text is a text"


def test_of_a_large_file_blocks_are_read_that_see_a_replaced_image(tmp_path):
    rng = np.random.default_rng(0)
    size = 20 * 2**20
    for name in "ab":
        (tmp_path / name).write_bytes(rng.integers(0, 256, size, np.uint8).tobytes())
    assert fingerprint(tmp_path / "a") != fingerprint(tmp_path / "b")
    for at in (0, size - 1):
        shutil.copy(tmp_path / "a", tmp_path / "c")
        with (tmp_path / "c").open("r+b") as file:
            file.seek(at)
            file.write(bytes([255 - (tmp_path / "a").read_bytes()[at]]))
        assert fingerprint(tmp_path / "c") != fingerprint(tmp_path / "a"), at


def test_a_folder_of_planes_counts_by_all_names_and_lengths(tmp_path):
    for n in range(40):
        (tmp_path / "planes" / "deep").mkdir(parents=True, exist_ok=True)
        (tmp_path / "planes" / "deep" / f"{n}.tif").write_bytes(bytes([n]) * 10)
    before = fingerprint(tmp_path / "planes")
    shutil.copytree(tmp_path / "planes", tmp_path / "copy")
    assert fingerprint(tmp_path / "copy") == before
    (tmp_path / "copy" / "deep" / "0.tif").write_bytes(b"y" * 10)
    assert fingerprint(tmp_path / "copy") != before
    (tmp_path / "planes" / "deep" / "39.tif").rename(tmp_path / "planes" / "deep" / "40.tif")
    assert fingerprint(tmp_path / "planes") != before


PLACES = pd.DataFrame(
    {"image": ["ä<", "b"], "frame": [0, 1], "z": [1 / 3, 1e-300], "p": [np.nan, 0.1], "called": [True, False]}
)


def test_a_frozen_table_comes_back_with_its_types(tmp_path):
    path = write_frozen(tmp_path / "a.json", PLACES, {"seed": np.int64(3), "quotas": (1, 2)})
    places, record = read_frozen(path)
    pd.testing.assert_frame_equal(places, PLACES)
    assert record == {"seed": 3, "quotas": [1, 2]}
    empty, _ = read_frozen(write_frozen(tmp_path / "b.json", PLACES[:0], {}))
    pd.testing.assert_frame_equal(empty, PLACES[:0])


def test_a_frozen_file_is_neither_overwritten_nor_read_once_it_was_edited(tmp_path):
    path = write_frozen(tmp_path / "a.json", PLACES, {"seed": 3})
    said = f"A frozen file is never overwritten; {path} is there. Use another name, or read the one that is."
    with pytest.raises(FileExistsError, match=f"^{re.escape(said)}$"):
        write_frozen(path, PLACES, {"seed": 3})
    frozen = json.loads(path.read_text())
    path.write_text(json.dumps(frozen))
    read_frozen(path)  # control: other white space is no change
    said = (
        f"A frozen file must be as it was written; {path} was changed since: its hash does not fit. "
        "Put back a copy of the original."
    )
    for edited in ({**frozen, "record": {"seed": 4}}, {**frozen, "more": 1}, {"places": []}, [1]):
        path.write_text(json.dumps(edited))
        with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
            read_frozen(path)
