import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from re import escape

import numpy as np
import pandas as pd
import pytest
from test_fit import QUICK, build, same, toy

from cellkit.networks import fit
from cellkit.networks.checkpoint import State, load_state, save_state

TEACH = """
import os, sys
from dataclasses import replace
from pathlib import Path
import keras  # but nothing computed with it: so a fork can
sys.path.insert(0, sys.argv[1])
from test_fit import QUICK, build, toy
from cellkit.networks import fit

folder = Path(sys.argv[2])
settings = replace(QUICK, epochs=40, patience=40)
for _ in sys.stdin:
    if (child := os.fork()) == 0:
        print(os.getpid(), flush=True)
        say = lambda row: print(row["epoch"], flush=True)
        model = build()
        history = fit(model, toy(160, 0), toy(80, 1), settings=settings, checkpoint=folder, on_epoch=say)
        history.drop(columns="seconds").to_csv(folder / "history.csv", index=False)
        model.save_weights(folder / "last.weights.h5")
        print(0, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print(-1, flush=True)
"""


def test_a_training_killed_at_random_moments_ends_as_if_it_never_was(tmp_path):
    rng, told = np.random.default_rng(int(time.time())), [0]
    command = [sys.executable, "-c", TEACH, os.path.dirname(__file__), str(tmp_path / "killed")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, bufsize=1, **pipes) as process:
        for _ in range(4):
            print("teach", file=process.stdin, flush=True)
            told = kill(process, after=max(told) + int(rng.integers(1, 8)), pause=rng.uniform(0, 0.1))
            assert told[-2:] != [0, -1], "control: it was killed before it ended"
        print("teach", file=process.stdin, flush=True)
        told = kill(process, after=99, pause=0)
        process.stdin.close()
    assert told == [*range(1, 41), 0, -1]
    model = build()
    history = fit(model, toy(160, 0), toy(80, 1), settings=replace(QUICK, epochs=40, patience=40))
    killed = pd.read_csv(tmp_path / "killed" / "history.csv")
    pd.testing.assert_frame_equal(killed, history.drop(columns="seconds"), check_exact=True)
    again = build()
    again.load_weights(tmp_path / "killed" / "last.weights.h5")
    assert same(again.get_weights(), model.get_weights())


def kill(process, *, after: int, pause: float) -> list[int]:
    """Kill a training once it has told of so many epochs, after a pause in s; return what it told."""
    pid, told = int(process.stdout.readline()), []
    while not told or told[-1] >= 0:
        told.append(int(process.stdout.readline()))
        if told[-1] == after:
            time.sleep(pause)
            os.kill(pid, signal.SIGKILL)
    return told


def taught(folder, *, until=None, **changed):
    """Teach the toy with checkpoints until the epoch in which it is interrupted; return what came of it."""
    model, seen = build(), []
    settings = replace(QUICK, **{"epochs": 6, "patience": 9} | changed)

    def interrupt(row):
        seen.append(row["epoch"])
        if row["epoch"] == until:
            raise KeyboardInterrupt

    try:
        history = fit(model, toy(48, 0), toy(32, 1), settings=settings, checkpoint=folder, on_epoch=interrupt)
    except KeyboardInterrupt:
        return None
    return history.drop(columns="seconds"), model.get_weights(), seen


def equal(one, other) -> bool:
    return one[0].equals(other[0]) and same(one[1], other[1])


def of_users(told) -> list[str]:
    return [str(warning.message) for warning in told if warning.category is UserWarning]


@pytest.fixture(scope="module")
def through(tmp_path_factory):
    """What comes of six epochs without an interruption."""
    return taught(tmp_path_factory.mktemp("through"))


def test_an_interrupted_training_goes_on_where_it_stopped_and_tells_what_was_before(tmp_path, through):
    assert taught(tmp_path, until=4) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-00002.npz", "epoch-00003.npz"]
    again = taught(tmp_path)
    assert equal(again, through)
    assert again[2] == [1, 2, 3, 4, 5, 6]
    assert equal(taught(tmp_path), through), "what has ended is only told again"
    assert not equal(taught(tmp_path / "other", seed=5), through), "control: another seed"


