import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cellkit.folder.events as events_module
import cellkit.ledger as ledger_module
from cellkit.ledger import Ledger, current_labels, read_events
from cellkit.tables import LABEL_COLUMNS, ORIGINS

TORN = r" ends in a torn line \(2\); it was read past, the answers before it are kept\.$"
DAMAGED = r" holds damaged lines \(2\); they were read past, all other answers are kept\.$"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
NASTY = [
    '<b>Åsa</b> & "sons"',
    "a\nb\r\n\u2028c",
    "'; DROP TABLE --",
    "李雷",
    "🧠\x00\x7f",
    "\\u0041{}",
    "../..",
    "CON",
]


def row(answer="cell", x=0.0, **other):
    return {
        "image": "m1",
        "z_um": 5.0,
        "y_um": 7.5,
        "x_um": float(x),
        "answer": answer,
        "origin": "random",
    } | other


def answers(folder, within_um=1.0):
    labels = current_labels(read_events(folder), within_um=within_um)
    return dict(zip(labels["x_um"], labels["answer"], strict=True))


def lines(folder):
    return [
        line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text("utf-8").split("\n")[:-1]
    ]


def test_an_answer_is_on_disk_when_add_returns(tmp_path):
    ledger = Ledger(tmp_path / "labels", "anna")
    assert not (tmp_path / "labels").exists(), "control: nothing is made before the first answer"
    [first] = ledger.add([row(weight=2.5, network="cells-1", p=0.25, batch="b1", frame=3)])
    [line] = lines(tmp_path / "labels")
    event = json.loads(line)
    assert list(event) == list(LABEL_COLUMNS)
    assert event | {"at": ""} == row(weight=2.5, network="cells-1", p=0.25, batch="b1", frame=3) | {
        "id": first, "at": "", "who": "anna", "replaces": "",
    }  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event["at"])


def test_a_batch_is_one_write_and_one_sync(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    ledger = Ledger(tmp_path, "anna")
    ids = ledger.add(pd.DataFrame([row(x=n) for n in range(50)]))
    assert len(set(ids)) == 50
    assert len(lines(tmp_path)) == 50
    assert synced == [sum(path.stat().st_size for path in tmp_path.iterdir())]
    ledger.undo()
    assert len(synced) == 2, "control: the next step syncs again"


def test_undo_and_redo_take_whole_adds_through_many_levels(tmp_path):
    ledger = Ledger(tmp_path, "anna")
    ledger.add([row("cell", 0), row("cell", 10)])
    ledger.add([row("artefact", 10)])
    assert answers(tmp_path) == {0: "cell", 10: "artefact"}
    assert [event["answer"] for event in ledger.undo()] == ["artefact"]
    assert answers(tmp_path) == {0: "cell", 10: "cell"}, "the earlier answer comes back"
    assert [event["x_um"] for event in ledger.undo()] == [0, 10]
    assert answers(tmp_path) == {}
    assert ledger.undo() == []
    assert [event["x_um"] for event in ledger.redo()] == [0, 10]
    assert [event["answer"] for event in ledger.redo()] == ["artefact"]
    assert ledger.redo() == []
    assert answers(tmp_path) == {0: "cell", 10: "artefact"}
    ledger.undo()
    ledger.add([row("unsure", 20)])
    assert ledger.redo() == [], "after a new answer there is nothing to redo"
    assert answers(tmp_path) == {0: "cell", 10: "cell", 20: "unsure"}


def test_undo_goes_on_after_a_restart_with_the_same_persons_answers_only(tmp_path):
    Ledger(tmp_path, "anna").add([row("cell", 0)])
    Ledger(tmp_path, "anna").add([row("cell", 10), row("cell", 20)])
    Ledger(tmp_path, "ben").add([row("cell", 30)])
    ledger = Ledger(tmp_path, "anna")
    assert [event["x_um"] for event in ledger.undo()] == [10, 20]
    assert answers(tmp_path) == {0: "cell", 30: "cell"}
    ledger = Ledger(tmp_path, "anna")
    assert [event["x_um"] for event in ledger.redo()] == [10, 20]
    assert [len(ledger.undo()) for _ in range(3)] == [2, 1, 0]
    assert answers(tmp_path) == {30: "cell"}
    assert len(list(tmp_path.iterdir())) == 5, "a sitting without an answer makes no file"


def test_undo_of_one_batch_leaves_the_others(tmp_path):
    ledger = Ledger(tmp_path, "anna")
    first, _ = ledger.add([row(x=0, batch="first")]), ledger.add([row(x=10, batch="second")])
    assert [event["id"] for event in ledger.undo("first")] == first
    assert answers(tmp_path) == {10: "cell"}
    assert ledger.redo("second") == []
    assert [event["id"] for event in ledger.redo("first")] == first


@pytest.mark.parametrize("together", [True, False])
def test_answers_taken_back_come_back_by_undo_also_after_a_restart(tmp_path, together):
    ledger = Ledger(tmp_path, "anna")
    first = ledger.add([row(x=0), row(x=10)] if together else [row(x=0)])[:1]
    ledger.add([row("artefact", x=20)])
    before = answers(tmp_path)
    assert [event["id"] for event in ledger.take_back(first)] == first
    after = {x: answer for x, answer in before.items() if x != 0}
    assert answers(tmp_path) == after
    assert [event["answer"] for event in ledger.undo()] == ["clear"]
    assert answers(tmp_path) == before
    Ledger(tmp_path, "anna").redo()
    assert answers(tmp_path) == after
    ledger = Ledger(tmp_path, "anna")
    ledger.undo()
    assert answers(tmp_path) == before
    assert [event["answer"] for event in ledger.undo()] == ["artefact"]


ADD = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["cell", "artefact", "unsure"])), min_size=1, max_size=3
)
STEPS = st.lists(ADD | st.sampled_from(["undo", "redo", "clear", "restart"]), max_size=12)


