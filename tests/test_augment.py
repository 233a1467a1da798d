import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellkit.augment import AugmentSettings, augment_cubes

NONE = AugmentSettings.none()


def some_cubes(n=40, shape=(6, 12, 12), seed=0):
    cubes = np.random.default_rng(seed).normal(0, 1, (n, *shape, 3)).astype("float32")
    cubes[..., 2] = np.arange(n)[:, None, None, None] % 2
    cubes[cubes[..., 2] == 0, 1] = 0
    return cubes


def blobs(n=40, shape=(7, 15, 15)):
    """Make cubes with a bright blob at their centre, in both channels."""
    z, y, x = (np.arange(k) - (k - 1) / 2 for k in shape)
    blob = 4 * np.exp(-(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2) / 8)
    return np.repeat(np.stack([blob, blob, np.ones(shape)], axis=-1)[None].astype("float32"), n, axis=0)


def augment(cubes, settings, seed=0):
    return augment_cubes(cubes, np.random.default_rng(seed), settings)


def test_no_augmentation_changes_nothing():
    cubes = some_cubes()
    assert np.array_equal(augment(cubes, NONE), cubes)
    assert not np.array_equal(augment(cubes, AugmentSettings()), cubes), "control"


def test_a_shift_along_z_moves_by_fractions_of_a_plane_and_as_far_as_it_may():
    cubes = np.zeros((200, 9, 6, 6, 3), np.float32)
    cubes[..., 0] = np.arange(9)[:, None, None]
    varied = augment(cubes, replace(NONE, shift_z=1.5))
    moved = cubes[:, 3:6, ..., 0] - varied[:, 3:6, ..., 0]
    assert np.ptp(moved, axis=(1, 2, 3)) == pytest.approx(0, abs=1e-5), "a whole cube moves as one"
    far = moved[:, 0, 0, 0]
    assert -1.5 <= far.min() < -1.3 and 1.3 < far.max() <= 1.5
    assert np.mean(np.abs(far - np.round(far)) > 0.05) > 0.8, "by fractions"
    assert varied[..., 0].min() == 0 and varied[..., 0].max() == 8, "what comes in is the outermost plane"


def test_the_same_seed_gives_the_same_cubes():
    cubes = some_cubes()
    first = augment(cubes, AugmentSettings())
    assert np.array_equal(first, augment(cubes, AugmentSettings()))
    assert not np.array_equal(first, augment(cubes, AugmentSettings(), seed=1)), "control"


ranges = {
    "flip": st.floats(0, 1),
    "rotation_degrees": st.floats(0, 180),
    "zoom": st.floats(0, 0.5),
    "shift": st.floats(0, 3),
    "shift_z": st.floats(0, 2),
    "contrast": st.floats(0, 1),
    "offset": st.floats(0, 1),
    "gamma": st.floats(0, 0.5),
    "darkening": st.floats(0, 1),
    "blur": st.floats(0, 0.3),
    "noise": st.floats(0, 1),
    "background_dropout": st.floats(0, 1),
}


@settings(max_examples=40, deadline=None)
@given(st.builds(AugmentSettings, **ranges), st.integers(0, 20))
def test_the_input_stays_and_presence_stays_0_or_1_whatever_the_settings(settings, n):
    cubes = some_cubes(n)
    before = cubes.copy()
    varied = augment(cubes, settings)
    assert np.array_equal(cubes, before)
    assert varied.shape == cubes.shape and varied.dtype == np.float32
    assert np.isfinite(varied).all()
    presence = varied[..., 2]
    assert np.isin(presence, (0, 1)).all()
    assert (presence == presence[:, :1, :1, :1]).all(), "one answer for a whole cube"
    assert (presence <= cubes[..., 2]).all(), "a background is never made up"
    assert (varied[..., 1][presence == 0] == 0).all()


def test_only_what_is_asked_for_is_varied():
    cubes = blobs()
    for name in ranges:
        varied = augment(cubes, replace(NONE, **{name: getattr(AugmentSettings(), name)}))
        if name == "flip":
            assert np.allclose(varied, cubes, atol=1e-5), "the blob is symmetric"
            continue
        assert not np.allclose(varied, cubes, atol=1e-3), name
        if name != "background_dropout":
            assert np.array_equal(varied[..., 2], cubes[..., 2]), name