@pytest.mark.parametrize("damage", ["cut short", "one byte", "empty"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, through, damage):
    taught(tmp_path, until=4)
    newest = tmp_path / "epoch-00003.npz"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 255
    newest.write_bytes({"cut short": content[: len(content) // 2], "one byte": content, "empty": b""}[damage])
    start = escape(f"The checkpoint {newest} is damaged (")
    end = escape("); training goes on from the one before, or else from the beginning.")
    with pytest.warns(UserWarning, match=f"^{start}[^\n]+{end}$"):
        assert equal(taught(tmp_path), through)


def test_when_all_checkpoints_are_damaged_training_starts_at_the_beginning(tmp_path, through):
    taught(tmp_path, until=3)
    for path in tmp_path.iterdir():
        path.write_bytes(b"PK")
    with pytest.warns(UserWarning, match=r"^The checkpoint [^\n]+ from the beginning\.$") as told:
        assert equal(taught(tmp_path), through)
    assert len(of_users(told)) == 2


def test_changed_settings_and_labels_start_anew_and_keep_the_old_aside(tmp_path, through):
    folder = tmp_path / "checkpoint"
    taught(folder, until=4, learning_rate=0.01, augment=replace(QUICK.augment, noise=0.3))
    message = (
        "The training that was interrupted in epoch 4 cannot go on: noise was 0.3 and is now 0.2; "
        "learning_rate was 0.01 and is now 0.005. It starts anew; its checkpoints are kept in "
        f"{tmp_path / 'before-1'}."
    )
    with pytest.warns(UserWarning, match=f"^{escape(message)}$"):
        assert equal(taught(folder), through)
    assert sorted(path.name for path in (tmp_path / "before-1").iterdir())[-1] == "epoch-00003.npz"
    message = (
        "The training that was interrupted in epoch 7 cannot go on: the training labels changed. "
        f"It starts anew; its checkpoints are kept in {tmp_path / 'before-2'}."
    )
    with pytest.warns(UserWarning, match=f"^{escape(message)}$"):
        fit(
            build(), toy(48, 7), toy(32, 1), checkpoint=folder,
            settings=replace(QUICK, epochs=6, patience=9),
        )  # fmt: skip


def test_a_full_disk_is_a_warning_and_the_training_is_not_lost(tmp_path, through, monkeypatch):
    import cellkit.networks.checkpoint as checkpoint

    real, full = checkpoint._write, {3, 4}

    def write(path, state, made_from):
        if len(state.rows) in full:
            raise OSError(28, "No space left on device")
        real(path, state, made_from)

    monkeypatch.setattr(checkpoint, "_write", write)
    messages = [
        f"The checkpoint of epoch {epoch} could not be written to {tmp_path}: No space left on device. "
        f"Training goes on; if it is killed now, it starts again from epoch 2. Free space."
        for epoch in (3, 4)
    ]
    with pytest.warns(UserWarning) as told:
        assert equal(taught(tmp_path), through)
    assert of_users(told) == messages


def test_the_older_checkpoint_makes_room_for_the_new_one(tmp_path):
    arrays = [np.zeros(100_000, np.float32)]
    rows = [{"epoch": 1, "val_loss": 1.0}]
    for n in (1, 2):
        assert save_state(tmp_path, State(rows * n, 1, *5 * [arrays]), {})
    import cellkit.networks.checkpoint as checkpoint

    real = checkpoint._write

    def small_disk(path, state, made_from):
        if len(list(tmp_path.iterdir())) >= 2:
            raise OSError(28, "No space left on device")
        real(path, state, made_from)

    checkpoint._write = small_disk
    try:
        assert save_state(tmp_path, State(rows * 3, 1, *5 * [arrays]), {})
    finally:
        checkpoint._write = real
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-00002.npz", "epoch-00003.npz"]
    assert len(load_state(tmp_path, {}).rows) == 3


def test_what_is_killed_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path, through, monkeypatch):
    monkeypatch.setattr("cellkit.networks.checkpoint.os.replace", kill_at(3, os.replace))
    with pytest.raises(SystemExit):
        taught(tmp_path)
    monkeypatch.undo()
    (tmp_path / ".epoch-00003.npz.1.part").write_bytes(b"half")
    assert equal(taught(tmp_path), through)
    assert not list(tmp_path.glob(".*"))


def kill_at(n, do):
    """Return a function that does something n - 1 times and then ends the program."""
    calls = []

    def called(*arguments):
        calls.append(arguments)
        if len(calls) == n:
            raise SystemExit
        return do(*arguments)

    return called


def test_more_epochs_carry_the_history_on_and_keep_what_was_best(tmp_path):
    model = build()
    first = fit(model, toy(48, 0), toy(32, 1), settings=replace(QUICK, epochs=3))
    start = model.get_weights()
    more = fit(
        model, toy(48, 0), toy(32, 1), earlier=first, settings=replace(QUICK, epochs=2, learning_rate=1e-3)
    )
    assert more["epoch"].tolist() == [1, 2, 3, 4, 5]
    pd.testing.assert_frame_equal(more.head(3), first, check_exact=True)
    assert more["learning_rate"].iloc[3:].max() <= 1e-3 < first["learning_rate"].max()
    wrong = toy(32, 1)
    wrong = wrong._replace(targets=1 - wrong.targets)
    model.set_weights(start)
    fit(model, toy(48, 0), wrong, earlier=first, settings=replace(QUICK, epochs=8))
    assert same(model.get_weights(), start), "no epoch was better than what it started from"


def test_more_epochs_go_on_after_an_interruption_too(tmp_path):
    def continued(until):
        model = build()
        first = fit(model, toy(48, 0), toy(32, 1), settings=replace(QUICK, epochs=2))

        def interrupt(row):
            if row["epoch"] == until:
                raise KeyboardInterrupt

        try:
            more = fit(
                model, toy(48, 0), toy(32, 1), earlier=first.assign(seconds=0.0), on_epoch=interrupt,
                settings=replace(QUICK, epochs=3), checkpoint=tmp_path / str(until),
            )  # fmt: skip
        except KeyboardInterrupt:
            (tmp_path / str(until)).rename(tmp_path / "0")
            return None
        return more.drop(columns="seconds"), model.get_weights()

    continued(4)
    assert equal(continued(0), continued(9))


def test_the_record_of_a_checkpoint_is_plain_json(tmp_path):
    taught(tmp_path, until=2)
    with np.load(tmp_path / "epoch-00001.npz", allow_pickle=False) as file:
        record = json.loads(file["record"].tobytes())
    assert record["best_epoch"] == 1 and record["made_from"]["epochs"] == 6
