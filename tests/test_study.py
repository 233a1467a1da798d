import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cellkit.folder import holdings
from cellkit.ledger import read_events
from cellkit.measuring.boxes import box_queue, draw_boxes, finish_box, unmark
from cellkit.pixels.intensities import Intensities
from cellkit.study import ImageEntry, create_study, fingerprint, open_study
from cellkit.tables import CANDIDATE_COLUMNS

SHAPE = (8, 40, 40)


def save_volume(path, seed=0, shape=SHAPE):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.random.default_rng(seed).integers(90, 200, shape).astype(np.uint16))


def entry(name="m1", **other):
    return {"name": name, "path": f"{name}.npy", "animal": f"mouse {name}", "voxel_um": [5, 2, 2]} | other


@pytest.fixture
def study(tmp_path):
    for n, name in enumerate(["m1", "m2"]):
        save_volume(tmp_path / "study" / f"{name}.npy", seed=n)
    return create_study(tmp_path / "study", images=[entry("m1"), entry("m2", role="judge")], diameter_um=10)


def candidates(image="m1", n=4, **other):
    places = {"z": np.arange(n) + 1.0, "y": 8.0 * np.arange(n), "x": 8.0 * np.arange(n)}
    return pd.DataFrame({"image": image, "frame": 0, **places, "score": 9.0, "diameter_um": 10.0} | other)


def answer(study, rows, answer, origin="random", who="anna", **other):
    table = study.candidates().iloc[rows]
    places = {f"{side}_um": table[side] * um for side, um in zip("zyx", (5, 2, 2), strict=True)}
    return study.ledger(who).add(table.assign(**places, answer=answer, origin=origin, **other))


def called(image, p=(0.9, 0.8, 0.2, 0.1), network="net-1"):
    return candidates(image, n=len(p), p=list(p), called=[value > 0.5 for value in p], network=network)


def write_card(study, name, made_at="2026-01-01", **card):
    folder = study.folder / "networks" / name
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(json.dumps({"made_at": made_at} | card))


@contextmanager
def read_only(*folders):
    """Take away the right to write in folders; root, who may write anywhere, is another person meanwhile."""
    for folder in folders:
        folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for folder in folders:
            folder.chmod(0o755)


def message(text):
    return f"^{re.escape(text)}$"