def standing(done):
    """Return the answer at each place after these steps: dicts id -> (place, answer), sets of cleared ids."""
    cleared = {key for step in done if isinstance(step, set) for key in step}
    adds = [step for step in done if isinstance(step, dict)]
    return {10 * place: answer for add in adds for key, (place, answer) in add.items() if key not in cleared}


@settings(max_examples=25, deadline=None)
@given(STEPS)
def test_any_steps_read_back_as_they_were_and_undoing_and_redoing_all_of_them_changes_nothing(steps):
    folder = Path(tempfile.mkdtemp())
    done, undone = [], []
    ledger = Ledger(folder, "anna")
    for step in steps:
        if step == "restart":
            ledger = Ledger(folder, "anna")
        elif step == "undo":
            assert len(ledger.undo()) == len(done[-1] if done else [])
            undone += [done.pop()] if done else []
        elif step == "redo":
            assert len(ledger.redo()) == len(undone[-1] if undone else [])
            done += [undone.pop()] if undone else []
        elif step == "clear":
            ids = {next(iter(add)) for add in done if isinstance(add, dict)}
            assert {event["id"] for event in ledger.take_back(ids)} == ids
            done, undone = ([*done, ids], []) if ids else (done, undone)
        else:
            ids = ledger.add([row(answer, 10 * place) for place, answer in step])
            done, undone = [*done, dict(zip(ids, step, strict=True))], []
        assert answers(folder) == standing(done)
    before, levels = read_events(folder), len(done)
    while ledger.undo():
        levels -= 1
    assert levels == 0
    assert answers(folder) == {}
    while levels < len(done) and ledger.redo():
        levels += 1
    assert answers(folder) == standing(done)
    assert read_events(folder)[: len(before)].equals(before), "nothing that was written is ever changed"
    shutil.rmtree(folder)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    who=TEXT,
    image=TEXT,
    batch=TEXT,
    network=TEXT,
    weight=st.none() | st.floats(0, 1e9),
    x=st.floats(-1e9, 1e9),
)
def test_every_text_and_number_survives_the_round_trip(who, image, batch, network, weight, x):
    folder = Path(tempfile.mkdtemp())
    if who.strip():
        Ledger(folder, who).add([row(image=image, batch=batch, network=network, weight=weight, x=x)])
        [event] = read_events(folder).to_dict("records")
        assert [event[key] for key in ("who", "image", "batch", "network", "x_um")] == [
            who,
            image,
            batch,
            network,
            x,
        ]
        assert event["weight"] == weight or (weight is None and np.isnan(event["weight"]))
        [path] = folder.iterdir()
        assert re.fullmatch(r"[A-Za-z0-9-]{1,40}-\d{8}T\d{6}-\d{6,}\.jsonl", path.name)
    shutil.rmtree(folder)


