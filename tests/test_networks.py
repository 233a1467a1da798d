import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from re import escape

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from cellkit import __version__
from cellkit.cubes import CubeGeometry
from cellkit.networks import (
    Network,
    NetworkCard,
    fit_head,
    load_network,
    replace_head,
    save_network,
    supplied_networks,
)
from cellkit.networks.architectures import ClassifierSettings, build_classifier
from cellkit.networks.card import NORMALISATION, read_card
from cellkit.networks.engines import compile_engine, has_matrix_units
from cellkit.networks.safe import hash_file, strange_classes

SMALL = ClassifierSettings(stem=8, widths=(8, 16, 16), embedding=8)


@dataclass(frozen=True)
class Kind:
    """One kind of network: how it is built, and the cubes that it sees."""

    geometry: CubeGeometry
    settings: ClassifierSettings

    def build(self):
        return build_classifier((*self.geometry.shape, 3), self.settings)

    def card(self, **stated) -> NetworkCard:
        return NetworkCard(**{"name": "net-1", "cube": self.geometry} | stated)

    def cubes(self, n: int) -> np.ndarray:
        return np.random.default_rng(0).normal(size=(n, *self.geometry.shape, 3)).astype(np.float32)


KINDS = {
    "volume": Kind(CubeGeometry((6, 12, 12)), SMALL),
    "slice": Kind(CubeGeometry((1, 12, 12)), SMALL),
    "odd sides": Kind(CubeGeometry((5, 9, 11)), replace(SMALL, widths=(16,))),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def saved(tmp_path) -> Network:
    volume = KINDS["volume"]
    return save_network(volume.build(), volume.card(), tmp_path / "networks")


def rewritten(network: Network, change) -> Path:
    """Change the configuration inside a network's file, and its card's hash with it, as a forger would."""
    path = network.folder / "network.keras"
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["config.json"] = json.dumps(change(json.loads(files["config.json"]))).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    restated(network, sha256=hash_file(path))
    return path


def restated(network: Network, **stated) -> Path:
    path = network.folder / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | stated))
    return path


def shaken(model):
    """Give every weight a random value, so that no layer is the identity."""
    rng = np.random.default_rng(1)
    model.set_weights([w + 0.2 * rng.normal(size=w.shape) for w in model.get_weights()])
    return model


# --- the battery: every kind of network -------------------------------------------------------------


def test_a_network_gives_one_logit_a_cube_through_its_embedding(kind):
    model = kind.build()
    assert model.input_shape == (None, *kind.geometry.shape, 3)
    assert model.output_shape == (None, 1)
    assert model.get_layer("embedding").output.shape == (None, 8 + 3)
    assert not model.compiled


def test_the_seed_decides_the_first_weights(kind):
    one, same = kind.build().get_weights(), kind.build().get_weights()
    other = replace(kind, settings=replace(kind.settings, seed=1)).build().get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True)), "control: another seed"


def test_a_network_reloads_to_the_same_output(kind, tmp_path):
    model, cubes = shaken(kind.build()), kind.cubes(5)
    save_network(model, kind.card(), tmp_path)
    loaded = load_network("net-1", tmp_path, engine="keras")
    assert np.array_equal(loaded.scores(cubes).logits, compile_engine(model, "keras")(cubes).logits)
    assert loaded.card == read_card(tmp_path / "net-1")
    assert loaded.card.shape == (*kind.geometry.shape, 3)


def test_openvino_says_what_keras_says(kind):
    model, cubes = shaken(kind.build()), kind.cubes(70)
    keras, openvino = (compile_engine(model, engine)(cubes) for engine in ("keras", "openvino"))
    assert np.ptp(keras.logits) > 0.1, "control: the cubes differ"
    assert openvino.logits == pytest.approx(keras.logits, abs=1e-4)
    assert openvino.embeddings == pytest.approx(keras.embeddings, abs=1e-4)