def hashes(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_study_is_made_once_and_opened_from_its_folder(study):
    assert study.names == ["m1", "m2"]
    assert study.entry("m2") == ImageEntry("m2", "m2.npy", "mouse m2", ("signal",), (5.0, 2.0, 2.0), "judge")
    assert study.voxel_um == {"m1": (5, 2, 2), "m2": (5, 2, 2)}
    opened = open_study(study.folder)
    assert opened.settings == study.settings
    assert (opened.image("m1").name, opened.image("m1").animal) == ("m1", "mouse m1")
    assert opened.image("m1").shape == (1, 1, *SHAPE)
    assert opened.image("m1") is opened.image("m1"), "opened once"


def test_making_the_very_same_study_again_opens_it_and_another_is_refused(study):
    before = hashes(study.folder)
    images = [entry("m1"), entry("m2", role="judge")]
    assert create_study(study.folder, images=images, diameter_um=10.0).settings == study.settings
    refused = (
        f"A folder holds one study; {study.folder} holds another already. "
        "Choose another folder, or open that one with open_study and edit its study.toml."
    )
    with pytest.raises(FileExistsError, match=message(refused)):
        create_study(study.folder, images=images, diameter_um=11)
    assert hashes(study.folder) == before


def test_paths_inside_the_folder_are_relative_so_that_the_study_can_be_moved(tmp_path, monkeypatch):
    save_volume(tmp_path / "study" / "in" / "m1.npy")
    save_volume(tmp_path / "elsewhere" / "m2.npy")
    monkeypatch.chdir(tmp_path)
    images = [
        entry("m1", path=str(tmp_path / "study" / "in" / "m1.npy")),
        entry("m2", path="elsewhere/m2.npy"),
        entry("m3", path="study/in/m1.npy"),
        entry("m4", path=[Path("in/m1.npy"), Path("in/m1.npy")], roles=["signal", "background"]),
    ]
    study = create_study(Path("study"), images=images, diameter_um=10)
    assert [image.path for image in study.settings.images] == [
        "in/m1.npy", str(tmp_path / "elsewhere" / "m2.npy"), "in/m1.npy", ("in/m1.npy", "in/m1.npy"),
    ]  # fmt: skip
    assert study.image("m4").roles == ("signal", "background")
    shutil.move(tmp_path / "study", tmp_path / "moved")
    assert open_study(tmp_path / "moved").image("m1").shape == (1, 1, *SHAPE)


def test_all_missing_images_are_named_at_once(study, tmp_path):
    (study.folder / "m1.npy").unlink()
    (study.folder / "m2.npy").rename(tmp_path / "moved.npy")
    said = (
        f"The images of a study must be there; missing: {study.folder / 'm1.npy'} (image 'm1'), "
        f"{study.folder / 'm2.npy'} (image 'm2'). "
        f"Put them back, or edit `path` in {study.folder / 'study.toml'}."
    )
    with pytest.raises(FileNotFoundError, match=message(said)):
        open_study(study.folder)
    toml = (study.folder / "study.toml").read_text().replace('"m2.npy"', f'"{tmp_path / "moved.npy"}"')
    (study.folder / "study.toml").write_text(toml)
    with pytest.raises(FileNotFoundError, match=r"missing: \S+m1\.npy \(image 'm1'\)\. Put"):
        open_study(study.folder)


def test_opening_a_study_reads_no_pixel_and_no_header_where_all_is_said(study, monkeypatch):
    monkeypatch.setattr("cellkit.folder.holdings.open_image", None)
    assert open_study(study.folder).names == ["m1", "m2"]
    with pytest.raises(TypeError):
        open_study(study.folder).image("m1")


def test_a_hand_written_study_leaves_out_what_the_files_say(study):
    (study.folder / "study.toml").write_text(
        'diameter_um = 12\n[[images]]\nname = "m1"\npath = "m1.npy"\nanimal = "a"\nvoxel_um = [5, 2, 2]\n'
    )
    assert open_study(study.folder).entry("m1").channels == ("signal",)
    (study.folder / "study.toml").write_text(
        'diameter_um = 12\n[[images]]\nname = "m1"\npath = "m1.npy"\nanimal = "a"\n'
    )
    said = (
        f"The voxel size must be known; the metadata of {study.folder / 'm1.npy'} do not say it along "
        "z, y, x. "
        "Give it in µm: `voxel_um=(z, y, x)`."
    )
    with pytest.raises(ValueError, match=message(said)):
        open_study(study.folder)


def test_a_diameter_below_one_voxel_in_plane_is_refused(tmp_path):
    save_volume(tmp_path / "m1.npy")
    said = "`diameter_um` must be at least one voxel in plane, 2 µm in image 'm1'; got 1.9. Are both in µm?"
    with pytest.raises(ValueError, match=message(said)):
        create_study(tmp_path, images=[entry()], diameter_um=1.9)
    assert not (tmp_path / "study.toml").exists()
    create_study(tmp_path, images=[entry()], diameter_um=2)


def test_an_image_that_cannot_be_read_is_found_when_the_study_is_made(tmp_path):
    (tmp_path / "m1.npy").write_bytes(b"not an array")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "m1.npy"))):
        create_study(tmp_path, images=[entry()], diameter_um=10)
    assert list(tmp_path.iterdir()) == [tmp_path / "m1.npy"]


def test_a_folder_without_a_study_is_no_study(tmp_path):
    said = (
        f"A study is a folder with a study.toml; {tmp_path} has none. "
        "Make one there with create_study, or open another folder."
    )
    with pytest.raises(FileNotFoundError, match=message(said)):
        open_study(tmp_path)