@pytest.mark.parametrize("text", NASTY)
def test_names_and_answers_with_html_quotes_and_line_ends_survive(tmp_path, text):
    Ledger(tmp_path, text).add([row(text, image=text)])
    [label] = current_labels(read_events(tmp_path), within_um=1).to_dict("records")
    assert (label["who"], label["answer"], label["image"]) == (text,) * 3
    assert len(lines(tmp_path)) == 1
    assert Ledger(tmp_path, text).undo()[0]["answer"] == text


def test_reading_again_after_every_answer_keeps_one_reading_of_a_file(tmp_path):
    ledger = Ledger(tmp_path, "anna")
    before = len(events_module._READ)
    for n in range(5):
        ledger.add([row(x=10 * n)])
        assert len(answers(tmp_path)) == n + 1
    assert len(events_module._READ) == before + 1


def test_two_ledgers_that_start_at_the_same_moment_write_two_files(tmp_path, monkeypatch):
    first, second = Ledger(tmp_path, "anna"), Ledger(tmp_path, "anna")
    first.add([row(x=0)])
    monkeypatch.setattr("cellkit.ledger.datetime", type("Stopped", (), {"now": lambda _: first._last}))
    second.add([row(x=10)])
    first.add([row(x=20)])
    assert first.path != second.path
    assert answers(tmp_path) == {0: "cell", 10: "cell", 20: "cell"}


def test_events_of_one_moment_have_one_order_wherever_the_files_were_copied(tmp_path):
    for name, answer in [("b", "cell"), ("a", "artefact"), ("c", "unsure")]:
        line = json.dumps(row(answer) | {"id": name, "at": "2026-01-01T00:00:00Z", "who": name})
        (tmp_path / f"{name}.jsonl").write_text(f"{line}\n")
    assert read_events(tmp_path)["id"].tolist() == ["a", "b", "c"]
    assert answers(tmp_path) == {0: "unsure"}


def test_time_goes_forward_in_a_ledger_even_if_the_clock_goes_back(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path, "anna")
    ledger.add([row("cell")])

    class Clock:
        @staticmethod
        def now(_):
            return ledger._last.replace(year=2001)

    monkeypatch.setattr("cellkit.ledger.datetime", Clock)
    ledger.add([row("artefact")])
    Ledger(tmp_path, "anna").add([row("unsure")])
    assert read_events(tmp_path)["answer"].tolist() == ["cell", "artefact", "unsure"]
    assert answers(tmp_path) == {0: "unsure"}


def test_two_peoples_files_are_pooled_by_copying_and_a_copy_counts_once(tmp_path):
    one, two, pool = tmp_path / "one", tmp_path / "two", tmp_path / "pool"
    anna, ben = Ledger(one, "anna"), Ledger(two, "ben")
    anna.add([row("cell", 0), row("cell", 10)])
    ben.add([row("artefact", 10)])
    anna.add([row("cell", 20)])
    pool.mkdir()
    for path in [*one.iterdir(), *two.iterdir()]:
        shutil.copy(path, pool)
        shutil.copy(path, pool / f"copy of {path.name}")
    events = read_events(pool)
    assert events["who"].tolist() == ["anna", "anna", "ben", "anna"]
    assert answers(pool) == {0: "cell", 10: "artefact", 20: "cell"}
    assert (events["answer"] == "cell").sum() == 3, "what was superseded stays among the events"