def test_flips_mirror_each_axis_in_half_of_the_cubes():
    cubes = some_cubes(200)
    varied = augment(cubes, replace(NONE, flip=0.5))
    mirrored = dict.fromkeys((0, 1, 2), 0)
    for cube, result in zip(cubes, varied, strict=True):
        ways = [
            axes
            for axes in [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
            if np.array_equal(np.flip(cube[..., :2], axes), result[..., :2])
        ]
        assert len(ways) == 1
        for axis in ways[0]:
            mirrored[axis] += 1
    assert all(70 < times < 130 for times in mirrored.values())


def test_a_quarter_turn_turns_the_plane_and_keeps_the_depth():
    cubes = np.zeros((30, 5, 15, 15, 3), dtype="float32")
    cubes[:, 2, 7, 9, 0] = 1
    varied = augment(cubes, replace(NONE, rotation_degrees=180))
    where = np.array([np.argwhere(cube == cube.max())[0] for cube in varied[..., 0]])
    assert (where[:, 0] == 2).all()
    assert np.allclose(np.hypot(where[:, 1] - 7, where[:, 2] - 7), 2, atol=0.8)
    assert len(np.unique(where, axis=0)) > 8, "every angle comes"


def test_rotation_and_zoom_leave_the_centre_in_place():
    cubes = blobs()
    varied = augment(cubes, replace(NONE, flip=0.5, rotation_degrees=180, zoom=0.2))
    for axis in (1, 2, 3):
        at = np.arange(cubes.shape[axis]).reshape([-1 if k == axis else 1 for k in range(1, 4)])
        centre = (varied[..., 0] * at).sum((1, 2, 3)) / varied[..., 0].sum((1, 2, 3))
        assert np.allclose(centre, (cubes.shape[axis] - 1) / 2, atol=0.1)


def test_a_shift_stays_within_its_range():
    varied = augment(blobs(200), replace(NONE, shift=2.0))
    at = np.arange(15)
    x = (varied[:, 3, 7, :, 0] * at).sum(1) / varied[:, 3, 7, :, 0].sum(1) - 7
    assert np.abs(x).max() < 2.1
    assert x.max() > 1.5 and x.min() < -1.5


def test_contrast_keeps_the_background_and_the_order_of_brightness():
    cubes = some_cubes()
    varied = augment(cubes, replace(NONE, contrast=1.0))
    for cube, result in zip(cubes[..., 0], varied[..., 0], strict=True):
        order = np.argsort(cube.ravel())
        assert (np.diff(result.ravel()[order]) >= 0).all()
        assert (np.sign(result) == np.sign(cube)).all()
    ratio = np.sinh(varied[..., 0]) / np.sinh(cubes[..., 0])
    assert 0.5 <= np.median(ratio, axis=(1, 2, 3)).min() < 0.7
    assert 1.5 < np.median(ratio, axis=(1, 2, 3)).max() <= 2.0


def test_darkening_runs_along_the_depth_from_either_end():
    varied = augment(np.ones((60, 6, 8, 8, 3), "float32"), replace(NONE, darkening=0.5))
    profile = varied[..., 0].mean((2, 3))
    assert (np.diff(profile, axis=1) <= 0).all() and np.allclose(profile[:, 0], 1)
    assert profile[:, -1].min() > 0.49
    turned = augment(np.ones((60, 6, 8, 8, 3), "float32"), replace(NONE, darkening=0.5, flip=0.5))
    assert np.array_equal(turned[:, 0] == 1, np.ones((60, 8, 8, 3), bool)), "flips come before"


def test_blur_keeps_the_sum_and_lowers_the_peak():
    cubes = blobs()
    varied = augment(cubes, replace(NONE, blur=0.3))
    assert np.allclose(varied, np.flip(varied, (2, 3)), atol=1e-5), "the blob stays in place"
    assert np.allclose(varied[..., 0].sum((1, 2, 3)), cubes[..., 0].sum((1, 2, 3)), rtol=1e-4)
    assert (varied[..., 0].max((1, 2, 3)) <= cubes[..., 0].max((1, 2, 3))).all()


def test_background_drops_out_as_often_as_asked():
    varied = augment(blobs(1000, (2, 3, 3)), replace(NONE, background_dropout=0.3))
    dropped = varied[:, 0, 0, 0, 2] == 0
    assert 240 < dropped.sum() < 360
    assert np.array_equal(varied[..., 0], blobs(1000, (2, 3, 3))[..., 0])


def test_noise_is_of_its_size_and_differs_between_cubes():
    noise = augment(np.zeros((400, 6, 12, 12, 3), "float32"), replace(NONE, noise=0.5))[..., 0]
    amount = noise.std((1, 2, 3))
    assert 150 < (amount == 0).sum() < 250, "every second cube stays"
    assert amount.max() < 0.55
    some = noise[amount > 0.1][:20].reshape(20, -1)
    assert np.abs(np.corrcoef(some)[~np.eye(20, dtype=bool)]).max() < 0.3


def test_settings_outside_their_range_are_refused():
    for name, value, most in [("flip", 1.5, "1"), ("zoom", -0.1, "inf"), ("blur", float("nan"), "0.3")]:
        message = f"`{name}` must be from 0 to {most}; got {value!r}. 0 leaves the cubes as they are."
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            AugmentSettings(**{name: value})


def test_what_is_no_cube_is_refused():
    with pytest.raises(
        ValueError,
        match=r"^`cubes` must have axes \(n, z, y, x, 3\); got shape \(2, 6, 12, 12\)\. "
        r"Cut them with `cut_cubes`\.$",
    ):
        augment(np.zeros((2, 6, 12, 12)), NONE)