def test_a_read_only_folder_is_said_to_be_so_and_can_still_be_looked_at():
    folder = Path(tempfile.mkdtemp())
    save_volume(folder / "m1.npy")
    said = (
        f"The study's folder must be writable; {folder} is not: Permission denied. "
        "Free space or ask for the right to write, then do the last step again: it was not saved."
    )
    with read_only(folder), pytest.raises(PermissionError, match=message(said)):
        create_study(folder, images=[entry()], diameter_um=10)
    study = create_study(folder, images=[entry()], diameter_um=10)
    study.save_candidates("m1", candidates(), made_by={"diameter_um": 10})
    before = hashes(folder)
    with read_only(folder, folder / "candidates"):
        assert len(open_study(folder).candidates()) == 4
        assert "m1" in repr(open_study(folder))
        with pytest.raises(
            PermissionError, match=r"^The study's folder must be writable; \S+/candidates is not: "
        ):
            study.save_candidates("m1", candidates(n=2), made_by={})
        with pytest.raises(
            PermissionError, match=r"^The study's folder must be writable; \S+/images is not: "
        ):
            study.intensities("m1")
        with pytest.raises(PermissionError, match=r"^The folder of labels must be writable; "):
            answer(study, [0], "cell")
    assert hashes(folder) == before
    shutil.rmtree(folder)


def test_an_unknown_image_is_refused_by_name(study):
    for ask in (study.entry, study.image, study.candidates, study.made_by, study.truth, study.intensities):
        with pytest.raises(ValueError, match=r"^An image must be one of m1, m2; got 'm3'\. Choose one\.$"):
            ask("m3")


def test_intensities_are_measured_once_and_anew_when_the_image_changed(study, monkeypatch):
    measured = []

    def measure(image, role, *, seed):
        measured.append((image.name, role, seed))
        return Intensities(centre=100.0, spread=5.0, low=1.0, high=9.0)

    monkeypatch.setattr("cellkit.folder.holdings.measure_intensities", measure)
    assert study.intensities("m1") == {"signal": Intensities(100.0, 5.0, 1.0, 9.0)}
    assert open_study(study.folder).intensities("m1") == study.intensities("m1")
    assert measured == [("m1", "signal", 0)]
    save_volume(study.folder / "m1.npy", seed=5)
    open_study(study.folder).intensities("m1")
    assert len(measured) == 2


def test_candidates_come_back_as_they_were_saved_with_what_made_them(study):
    assert study.candidates().dtypes.astype(str).to_dict() == CANDIDATE_COLUMNS
    assert study.made_by("m1") == {}
    made = {"diameter_um": 10.0, "block": (1, 2), "threshold": np.float32(0.5)}
    study.save_candidates("m1", candidates(extra="x"), made_by=made)
    opened = open_study(study.folder)
    pd.testing.assert_frame_equal(opened.candidates("m1"), candidates(extra="x"), check_dtype=False)
    assert opened.made_by("m1") == {
        "image": study.image_fingerprint("m1"), "diameter_um": 10, "block": [1, 2], "threshold": 0.5,
    }  # fmt: skip
    assert opened.candidates("m2").empty
    assert opened.candidates("m1").attrs == {}, "what made them is asked for, not carried along"


def test_images_that_no_network_called_yet_stand_beside_called_ones(study):
    study.save_candidates("m1", candidates(), made_by={})
    assert "p" not in study.candidates(), "control: no calls, no columns"
    study.save_candidates("m2", called("m2"), made_by={"network": "net-1"})
    both = study.candidates()
    assert both["called"].tolist() == [False] * 4 + [True, True, False, False]
    assert both["p"].isna().tolist() == [True] * 4 + [False] * 4
    assert both["network"].tolist() == [""] * 4 + ["net-1"] * 4
    assert both["called"].dtype == bool


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"image": "m2"}, "Candidates saved for 'm1' must be of that image and of frames 0 to 0; "
         "row 0 is of 'm2', frame 0. Save each image's own."),
        ({"frame": 1}, "Candidates saved for 'm1' must be of that image and of frames 0 to 0; "
         "row 0 is of 'm1', frame 1. Save each image's own."),
        ({"x": 40.0}, "candidates: positions must lie inside the image of (8, 40, 40) voxels (z, y, x); "
         "row 0 is at (1, 0, 40). Are the columns swapped, or in µm instead of voxels?"),
        ({"score": None}, "candidates: column score must be a finite number; row 0 holds None. Mend it."),
    ],
)  # fmt: skip
def test_candidates_that_cannot_be_are_refused_and_the_old_ones_stay(study, wrong, said):
    study.save_candidates("m1", candidates(n=2), made_by={"diameter_um": 10})
    with pytest.raises(ValueError, match=message(said)):
        study.save_candidates("m1", candidates(**wrong), made_by={})
    assert len(study.candidates()) == 2
    assert study.made_by("m1")["diameter_um"] == 10


