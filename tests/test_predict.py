from dataclasses import replace
from pathlib import Path
from re import escape

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from cellkit.cubes import CubeGeometry, Intensities, cut_cubes
from cellkit.images import open_image
from cellkit.networks import Network, NetworkCard, embed, predict
from cellkit.networks.architectures import ClassifierSettings, build_classifier
from cellkit.networks.engines import Scores

GEOMETRY = CubeGeometry((4, 8, 8))
DIAMETER_UM = 12.0
INTENSITIES = {
    "signal": Intensities(100.0, 10.0, 90.0, 200.0),
    "background": Intensities(50.0, 10.0, 40.0, 90.0),
}


def network(**stated) -> Network:
    model = build_classifier((*GEOMETRY.shape, 3), ClassifierSettings(stem=8, widths=(8,), embedding=8))
    rng = np.random.default_rng(0)
    model.set_weights([w + 0.3 * rng.normal(size=w.shape) for w in model.get_weights()])
    made = Network(NetworkCard("net-1", cube=GEOMETRY), Path(), **stated)
    made.model = model
    return made


@pytest.fixture(scope="module")
def net() -> Network:
    return network()


def brain(*, gain: float = 1.0, offset: float = 0.0, channels: int = 2):
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(2, 20, 60, 60)) * 10
    volume = noise + np.reshape([100.0, 50.0], (2, 1, 1, 1))
    return open_image(
        (volume * gain + offset).astype(np.float32)[:channels],
        voxel_um=(5, 2, 2), roles=("signal", "background")[:channels], name="brain", axes="czyx",
    )  # fmt: skip


def places(n: int = 40, seed: int = 2) -> pd.DataFrame:
    at = np.random.default_rng(seed).uniform(0, (19, 59, 59), size=(n, 3))
    return pd.DataFrame(at, columns=["z", "y", "x"]).assign(image="brain", frame=0)


def asked(net: Network, at: pd.DataFrame, image=None, **keywords) -> np.ndarray:
    return predict(net, image or brain(), at, intensities=INTENSITIES, diameter_um=DIAMETER_UM, **keywords)


def test_every_place_gets_the_calibrated_probability_of_its_own_cube(net):
    calibrated = network()
    calibrated.card = replace(calibrated.card, slope=0.5, offset=-1.0)
    at = places()
    cubes = cut_cubes(brain(), at, intensities=INTENSITIES, diameter_um=DIAMETER_UM, geometry=GEOMETRY)
    logits = net.scores(cubes).logits
    assert np.ptp(logits) > 0.1, "control: the places differ"
    assert asked(net, at) == pytest.approx(expit(logits), abs=1e-6)
    assert asked(calibrated, at) == pytest.approx(expit(0.5 * logits - 1), abs=1e-6)


def test_the_order_of_the_places_changes_no_answer(net):
    at, order = places(600), np.random.default_rng(3).permutation(600)
    assert np.array_equal(asked(net, at.iloc[order]), asked(net, at)[order])
    alone = np.concatenate([asked(net, at.iloc[[row]]) for row in range(5)])
    assert alone == pytest.approx(asked(net, at)[:5], abs=1e-6)


def test_places_on_the_very_border_are_called_too(net):
    corners = pd.DataFrame({"z": [0.0, 19.0], "y": [0.0, 59.0], "x": [0.0, 59.0]}).assign(frame=0)
    assert np.isfinite(asked(net, corners)).all()


def test_no_place_gives_no_answer(net):
    p, embeddings = embed(net, brain(), places(0), intensities=INTENSITIES, diameter_um=DIAMETER_UM)
    assert p.shape == (0,) and embeddings.shape == (0, 8 + 3)


def test_embeddings_come_with_the_same_probabilities(net):
    at = places()
    p, embeddings = embed(net, brain(), at, intensities=INTENSITIES, diameter_um=DIAMETER_UM)
    assert np.array_equal(p, asked(net, at))
    kernel, bias = net.model.layers[-1].get_weights()
    assert expit(embeddings @ kernel[:, 0] + bias[0]) == pytest.approx(p, abs=1e-5)


@pytest.mark.parametrize("channels", [1, 2])
def test_openvino_and_keras_give_the_same_probabilities(channels):
    at, image = places(), brain(channels=channels)
    keras, openvino = (asked(network(engine=engine), at, image) for engine in ("keras", "openvino"))
    assert openvino == pytest.approx(keras, abs=1e-4)
    assert np.array_equal(asked(network(engine="openvino"), at, image), openvino)


def test_a_brighter_microscope_changes_no_answer_and_a_missing_channel_does(net):
    at = places()
    brighter = {
        role: replace(level, centre=level.centre * 3 + 100, spread=level.spread * 3)
        for role, level in INTENSITIES.items()
    }
    p = predict(net, brain(gain=3, offset=100), at, intensities=brighter, diameter_um=DIAMETER_UM)
    assert p == pytest.approx(asked(net, at), abs=1e-5)
    assert np.abs(asked(net, at, brain(channels=1)) - p).max() > 1e-3, "control: one channel less"


def test_memory_does_not_grow_with_the_number_of_places_and_progress_is_told(net):
    told, seen = [], []
    watched = network()
    scores = net.scores
    watched.scores = lambda cubes: (seen.append(len(cubes)), scores(cubes))[1]
    asked(watched, places(2000), progress=lambda done, of: told.append((done, of)))
    assert sum(seen) == 2000
    assert max(seen) < 1000
    assert told[-1] == (2000, 2000)
    assert [done for done, _ in told] == np.cumsum([n for n in seen if n]).tolist()


def test_memory_beyond_the_answers_is_the_same_for_a_thousand_and_for_twenty_thousand_places(net):
    import tracemalloc

    watched = network()
    watched.scores = lambda cubes: Scores(np.zeros(len(cubes), np.float32), np.zeros((len(cubes), 64)))
    image, peaks = brain(), []
    asked(watched, places(100), image)
    for n in (1000, 20_000):
        at = places(n)
        tracemalloc.start()
        asked(watched, at, image)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 19_000 * 250, "some bytes a place, not a cube or an embedding"


def test_a_place_outside_the_image_is_refused(net):
    at = places().assign(y=[70.0] + [5.0] * 39)
    start = "places: positions must lie inside the image of (20, 60, 60) voxels (z, y, x); row 0 is at ("
    with pytest.raises(ValueError, match=rf"^{escape(start)}[^\n]+$"):
        asked(net, at)