def test_a_torn_last_line_is_read_past_and_the_next_answer_starts_a_line(tmp_path):
    ledger = Ledger(tmp_path, "anna")
    ledger.add([row(x=0)])
    with ledger.path.open("ab") as file:
        file.write(b'{"id": "ab", "at": "2026')
    with pytest.warns(
        UserWarning,
        match=f"^{ledger.path.name}{TORN}",
    ):
        assert answers(tmp_path) == {0: "cell"}
    ledger.add([row(x=10)])
    with pytest.warns(
        UserWarning,
        match=f"^{ledger.path.name}{DAMAGED}",
    ):
        assert answers(tmp_path) == {0: "cell", 10: "cell"}


@pytest.mark.parametrize(
    "damage",
    [
        b"\x00\x00\x00", b"\xff\xfe", b"[1, 2]", b"{}", b"null", b"[" * 100_000, b'"text"',
        *(
            json.dumps(row() | {"id": "x", "at": "2026-01-01T00:00:00Z", "who": "b"} | wrong).encode()
            for wrong in [
                {"frame": "x"}, {"frame": 1.5}, {"frame": 10**30}, {"x_um": None}, {"x_um": float("nan")},
                {"who": 3}, {"at": "yesterday"}, {"image": "\ud800"}, {"weight": "heavy"},
            ]
        ),
    ],
)  # fmt: skip
def test_a_damaged_line_is_reported_by_file_and_number_and_is_not_fatal(tmp_path, damage):
    ledger = Ledger(tmp_path, "anna")
    ledger.add([row(x=0)])
    with ledger.path.open("ab") as file:
        file.write(damage + b"\n")
    ledger.add([row(x=10)])
    with pytest.warns(
        UserWarning,
        match=f"^{ledger.path.name}{DAMAGED}",
    ):
        assert answers(tmp_path) == {0: "cell", 10: "cell"}


def test_lines_by_another_hand_may_leave_out_what_may_be_empty(tmp_path):
    line = json.dumps(row() | {"id": "1", "at": "2026-01-01T10:00:00+02:00", "who": "ben", "mood": "good"})
    (tmp_path / "ben.jsonl").write_text(f"\n{line}\r\n\n", newline="")
    (tmp_path / "._ben.jsonl").write_bytes(b"\x00\x05\x16\x07")
    [event] = read_events(tmp_path).to_dict("records")
    assert (event["frame"], event["network"], event["batch"]) == (0, "", "")
    assert np.isnan(event["p"])
    Ledger(tmp_path, "ben").undo()
    assert answers(tmp_path) == {}


KILLED = """
import sys
import cellkit.ledger as ledger_module
from cellkit.ledger import Ledger
ledger, size = Ledger(sys.argv[1], "anna"), int(sys.argv[2])
for n in range(100_000):
    row = {"image": "m1", "z_um": 0, "y_um": n, "answer": "cell", "origin": "random"}
    ids = ledger.add([{**row, "x_um": 10 * k} for k in range(size)])
    print(n, flush=True)
"""


@pytest.mark.parametrize("size", [1, 1, 40])
@pytest.mark.filterwarnings("ignore:.*ends in a torn line")
def test_killed_at_any_moment_at_most_the_answer_in_flight_is_lost(tmp_path, size):
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        seen = [process.stdout.readline()]
        time.sleep(random.uniform(0.05, 0.3))
        process.kill()
        seen += process.stdout.readlines()
    said = len([line for line in seen if line.endswith(b"\n")])
    kept = read_events(tmp_path).groupby("y_um").size()
    assert said >= 1
    assert (kept[kept.index < said] == size).all()
    assert said <= len(kept) <= said + 1
    ledger = Ledger(tmp_path, "anna")
    ledger.add([row(x=-50)])
    assert len(read_events(tmp_path)) == kept.sum() + 1
    assert [event["x_um"] for event in ledger.undo()] == [-50]
    assert len(ledger.undo()) >= 1