def test_labels_know_their_candidate_and_its_category(study):
    study.save_candidates("m1", called("m1"), made_by={"network": "net-1"})
    answer(study, [0, 2], "cell")
    answer(study, [1], "artefact")
    answer(study, [3], "unsure", who="ben")
    table = study.labelled_candidates()
    assert table["category"].tolist() == ["correct cell", "false cell", "missed cell", ""]
    assert table["answer"].tolist() == ["cell", "artefact", "cell", "unsure"]
    assert table["label"].tolist() == [study.labels().set_index("x_um")["id"][x] for x in (0, 16, 32, 48)]
    study.save_candidates("m1", candidates(), made_by={})
    assert study.labelled_candidates()["category"].tolist() == [""] * 4, "without a call there is no category"


def test_only_answers_of_the_study_are_taken(study):
    study.save_candidates("m1", candidates(), made_by={})
    said = "Every answer must be one of cell, artefact, unsure; row 0 holds 'on'. Mend it."
    with pytest.raises(ValueError, match=message(said)):
        answer(study, [0], "on")
    assert study.ledger("anna") is study.ledger("anna"), "one file for a sitting"


def test_what_judges_what_an_audit_holds_and_what_is_unsure_never_trains(study):
    for name in study.names:
        study.save_candidates(name, called(name), made_by={})
    answer(study, [0, 1, 4], "cell")
    answer(study, [2], "unsure")
    answer(study, [3], "cell", origin="audit", weight=2.0)
    assert study.training_labels()["x_um"].tolist() == [0, 16]
    assert study.audit_labels()["x_um"].tolist() == [48]
    answer(study, [3], "artefact")
    assert study.training_labels()["x_um"].tolist() == [0, 16], (
        "an audit's place stays barred when relabelled"
    )
    assert study.audit_labels()["answer"].tolist() == ["cell"]
    assert study.labels()["answer"].tolist()[-1] == "artefact"


def test_truth_is_read_where_it_is(study):
    assert study.truth("m1") is None
    (study.folder / "truth").mkdir()
    (study.folder / "truth" / "m1.csv").write_text("z,y,x,kind\n1,2,3.5,cell\n")
    assert study.truth("m1").to_dict("records") == [{"z": 1.0, "y": 2.0, "x": 3.5, "kind": "cell"}]


def test_networks_are_listed_oldest_first_and_unfinished_ones_are_not(study):
    write_card(study, "net-10", "2026-01-02T10:00:00")
    write_card(study, "net-2", "2026-01-02T10:00:00")
    write_card(study, "head-1", "2026-01-01T10:00:00")
    (study.folder / "networks" / "net-11" / "checkpoint").mkdir(parents=True)
    assert study.networks() == ["head-1", "net-2", "net-10"]
    with pytest.raises(
        ValueError, match=r"^The name of this network must be usable as a file's; got '\.\./x'\. "
    ):
        study.network_folder("../x")


def test_an_audit_is_frozen(study):
    places = candidates(
        weight=[2.0, 2.0, 1.5, 1e9], stratum=["a", "b", None, "<c>"], p=[0.1, np.nan, 1 / 3, 1]
    )
    study.save_audit("audit", places, {"seed": 7, "n": np.int64(4), "strata": ("a", "b")})
    got, record = open_study(study.folder).audit()
    pd.testing.assert_frame_equal(got, places.assign(phase=1), check_dtype=False)
    assert got.dtypes["frame"] == "int64"
    assert record | {"at": ""} == {"at": "", "seed": 7, "n": 4, "strata": ["a", "b"], "phases": 1}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", record["at"])
    assert study.audits() == ["audit"]
    path = study.folder / "audits" / "audit.json"
    said = f"A frozen file is never overwritten; {path} is there. Use another name, or read the one that is."
    with pytest.raises(FileExistsError, match=message(said)):
        study.save_audit("audit", places[:1], {})
    study.save_audit("second", places[:1], {})
    assert study.audits() == ["audit", "second"]