@pytest.mark.parametrize("engine", ["openvino", "keras"])
def test_what_a_network_says_of_a_cube_hangs_on_no_other_cube(kind, engine):
    run, cubes = compile_engine(shaken(kind.build()), engine), kind.cubes(70)
    alone, together = run(cubes[66:67]), run(cubes)
    assert np.array_equal(alone.logits[0], together.logits[66])
    assert np.array_equal(run(cubes).embeddings, together.embeddings)
    assert run(cubes[:0]).embeddings.shape == (0, 8 + 3)


def test_a_new_head_is_the_same_body_with_another_last_layer(kind):
    model, cubes = shaken(kind.build()), kind.cubes(60)
    embeddings = compile_engine(model)(cubes).embeddings
    targets = (embeddings @ np.arange(11) > np.median(embeddings @ np.arange(11))).astype(int)
    head = fit_head(embeddings, targets, seed=0)
    before = model.get_weights()
    renewed = compile_engine(replace_head(model, head))(cubes)
    assert np.array_equal(renewed.embeddings, embeddings)
    assert renewed.logits == pytest.approx(embeddings @ head.kernel + head.bias, abs=1e-3)
    assert np.mean((renewed.logits > 0) == targets) > 0.9
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


# --- the supplied networks --------------------------------------------------------------------------


def test_a_network_is_supplied_and_it_serves_one_and_two_channels():
    assert "cells-1" in supplied_networks()
    network = load_network("cells-1", task="cell")
    cubes = np.zeros((2, *network.card.shape), np.float32)
    cubes[1, ..., 2] = 1
    assert np.isfinite(network.scores(cubes).logits).all()
    assert network.card.shape == (*CubeGeometry().shape, 3)
    assert sum(file.stat().st_size for file in network.folder.iterdir()) < 4e6
    assert network.card.metrics, "its card says how good it is"


