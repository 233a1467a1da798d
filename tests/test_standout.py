import numpy as np
import pytest

from cellkit.networks.architectures import ClassifierSettings, build_classifier
from cellkit.networks.engines import compile_engine
from cellkit.networks.safe import strange_classes
from cellkit.networks.standout import FLOOR, MODULE, NAME, sampling_weights

SHAPE = (12, 24, 24)


def blob(height: float, *, noise: float = 1.0, seed: int = 0) -> np.ndarray:
    """Return one cube without a background: a blob of this height in the middle, in spreads of the image."""
    axes = [(np.arange(n) + 0.5) / n - 0.5 for n in SHAPE]
    away = sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij"))
    values = height * np.exp(-away / (2 * 0.1**2)) + noise * np.random.default_rng(seed).normal(size=SHAPE)
    cube = np.zeros((1, *SHAPE, 3), np.float32)
    cube[0, ..., 0] = np.arcsinh(values)
    return cube


@pytest.fixture(scope="module")
def stands_out():
    run = compile_engine(build_classifier((*SHAPE, 3), ClassifierSettings(stem=8, widths=(8,), embedding=8)))
    return lambda cubes: run(cubes).embeddings[:, -3:]


def test_it_is_the_height_over_the_shell_in_the_root_of_its_noise(stands_out):
    cube = blob(6.0)
    middle, shell = sampling_weights(SHAPE).T.astype(float)
    values = np.sinh(cube[0, ..., 0].astype(float)).ravel()
    deviation = np.sqrt(shell @ (values - shell @ values) ** 2)
    expected = np.arcsinh((middle @ values - shell @ values) / (np.sqrt(deviation) + FLOOR))
    assert stands_out(cube)[0] == pytest.approx([expected, 0.0, 0.0], abs=1e-4)


def test_a_higher_blob_stands_out_more_and_a_noisier_place_takes_from_it(stands_out):
    low, high, noisy = (stands_out(cube)[0, 0] for cube in (blob(3.0), blob(9.0), blob(9.0, noise=5.0)))
    assert low < noisy < high
    assert abs(stands_out(blob(0.0))[0, 0]) < 0.3, "control: no blob"


def test_only_the_layer_of_cellkit_is_let_in_by_its_name():
    own = {"module": MODULE, "class_name": NAME, "config": {}}
    assert strange_classes(own) == set()
    assert strange_classes(own | {"module": "elsewhere"}) == {"elsewhere.StandOut"}
    assert strange_classes(own | {"class_name": "Other"}) == {f"{MODULE}.Other"}