def test_an_audit_that_was_edited_is_refused(study):
    study.save_audit("audit", candidates(weight=2.0), {"seed": 7})
    path = study.folder / "audits" / "audit.json"
    whole = path.read_text()
    for old, new in [("2.0", "2.5"), ('"seed": 7', '"seed": 8'), ('"sha256"', '"hash"')]:
        assert old in whole
        path.write_text(whole.replace(old, new, 1))
        said = (
            f"A frozen file must be as it was written; {path} was changed since: its hash does not fit. "
            "Put back a copy of the original."
        )
        with pytest.raises(ValueError, match=message(said)):
            study.audit()
        assert any(said in sentence for sentence in study.stale())
    path.write_text(whole)
    study.audit()
    assert study.stale() == [], "control: the original is fine"


def test_an_audit_needs_positive_weights_and_must_be_there(study):
    said = (
        "Every place of an audit needs a positive weight; row 2 has nan. "
        "Give 1 / the probability with which it was drawn."
    )
    with pytest.raises(ValueError, match=message(said)):
        study.save_audit("audit", candidates(weight=[1.0, 1.0, np.nan, 0.0]), {})
    with pytest.raises(
        ValueError, match=r"^audit must have the columns .*; weight is missing\. Found: .*\.$"
    ):
        study.save_audit("audit", candidates(), {})
    said = "An audit must be drawn before it is read; got 'audit', of none. Draw it."
    with pytest.raises(ValueError, match=message(said)):
        study.audit()


def ready(study):
    """Take a study through the whole loop; nothing of it is stale then."""
    for name in study.names:
        made = {"diameter_um": 10.0, "network": "net-1", "network_sha256": "ab"}
        study.save_candidates(name, called(name), made_by=made)
    study.save_audit("audit", study.candidates().iloc[[3, 7]].assign(weight=4.0), {})
    answer(study, [3, 7], "artefact", origin="audit", weight=4.0)
    answer(study, [0, 1], "cell")
    taught = {"labels": fingerprint(study.training_labels()), "n": 2}
    metrics = {"held-out": {"f1": {"value": 0.9, "low": 0.85, "high": 0.95}}}
    write_card(study, "net-1", sha256="ab", trained_on=taught, metrics=metrics, parents=["cells-1 (12)"])
    said = {"rests_on": {"networks": {"net-1": "ab"}, "audited": fingerprint(study.audit_labels())}}
    study.round_folder(1).mkdir(parents=True)
    (study.round_folder(1) / "assessment.json").write_text(json.dumps(said))
    return study


def next_step(study):
    return repr(study).splitlines()[-1]


def test_the_study_says_what_to_do_next_at_every_step(study):
    steps = [next_step(study)]
    for name in study.names:
        study.save_candidates(name, candidates(name), made_by={"diameter_um": 10.0})
    steps.append(next_step(study))
    shutil.rmtree(study.folder / "candidates")
    for name in study.names:
        study.save_candidates(name, called(name), made_by={"network": "cells-1"})
    steps.append(next_step(study))
    study.save_audit("audit", study.candidates().iloc[[3, 7]].assign(weight=4.0), {})
    answer(study, [3], "artefact", origin="audit")
    steps.append(next_step(study))
    answer(study, [7], "unsure", origin="audit")
    steps.append(next_step(study))
    answer(study, [0, 1], "cell")
    steps.append(next_step(study))
    write_card(study, "net-1")
    steps.append(next_step(study))
    for name in study.names:
        study.save_candidates(name, called(name), made_by={"network": "net-1"})
    steps.append(next_step(study))
    assert steps == [
        "Next: find the candidates in m1 and m2 (notebook 01).",
        "Next: let a network call the candidates in m1 and m2 (notebook 01).",
        "Next: draw an audit, which tells how good the calls are (notebook 02).",
        "Next: answer the audit 'audit': 1 of 2 places are answered (notebook 02).",
        "Next: label candidates for training (notebook 03).",
        "Next: retrain on the labels (notebook 04).",
        "Next: classify again (notebook 01).",
        "Next: assess net-1 on the audit (notebook 05).",
    ]
    shutil.rmtree(study.folder)
    study.folder.mkdir()


