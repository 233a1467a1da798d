from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from painted import SOMA, VOXEL, found, paint, um
from scipy.ndimage import center_of_mass, label

from cellkit.finding import blobs
from cellkit.finding.blobs import PLATEAU_VOXELS
from cellkit.finding.grids import PLATEAU, working_grid
from cellkit.finding.plateaus import find_pieces, join

PICTURE = """
. . # # . . . . # .
. # # # . . . . # #
. . # . . . . . . .
. . . . # # . . . .
. . . # . . # . . .
# . . . . # . . . #
# . . . . . . . # #
"""
MASK = np.array([list(line.replace(" ", "")) for line in PICTURE.split("\n") if line]) == "#"


def joined(bright, block):
    """Return the plateaus of an image that is cut into blocks, in the order of their places, as tuples."""
    values = np.pad(bright.astype(np.float32), 1, mode="symmetric")
    pieces = []
    for start in product(*(range(0, n, b) for n, b in zip(bright.shape, block, strict=True))):
        core = tuple(slice(1, 1 + min(b, n - s)) for s, b, n in zip(start, block, bright.shape, strict=True))
        cut = values[tuple(slice(s, s + side.stop + 1) for s, side in zip(start, core, strict=True))]
        found_here, _ = find_pieces(cut, core, start, bright.shape)
        if found_here.level == 1:
            pieces.append((start, found_here))
    plateaus, _ = join(pieces)
    return sorted((*map(float, c), int(n)) for c, n in zip(plateaus.centre, plateaus.voxels, strict=True))


def labelled(bright):
    """Return the same, of the image as a whole."""
    regions, number = label(bright, np.ones((3, 3, 3)))
    sizes = np.bincount(regions.ravel())[1:]
    wide = [n + 1 for n in range(number) if sizes[n] >= 4]
    centres = center_of_mass(bright, regions, wide)
    return sorted((*map(float, c), int(sizes[n - 1])) for c, n in zip(centres, wide, strict=True))


@pytest.mark.parametrize("block", [(1, 7, 10), (1, 3, 4), (1, 2, 2), (1, 1, 1)], ids=str)
def test_plateaus_are_joined_over_the_borders_of_blocks(block):
    of_six, of_five = (0, 5 / 6, 13 / 6, 6), (0, 19 / 5, 23 / 5, 5)
    assert joined(MASK[None], block) == approximately([of_six, of_five])


def approximately(plateaus):
    return [pytest.approx(plateau, abs=1e-9) for plateau in plateaus]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.02, 0.5), st.tuples(*[st.integers(1, 9)] * 3))
def test_blocks_of_any_shape_give_the_plateaus_of_the_whole(seed, share, block):
    bright = np.random.default_rng(seed).random((6, 9, 8)) < share
    bright[0, 0, 0] = True
    assert joined(bright, block) == approximately(labelled(bright))


def test_a_place_lies_on_the_nearest_piece():
    values = np.zeros((3, 9, 9), np.float32)
    values[1, 2:4, 2:4] = values[1, 2:4, 6:8] = 1
    _, numbers = find_pieces(values, (slice(0, 3), slice(0, 9), slice(0, 9)), (0, 0, 0), (3, 9, 9))
    at = numbers.at(np.array([(1, 3, 3), (1, 3, 4), (1, 3, 5), (1, 1, 5), (1, 7, 7), (0, 3, 3)]))
    assert at.tolist() == [1, 1, 2, 2, 0, 0]


def to_plateaus_one_by_one(values, place, shift, level, grid):
    """Return what `_to_plateaus` does, a place at a time, in the whole window."""
    window, moved = np.asarray(grid.within(PLATEAU)), shift.copy()
    for row in range(len(place)):
        box = tuple(slice(p - w, p + w + 1) for p, w in zip(place[row], window, strict=True))
        regions, _ = label(values[box] == level[row], np.ones((3, 3, 3)))
        inside = np.argwhere(regions) - window
        nearest = inside[np.argmin((inside**2).sum(axis=1))] + window
        plateau = np.argwhere(regions == regions[tuple(nearest)]) - window
        if len(plateau) >= PLATEAU_VOXELS:
            moved[row] = plateau.mean(axis=0)
    return moved