@contextmanager
def full_disk(free):
    """Let no file grow beyond `free` bytes, as a full disk does: a part is written, then it fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_on_a_full_disk_nothing_half_written_is_believed_saved(tmp_path):
    ledger = Ledger(tmp_path, "anna")
    ledger.add([row(x=0)])
    before = ledger.path.read_bytes()
    message = (
        rf"^The folder of labels must be writable; {tmp_path} is not: File too large\. "
        r"Free space or ask for the right to write, then do the last step again: it was not saved\.$"
    )
    with full_disk(2 * len(before) + 20), pytest.raises(OSError, match=message):
        ledger.add([row(x=10), row(x=20), row(x=30)])
    assert ledger.path.read_bytes() == before
    assert ledger.undo()[0]["x_um"] == 0, "what was not saved is not there to be undone"
    ledger.redo()
    ledger.add([row(x=10)])
    assert answers(tmp_path) == {0: "cell", 10: "cell"}, "control: with space again it goes on"


@contextmanager
def read_only(folder):
    """Take away the right to write in a folder; root, who may write anywhere, is another person meanwhile."""
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_a_folder_that_is_read_only_is_said_to_be():
    folder = Path(tempfile.mkdtemp())
    ledger = Ledger(folder, "anna")
    message = (
        rf"^The folder of labels must be writable; {folder} is not: Permission denied\. "
        r"Free space or ask for the right to write, then do the last step again: it was not saved\.$"
    )
    with read_only(folder), pytest.raises(PermissionError, match=message):
        ledger.add([row()])
    assert ledger.undo() == []
    assert list(folder.iterdir()) == []
    ledger.add([row()])
    assert answers(folder) == {0: "cell"}, "control: it is kept once the folder may be written"
    shutil.rmtree(folder)


def test_many_threads_may_answer_at_once(tmp_path, monkeypatch):
    new_file = ledger_module._new_file
    monkeypatch.setattr(ledger_module, "_new_file", lambda *given: time.sleep(0.02) or new_file(*given))
    ledger = Ledger(tmp_path, "anna")
    threads = [
        threading.Thread(target=lambda n=n: [ledger.add([row(x=100 * n + k)]) for k in range(10)])
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(tmp_path.iterdir())) == 1
    assert len(lines(tmp_path)) == len(answers(tmp_path, 0.1)) == 80
    assert len(set(read_events(tmp_path)["at"])) == 80


def test_the_newest_answer_within_reach_counts_whoever_gave_it(tmp_path):
    anna, ben = Ledger(tmp_path, "anna"), Ledger(tmp_path, "ben")
    anna.add([row("cell", 0, frame=0), row("cell", 10, frame=0), row("cell", 0, frame=1)])
    anna.add([row("cell", 0, image="m2")])
    ben.add([row("unsure", 2)])
    assert answers(tmp_path, within_um=1.9) == {0: "cell", 10: "cell", 2: "unsure"}, "control: out of reach"
    labels = current_labels(read_events(tmp_path), within_um=2)
    assert labels[["x_um", "answer", "who"]].to_numpy().tolist() == [
        [10, "cell", "anna"], [0, "cell", "anna"], [0, "cell", "anna"], [2, "unsure", "ben"],
    ]  # fmt: skip
    assert len(read_events(tmp_path)) == 5
    ben.undo()
    assert (current_labels(read_events(tmp_path), within_um=2)["who"] == "anna").all()


def test_a_place_does_not_wander_with_its_answers(tmp_path):
    ledger = Ledger(tmp_path, "anna")
    for x in [0, 1.5, 3, 2.9]:
        ledger.add([row(f"at {x}", x)])
    assert answers(tmp_path, within_um=2) == {1.5: "at 1.5", 2.9: "at 2.9"}


def test_an_audited_place_stays_one_and_keeps_its_weight_when_it_is_answered_again(tmp_path):
    ledger = Ledger(tmp_path, "anna")
    ledger.add([row("cell", 0, origin="audit", weight=40.0)])
    ledger.add([row("artefact", 1, origin="category", weight=3.0), row("cell", 10, weight=3.0)])
    labels = current_labels(read_events(tmp_path), within_um=2)
    shown = ["x_um", "answer", "origin", "weight"]
    assert labels[shown].to_numpy().tolist() == [[1, "artefact", "audit", 40], [10, "cell", "random", 3]]
    ledger.add([row("unsure", 0.5, origin="audit", weight=41.0)])
    assert current_labels(read_events(tmp_path), within_um=2)[shown].to_numpy().tolist()[-1] == [
        0.5,
        "unsure",
        "audit",
        41,
    ]


def test_two_audited_places_stay_two_however_near_they_are(tmp_path):
    ledger = Ledger(tmp_path, "anna")
    ledger.add([row("cell", 10), row("cell", 20), row("cell", 1)])
    assert answers(tmp_path, within_um=2) == {10: "cell", 20: "cell", 1: "cell"}
    ledger.add([row("cell", 0, origin="audit", weight=2.0), row("artefact", 1.5, origin="audit", weight=2.0)])
    assert answers(tmp_path, within_um=2) == {10: "cell", 20: "cell", 0: "cell", 1.5: "artefact"}


def test_what_counts_is_kept_for_the_same_events_and_worked_out_anew_for_others(tmp_path):
    Ledger(tmp_path, "anna").add([row("cell", 0), row("artefact", 100)])
    events = read_events(tmp_path)
    first = current_labels(events, within_um=3.0)
    first["answer"] = "unsure"
    assert list(current_labels(events, within_um=3.0)["answer"]) == ["cell", "artefact"], (
        "a copy is given out"
    )
    moved = events.assign(x_um=[0.0, 1.0])
    assert list(current_labels(moved, within_um=3.0)["answer"]) == ["artefact"], "the same ids, elsewhere"
    assert len(current_labels(moved, within_um=0.5)) == 2
    weighed = events.assign(weight=[2.0, np.nan])
    assert current_labels(weighed, within_um=3.0)["weight"].tolist()[0] == 2.0


def test_labels_of_an_empty_ledger_have_the_agreed_columns(tmp_path):
    labels = current_labels(read_events(tmp_path / "nowhere"), within_um=1)
    assert labels.dtypes.astype(str).to_dict() == LABEL_COLUMNS
    Ledger(tmp_path, "anna").add([row()])
    assert current_labels(read_events(tmp_path), within_um=1).dtypes.astype(str).to_dict() == LABEL_COLUMNS
    assert Ledger(tmp_path, "anna").add([]) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"answer": "undo"}, r"^Every answer may not be undo or clear; row 0 holds 'undo'\. Mend it\.$"),
        ({"origin": ""}, r"^answers: column origin must be filled in; row 0 is empty\. Fill it in\.$"),
        ({"origin": "x"}, f"^Every origin must be one of {', '.join(ORIGINS)}; row 0 holds 'x'. Mend it.$"),
        ({"x_um": None}, r"^answers: column x_um must be a finite number; row 0 holds nan\. Mend it\.$"),
        ({"image": ""}, r"^answers: column image must be filled in; row 0 is empty\. Fill it in\.$"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_refused_and_nothing_is_written(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        Ledger(tmp_path, "anna").add([row(), row() | wrong][::-1])
    assert list(tmp_path.iterdir()) == []


def test_only_the_answers_of_the_study_are_taken_where_they_are_known(tmp_path):
    ledger = Ledger(tmp_path, "anna", answers=("cell", "artefact", "unsure"))
    ledger.add([row("unsure")])
    with pytest.raises(
        ValueError,
        match=r"^Every answer must be one of cell, artefact, unsure; row 1 holds 'Cell'\. Mend it\.$",
    ):
        ledger.add([row(), row("Cell")])
    assert len(lines(tmp_path)) == 1


def test_a_ledger_needs_a_name(tmp_path):
    with pytest.raises(
        ValueError, match=r"^A ledger needs the name of the person who answers; got ' '\. Give a name\.$"
    ):
        Ledger(tmp_path, " ")