def test_nothing_is_stale_after_a_whole_round(study):
    ready(study)
    assert study.stale() == []
    assert next_step(study) == (
        "Next: another round if the numbers are not good enough yet: label more (notebook 03)."
    )


def detect_with_another_diameter(study):
    made = study.made_by("m1") | {"diameter_um": 12.0}
    study.save_candidates("m1", study.candidates("m1"), made_by=made)


def replace_image(study):
    save_volume(study.folder / "m1.npy", seed=9)


def correct_voxel_size(study):
    path = study.folder / "study.toml"
    path.write_text(path.read_text().replace("voxel_um = [5.0", "voxel_um = [4.0"))


def make_network(study):
    write_card(study, "net-2", "2026-01-02", trained_on=json.loads(card_of(study))["trained_on"])


def card_of(study):
    return (study.network_folder("net-1") / "card.json").read_text()


def train_net_1_anew(study):
    (study.network_folder("net-1") / "card.json").write_text(card_of(study).replace('"ab"', '"cd"'))


def add_label(study):
    answer(study, [2], "cell")


def change_label(study):
    answer(study, [1], "artefact")


def change_audit(study):
    answer(study, [3], "cell", origin="audit", weight=4.0)


def pool_labels_of_another_study(study):
    row = {"image": "x1", "z_um": 0, "y_um": 0, "x_um": 0, "answer": "neuron", "origin": "imported"}
    line = json.dumps(row | {"id": "1", "at": "2026-01-01T00:00:00Z", "who": "ben"})
    (study.folder / "labels" / "ben.jsonl").write_text(f"{line}\n")


FOUND, CALLED, DETECT, CLASSIFY = (
    "The candidates of {} were found",
    "The candidates of m1 and m2 were called by net-1",
    "detect again (notebook 01).",
    "classify again (notebook 01).",
)


def mark_cells_in_boxes(study):
    said = {"networks": {"net-1": "ab"}, "marked": fingerprint(read_events(study.folder / "boxes"))}
    (study.round_folder(1) / "assessment.json").write_text(json.dumps({"rests_on": said}))
    assert study.stale() == [], "control"
    draw_boxes(study, 4, side_um=20)
    for number in box_queue(study)["box"]:
        finish_box(study, number)


def replace_image_under_its_boxes(study):
    draw_boxes(study, 4, side_um=20, animals=["mouse m2"])
    for number in box_queue(study)["box"]:
        finish_box(study, number)
    places = study.candidates("m2").head(2).assign(weight=2.0)
    study.save_audit("later", places, {"images": {"m2": study.image_fingerprint("m2")}})
    answer(study, [4, 5], "cell", origin="audit", weight=2.0)
    said = {"rests_on": {"networks": {"net-1": "ab"}, "audited": fingerprint(study.audit_labels())}}
    (study.round_folder(1) / "assessment.json").write_text(json.dumps(said))
    assert study.stale() == [], "control"
    save_volume(study.folder / "m2.npy", seed=9)