@pytest.mark.parametrize("planes", [1, 40])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.7])
def test_places_move_to_the_middle_of_their_plateau_however_far_it_reaches(planes, share, monkeypatch):
    rng = np.random.default_rng(0)
    values = rng.choice([0.0, 1.0, 2.0], (planes, 80, 80), p=[1 - share, share / 2, share / 2]).astype("f4")
    values = values.repeat(2, 1)
    values[:, 60:75, 20:60] = 2
    grid = working_grid(values.shape, (5.0, 2.0, 2.0), 14.0)
    window = np.asarray(grid.within(PLATEAU))
    place = rng.integers(window, values.shape - window, (300, 3))
    level = np.array([values[z, y - 1 : y + 2, x - 1 : x + 2].max() for z, y, x in place])
    shift = rng.normal(size=(300, 3))
    monkeypatch.setattr(blobs, "BOX_VOXELS", 20_000)
    moved = blobs._to_plateaus(values, place, shift, level, grid)
    np.testing.assert_array_equal(moved, to_plateaus_one_by_one(values, place, shift, level, grid))
    far = np.abs(moved - shift).max(axis=1) > 0
    assert 0 < far.mean() < 1 or share == 0.7, "control: some lie on a plateau of four voxels, some do not"


def disc(shape, middle_um, radius_um, *, level=65535):
    """Return noise and a saturated disc or ball."""
    volume = paint(shape, [], noise=5)
    axes = [np.arange(n) * v - m for n, v, m in zip(shape, VOXEL, middle_um, strict=True)]
    far = np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij")))
    volume[far < radius_um] = level
    return volume


def strong(table):
    return table[table["score"] > table["score"].iloc[0] / 4]


@pytest.mark.parametrize("diameters", [2, 3, 5, 8])
@pytest.mark.parametrize("planes", [1, 24], ids=["2D", "3D"])
def test_a_wide_plateau_is_one_candidate_in_its_middle(planes, diameters):
    middle = ((planes - 1) * 5 / 2, 80.0, 84.0)
    volume = disc((planes, 80, 85), middle, diameters * SOMA / 2)
    table = strong(found(volume))
    assert um(table) == pytest.approx(np.array([middle]), abs=1e-6)
    if planes == 1 or diameters < 5:
        assert table["diameter_um"].iloc[0] == pytest.approx(diameters * SOMA, rel=0.15)
    if diameters > 2:
        volume = np.where(volume == 65535, 65535 - np.arange(85) % 7, volume).astype(np.uint16)
        assert len(strong(found(volume))) > 1, "control: not saturated, its edge is many"


@pytest.fixture(scope="module")
def network():
    """A volume with a winding plateau, a broad one, and somas beside them."""
    volume = paint((24, 90, 100), [(60, 160, 30), (30, 20, 180), (100, 150, 150)], noise=5)
    volume[4:7, 5:85, 20:24] = volume[4:7, 5:9, 20:70] = volume[4:20, 5:9, 66:70] = 4095
    volume[10:18, 30:60, 40:80] = 4095
    return volume


@pytest.mark.parametrize("block", [(10, 40, 50), (30, 22, 33), (1, 1, 1), (8, 1000, 11)], ids=str)
@pytest.mark.parametrize("kind", ["uint16", "float32", "binned"])
def test_plateaus_wider_than_a_block_do_not_depend_on_the_blocks(network, kind, block):
    voxel_um = (2.0, 1.5, 1.6) if kind == "binned" else VOXEL
    shown = np.sqrt(network).astype(np.float32) if kind == "float32" else network
    whole = found(shown, voxel_um=voxel_um, min_score=0)
    again = found(shown, voxel_um=voxel_um, min_score=0, block=block, workers=3)
    pd.testing.assert_frame_equal(again, whole, check_exact=True)


def test_two_plateaus_and_the_somas_beside_them_are_each_one_candidate(network):
    first = um(found(network).head(5))
    somas = np.array([(60, 160, 30), (30, 20, 180), (100, 150, 150)])
    near = np.linalg.norm(first[:, None] - somas, axis=2).min(axis=0)
    assert (near < SOMA / 3).all()
    winding = np.argwhere(label(network == 4095)[0] == 1).mean(axis=0) * VOXEL
    broad = np.array([13.5, 44.5, 59.5]) * VOXEL
    for middle in (winding, broad):
        assert np.linalg.norm(first - middle, axis=1).min() < 4


def test_a_plateau_at_the_border_is_one_candidate():
    table = strong(found(disc((20, 80, 80), (0, 0, 80), 3 * SOMA)))
    assert len(table) == 1
    assert um(table)[0][2] == pytest.approx(80, abs=0.01)