def test_the_cards_of_networks_are_read_without_keras():
    script = (
        "import sys, cellkit.networks as n; n.load_network('cells-1'); "
        "print({'keras', 'tensorflow', 'openvino', 'sklearn'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


# --- saving ----------------------------------------------------------------------------------------


def test_a_card_survives_being_written_and_read(tmp_path):
    volume = KINDS["volume"]
    card = volume.card(
        task="expression", classes=("on", "off"), threshold=0.25, slope=2.0, offset=-1.5,
        metrics={"audit": {"f1": {"value": 0.9, "low": 0.8, "high": 0.95}}}, parents=("cells-1 (abc)",),
    )  # fmt: skip
    network = save_network(volume.build(), card, tmp_path, history=pd.DataFrame({"epoch": [1]}))
    read = read_card(network.folder)
    assert replace(read, versions={}, sha256="", made_at="") == card
    assert set(read.versions) == {"cellkit", "keras", "tensorflow"}
    assert read.lineage == ("cells-1 (abc)", f"net-1 ({read.sha256[:12]})")
    assert pd.read_csv(network.folder / "history.csv")["epoch"].tolist() == [1]


def test_a_network_is_never_overwritten(saved):
    before = hash_file(saved.folder / "network.keras")
    message = f"A network is never overwritten; {saved.folder} is there. Choose another name."
    with pytest.raises(FileExistsError, match=f"^{escape(message)}$"):
        save_network(saved.model, saved.card, saved.folder.parent)
    assert hash_file(saved.folder / "network.keras") == before


def test_what_is_killed_while_saving_leaves_no_network(tmp_path, monkeypatch):
    volume = KINDS["volume"]
    monkeypatch.setattr(
        "cellkit.networks.store.write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        save_network(volume.build(), volume.card(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_network_and_says_so(tmp_path, monkeypatch):
    volume = KINDS["volume"]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cellkit.networks.store.write_json", full)
    message = (
        f"The folder of networks must be writable; {tmp_path} is not: No space left on device. Free space or "
        "ask for the right to write, then do the last step again: it was not saved."
    )
    with pytest.raises(OSError, match=f"^{escape(message)}$"):
        save_network(volume.build(), volume.card(), tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert save_network(volume.build(), volume.card(), tmp_path).folder.is_dir(), (
        "control: with room it is saved"
    )


def test_a_network_is_found_by_name_first_in_the_study_then_among_the_supplied_and_by_path(saved):
    assert load_network("net-1", saved.folder.parent).folder == saved.folder
    assert load_network(saved.folder).name == "net-1"
    assert load_network(saved.folder / "network.keras").name == "net-1"
    assert load_network("cells-1", saved.folder.parent).name == "cells-1", "control: a supplied one"
    save_network(saved.model, replace(saved.card, name="cells-1"), saved.folder.parent)
    assert load_network("cells-1", saved.folder.parent).folder.parent == saved.folder.parent


# --- bad files: refused whole, in one line ----------------------------------------------------------


def test_an_unknown_name_says_which_are_known(saved):
    message = (
        "A network must be one of the known ones or a folder with network.keras and card.json; "
        f"there is no net-2. Known: net-1, {', '.join(supplied_networks())}."
    )
    with pytest.raises(FileNotFoundError, match=f"^{escape(message)}$"):
        load_network("net-2", saved.folder.parent)


def test_a_folder_without_a_card_is_refused(saved):
    (saved.folder / "card.json").unlink()
    message = (
        f"A network is a folder with network.keras and card.json; {saved.folder} has no card.json. "
        "Copy the whole folder."
    )
    with pytest.raises(FileNotFoundError, match=f"^{escape(message)}$"):
        load_network(saved.folder)


def test_a_folder_without_a_network_file_is_refused(saved):
    (saved.folder / "network.keras").unlink()
    message = (
        "A network is a folder with network.keras and card.json; "
        f"{saved.folder / 'network.keras'} is missing. Copy the whole folder."
    )
    with pytest.raises(FileNotFoundError, match=f"^{escape(message)}$"):
        load_network(saved.folder)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"no zip at all", "File is not a zip file"), (b"", "File is not a zip file")],
)
def test_a_file_that_is_no_network_is_refused(saved, content, reason):
    path = saved.folder / "network.keras"
    path.write_bytes(content)
    message = f"{path} must be a network saved by Keras; it is not: {reason}. Copy it again."
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        load_network(saved.folder)


def test_a_zip_without_a_model_is_refused(saved):
    path = rewritten(saved, lambda _: ["not", "a", "model"])
    message = f"{path} must be a network saved by Keras; it holds no model. Copy it again."
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        load_network(saved.folder)


def with_layer(**layer):
    def change(configuration):
        configuration["config"]["layers"][1] |= layer
        return configuration

    return change


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        ({"class_name": "Lambda"}, "keras.layers.Lambda"),
        ({"class_name": "TFSMLayer"}, "keras.layers.TFSMLayer"),
        ({"module": "builtins", "class_name": "eval"}, "builtins.eval"),
        ({"module": "os", "class_name": "function", "config": "system"}, "os.function"),
        ({"module": "keras.utils", "class_name": "function", "config": "get_file"}, "keras.utils.function"),
        ({"module": "keras", "class_name": "function", "config": "Model"}, "keras.function"),
        ({"module": None, "class_name": "Mine", "registered_name": "me>Mine"}, "None.Mine"),
    ],
)
def test_a_network_with_code_of_others_is_refused_before_keras_sees_it(saved, layer, named):
    path = rewritten(saved, with_layer(**layer))
    message = (
        f"A network may be made of plain Keras layers only; {path} has {named}. "
        "It was not loaded, and none of its code was run."
    )
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        load_network(saved.folder)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_a_foreign_class_is_seen_however_deep_it_lies(rest):
    foreign = {"class_name": "Lambda", "module": "keras.layers", "config": {}}
    assert strange_classes({"a": [rest, {"b": foreign}]}) >= {"keras.layers.Lambda"}