STALE = {
    mark_cells_in_boxes: [
        "Round 1 was assessed before some cells were marked in boxes: assess again (notebook 05)."
    ],
    replace_image_under_its_boxes: [
        f"{FOUND.format('m2')} before the image changed: {DETECT}",
        "The audit 'later' was drawn before m2 changed: draw another (notebook 02).",
        "The draw of boxes 'boxes' was drawn before m2 changed: draw another (notebook 02).",
    ],
    detect_with_another_diameter: [
        f"{FOUND.format('m1')} with a diameter of 12 µm, and the study says 10 µm: {DETECT}"
    ],
    replace_image: [f"{FOUND.format('m1')} before the image changed: {DETECT}"],
    correct_voxel_size: [f"{FOUND.format('m1 and m2')} before the image changed: {DETECT}"],
    make_network: [
        f"{CALLED}, and the newest network is net-2: {CLASSIFY}",
        "Round 1 was assessed before net-2 was made: assess again (notebook 05).",
    ],
    train_net_1_anew: [
        f"{CALLED} before it changed: {CLASSIFY}",
        "Round 1 was assessed before net-1 was made: assess again (notebook 05).",
    ],
    add_label: ["net-1 was trained on 2 labels, and there are 3 now: retrain (notebook 04)."],
    change_label: ["net-1 was trained before some labels changed: retrain (notebook 04)."],
    change_audit: [
        "Round 1 was assessed before some answers of its audit changed: assess again (notebook 05)."
    ],
    pool_labels_of_another_study: [
        "Labels answer neuron (1 in all), and the study's classes are cell and artefact: "
        "mend `classes` in study.toml.",
        "Labels lie in x1 (1 in all), which this study does not have.",
    ],
}


@pytest.mark.parametrize(("change", "sentences"), STALE.items(), ids=lambda it: getattr(it, "__name__", ""))
def test_what_is_out_of_date_is_said(study, change, sentences):
    change(ready(study))
    opened = open_study(study.folder)
    assert opened.stale() == sentences
    assert all(f"Stale: {sentence}" in repr(opened) for sentence in sentences)


def test_boxes_that_wait_are_the_next_step_and_stand_in_the_summary(study):
    draw_boxes(ready(study), 5, side_um=20)
    n = len(box_queue(study))
    assert next_step(study) == f"Next: mark the cells of the boxes 'boxes': 0 of {n} are done (notebook 02)."
    for number in box_queue(study)["box"]:
        finish_box(study, number)
    assert f"Boxes boxes: {n} of {n} done" in repr(study) and "<h4>Boxes</h4>" in study._repr_html_()
    assert next_step(study).endswith("label more (notebook 03).")
    unmark(study, 1)
    assert (
        next_step(study)
        == f"Next: mark the cells of the boxes 'boxes': {n - 1} of {n} are done (notebook 02)."
    )


def test_boxes_whose_file_was_changed_are_said_and_the_rest_is_shown(study):
    draw_boxes(ready(study), 5, side_um=20)
    path = study.folder / "boxes" / "boxes.json"
    path.write_text(path.read_text().replace('"draws": 5', '"draws": 6'))
    assert study.stale() == [
        f"A frozen file must be as it was written; {path} was changed since: its hash does not fit. "
        "Put back a copy of the original."
    ]
    assert "8 × 40 × 40" in repr(study)


def test_candidates_are_read_once_and_again_when_they_were_written_again(study, monkeypatch):
    read, real = [], holdings.read_table
    monkeypatch.setattr(
        holdings, "read_table", lambda path, columns: (read.append(path), real(path, columns))[1]
    )
    for name in study.names:
        study.save_candidates(name, called(name), made_by={"diameter_um": 10.0})
    first = study.candidates()
    first.loc[:, "score"] = -1.0
    first["mine"] = 1
    again = study.candidates()
    assert len(read) == 2, "one file an image, once"
    assert "mine" not in again and (again["score"] != -1).all(), "nobody writes into what others get"
    one = study.candidates("m1")
    one.loc[0, "score"] = -1.0
    assert study.candidates("m1")["score"].iloc[0] != -1
    study.save_candidates("m1", called("m1").iloc[:3], made_by={})
    assert len(study.candidates("m1")) == 3 and len(read) == 3
    (study.folder / "candidates" / "m2.parquet").unlink()
    assert set(study.candidates()["image"]) == {"m1"}


def test_detecting_again_comes_before_all_that_rests_on_the_candidates(study):
    for name in study.names:
        study.save_candidates(name, called(name), made_by={"diameter_um": 9.0, "network": "cells-1"})
    assert next_step(study) == "Next: detect again (notebook 01)."


def test_an_image_that_can_no_longer_be_read_is_said_and_the_rest_is_shown(study):
    (study.folder / "m2.npy").write_bytes(b"not an array")
    shown = open_study(study.folder)
    assert [str(study.folder / "m2.npy") in sentence for sentence in shown.stale()] == [True]
    assert "8 × 40 × 40" in repr(shown)


def test_calling_again_does_not_hide_that_the_image_changed(study):
    ready(study)
    replace_image(study)
    study.save_candidates("m1", called("m1"), made_by=study.made_by("m1") | {"network": "net-1"})
    assert len(study.stale()) == 1


class Shown(HTMLParser):
    """The tags, table rows and text of an HTML page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.rows, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_data(self, data):
        self.text += data
        if self.tags[-1] in {"td", "th"}:
            self.rows[-1].append(data)


def test_the_study_shows_its_images_labels_and_networks(study):
    ready(study)
    shown = Shown(study._repr_html_())
    assert [row for row in shown.rows if row[0] in {"m1", "m2"}] == [
        ["m1", "mouse m1", "train", "signal", "5 × 2 × 2", "8 × 40 × 40", "4", "2", "net-1", "3"],
        ["m2", "mouse m2", "judge", "signal", "5 × 2 × 2", "8 × 40 × 40", "4", "2", "net-1", "1"],
    ]
    assert [row for row in shown.rows if row[0] in {"animal", "mouse m1", "all"}] == [
        ["animal", "cell", "artefact", "unsure", "of an audit"],
        ["mouse m1", "2", "1", "0", "1"],
        ["all", "2", "2", "0", "2"],
    ]
    assert ["net-1", "cells-1", "2", "0.90 (0.85 to 0.95), held-out", "2026-01-01"] in shown.rows
    assert ["audit", "2", "2"] in shown.rows
    assert "correct artefact 2 · correct cell 2" in shown.text
    assert "Next: another round" in shown.text
    assert "Stale" not in shown.text
    for words in ("m1", "mouse m2", "net-1", "correct cell 2", "Next: "):
        assert words in repr(study)


NASTY = "<script>alert('x')</script>&amp;<b>\""


def test_names_with_html_in_them_are_shown_as_text(tmp_path):
    folder = tmp_path / "<i>s"
    save_volume(folder / "m1.npy")
    images = [entry("m1 & 'co'", path="m1.npy", animal=NASTY)]
    study = create_study(folder, images=images, diameter_um=10, classes=[NASTY, "x<y"])
    study.save_candidates("m1 & 'co'", called("m1 & 'co'", network=NASTY), made_by={"network": NASTY})
    answer(study, [0, 1], NASTY)
    write_card(study, "net{}<u>", parents=[f"{NASTY} (1)"], metrics={NASTY: {"f1": {"value": 1.0}}})
    shown = Shown(study._repr_html_())
    assert set(shown.tags) == {"style", "div", "p", "b", "h4", "table", "thead", "tbody", "tr", "th", "td"}
    assert shown.tags.count("b") == 1
    assert shown.text.count(NASTY) >= 5
    assert "net{}<u>" in shown.text
    assert "m1 & 'co'" in shown.text


def test_colours_follow_the_notebooks_theme(study):
    style = study._repr_html_().split("</style>")[0]
    plain = re.sub(r"var\(--jp-[a-z0-9-]+, (#[0-9a-f]{6}|inherit|sans-serif|rgba\([^)]*\))\)", "THEME", style)
    assert "THEME" in plain
    assert not re.search(r"#[0-9a-f]{3}|white|black|rgb", plain), "every colour is the theme's or inherited"


def test_many_images_are_not_all_listed(tmp_path):
    save_volume(tmp_path / "m.npy")
    study = create_study(tmp_path, images=[entry(f"m{n}", path="m.npy") for n in range(9)], diameter_um=10)
    assert next_step(study) == "Next: find the candidates in m0, m1, m2 and 6 more (notebook 01)."


def test_a_study_is_opened_without_keras_or_screens(study):
    code = f"import sys; from cellkit.study import open_study; open_study({str(study.folder)!r})"
    command = [sys.executable, "-c", f"{code}; print(*sys.modules)"]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not {"keras", "tensorflow", "openvino", "matplotlib", "ipywidgets", "anywidget"} & set(loaded)
    assert "cellkit.study" in loaded, "control"