def test_a_file_that_is_not_the_one_of_its_card_is_refused(saved):
    restated(saved, sha256="0" * 64)
    message = (
        f"{saved.folder / 'network.keras'} must be the file that its card describes; "
        "its sha256 is not the card's. Copy the network again, both files."
    )
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        load_network(saved.folder)


def test_a_torn_file_whose_hash_was_mended_is_refused_when_it_loads(saved):
    def bend(configuration):
        configuration["config"]["layers"][1]["config"]["filters"] = 9
        return configuration

    rewritten(saved, bend)
    start = f"{saved.folder / 'network.keras'} must be a network saved by Keras; it cannot be loaded: "
    with pytest.raises(ValueError, match=rf"^{escape(start)}[^\n]*\. Copy it again\.$"):
        _ = load_network(saved.folder).model


def test_cubes_of_another_geometry_than_the_card_says_are_refused(saved):
    restated(saved, cube={"shape": [6, 14, 14], "extent": [3, 3, 3]})
    message = (
        "A network must take cubes of (6, 14, 14, 3) voxels, as its card says, and give one logit through a "
        f"layer 'embedding'; {saved.folder / 'network.keras'} takes (6, 12, 12, 3) and gives (1,). "
        "Mend its card."
    )
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        _ = load_network(saved.folder).model


def test_a_network_of_another_task_is_refused(saved):
    message = (
        "A study of the task expression needs a network of that task; net-1 is for cell. "
        "Choose another network."
    )
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        load_network(saved.folder, task="expression")


def test_a_network_that_was_taught_other_cubes_is_refused(saved):
    restated(saved, normalisation="value / 255")
    message = (
        f"A network must be taught cubes as cellkit {__version__} cuts them: {NORMALISATION}; net-1 was "
        "taught value / 255, channels signal, background, background present. Train it anew."
    )
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        load_network(saved.folder)


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        (
            {"version": 2},
            "must be a card of version 1; it says 2. If a newer cellkit wrote it, update cellkit.",
        ),
        (
            {"colour": "red"},
            "must hold the fields of a card; colour is wrong or missing. Copy the network again.",
        ),
        ({"cube": 3}, "must hold the fields of a card; cube is wrong or missing. Copy the network again."),
    ],
)
def test_a_card_that_is_none_is_refused(saved, stated, said):
    path = restated(saved, **stated)
    with pytest.raises(ValueError, match=f"^{escape(f'{path} {said}')}$"):
        load_network(saved.folder)


def test_a_torn_card_is_refused(saved):
    path = saved.folder / "card.json"
    path.write_text(path.read_text()[:100])
    start, end = f"A network's card must hold JSON; {path} does not: ", ". Put back a copy of it."
    with pytest.raises(ValueError, match=rf"^{escape(start)}[^\n]+{escape(end)}$"):
        load_network(saved.folder)


@pytest.mark.parametrize("name", ["", "../net", "a/b", ".hidden", "net 1"])
def test_a_name_that_is_no_folders_name_is_refused(name):
    message = (
        "A network's name must be letters, digits, points, dashes and underscores, a letter or digit first; "
        f"got {name!r}. Choose a name such as net-1."
    )
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        NetworkCard(name=name)


def test_a_card_that_cannot_call_is_refused():
    message = (
        "A card needs the task cell or expression, a threshold from 0 to 1 and a slope above 0; "
        "got 'cell', 1 and 1. Mend the card."
    )
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        NetworkCard(name="net-1", threshold=1.0)


@pytest.fixture(scope="module")
def told_apart():
    """The supplied network and cubes of which it is sure, unsure and everything between."""
    rng, net = np.random.default_rng(0), load_network("cells-1")
    cubes = rng.standard_normal((1000, *net.card.shape)).astype(np.float32)
    z, y, x = (np.linspace(-1.5, 1.5, n) ** 2 for n in net.card.cube.shape)
    blob = np.exp(-4 * (z[:, None, None] + y[:, None] + x))
    cubes[..., 0] += np.linspace(0, 5, 1000)[:, None, None, None] * blob
    cubes[..., 2] = 1
    p = expit(net.card.slope * compile_engine(net.model, "keras")(cubes).logits + net.card.offset)
    assert p.min() < 0.05 and p.max() > 0.95, "control: all kinds of p"
    return net, cubes, p


def test_the_quick_engine_stays_within_a_hundredth_of_keras_and_calls_alike(told_apart):
    net, cubes, p = told_apart
    other = expit(net.card.slope * net.scores(cubes).logits + net.card.offset)
    assert np.abs(other - p).max() < 1e-2
    assert np.mean((other >= net.card.threshold) == (p >= net.card.threshold)) >= 0.999
    quick = compile_engine(net.model, "bfloat16")(cubes).logits
    apart = np.abs(expit(net.card.slope * quick + net.card.offset) - p).max()
    assert apart < 5e-2
    if "_bf16" in Path("/proc/cpuinfo").read_text():  # without, OpenVINO runs it in float32
        assert apart > 1e-3, "control: bfloat16 is another, and near"


def test_bfloat16_is_chosen_where_it_pays_and_keeps_p(told_apart, monkeypatch, tmp_path):
    net, cubes, _ = told_apart
    cubes = cubes[:64]
    exact, quick = (compile_engine(net.model, name)(cubes).logits for name in ("openvino", "bfloat16"))
    for there, slope, wanted in ((False, 0.1, exact), (True, 0.1, quick), (True, 20.0, exact)):
        monkeypatch.setattr("cellkit.networks.engines.has_matrix_units", lambda there=there: there)
        run = compile_engine(net.model, line=(slope, 4 * slope))
        assert np.array_equal(run(cubes).logits, wanted), "where p would be off, float32 is kept"
    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu avx512_bf16 amx_bf16 amx_tile")
    assert has_matrix_units(tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu avx512_bf16")
    assert not has_matrix_units(tmp_path / "cpuinfo") and not has_matrix_units(tmp_path / "none")


def test_with_flips_a_cube_and_its_mirror_images_get_the_same_answer(told_apart, tmp_path):
    net, cubes, _ = told_apart
    plain, steady = net.scores, load_network("cells-1", flips=True).scores
    cubes = cubes[:40]
    logits = steady(cubes).logits
    for axes in ((1,), (2, 3), (1, 2, 3)):
        np.testing.assert_allclose(steady(np.flip(cubes, axes)).logits, logits, atol=1e-4)
        assert np.abs(plain(np.flip(cubes, axes)).logits - plain(cubes).logits).max() > 1e-2, "control"
    views = [np.flip(cubes, axes) for axes in ((), 1, 2, 3, (1, 2), (1, 3), (2, 3), (1, 2, 3))]
    np.testing.assert_allclose(logits, np.mean([plain(view).logits for view in views], axis=0), atol=1e-4)


def test_an_engine_that_is_none_and_a_layer_that_openvino_is_not_told_of_are_refused():
    import keras

    with pytest.raises(ValueError, match=r"^An engine must be openvino, bfloat16 or keras; got 'cuda'\. .*$"):
        compile_engine(KINDS["volume"].build(), "cuda")
    inputs = keras.Input((2, 2, 2, 1))
    embedding = keras.layers.Dense(2, activation="tanh", name="embedding")(keras.layers.Flatten()(inputs))
    strange = keras.Model(inputs, keras.layers.Dense(1)(embedding))
    message = (
        "With OpenVINO a network may have the plain layers InputLayer, Conv3D, GroupNormalization, "
        "Activation, Add, AveragePooling3D, Flatten, Dense, Dropout, Multiply, Concatenate, StandOut; "
        'got Dense. Use engine="keras".'
    )
    with pytest.raises(ValueError, match=f"^{escape(message)}$"):
        compile_engine(strange, "openvino")
    scores = compile_engine(strange)(np.ones((3, 2, 2, 2, 1)))
    assert scores.logits.shape == (3,), "left to itself, cellkit runs it by Keras"
