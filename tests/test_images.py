import json
import pickle
import re
import tracemalloc
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import dask.array
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from cellkit.images import open_image
from cellkit.pixels.files import natural_order
from cellkit.pixels.planes import Planes

VOXEL = (5.0, 2.0, 2.0)


def voxels(*shape, dtype="uint16", seed=0):
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


VOLUME = voxels(12, 45, 70)


def write_zarr(path, array, version, *, scale=(1, 1, 5, 2, 2), unit="micrometer"):
    """Write an OME-Zarr of two levels by its specification, version 0.4 or 0.5."""
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    axes += [{"name": side, "type": "space"} | ({"unit": unit} if unit else {}) for side in "zyx"]
    datasets = []
    for level, part in enumerate([array, array[..., ::2, ::2]]):
        group.create_array(str(level), data=part, chunks=(1, 1, 4, 16, 16))
        sizes = [scale[0], scale[1], scale[2], scale[3] * 2**level, scale[4] * 2**level]
        datasets.append(
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": sizes}]}
        )
    multiscales = [{"axes": axes, "datasets": datasets, "version": version}]
    group.attrs.update(
        {"multiscales": multiscales} if version == "0.4" else {"ome": {"multiscales": multiscales}}
    )
    return path


# --- what can be opened ------------------------------------------------------------


def as_plain(folder, array):
    tifffile.imwrite(folder / "a.tif", array)
    return folder / "a.tif"


def as_big_endian(folder, array):
    tifffile.imwrite(folder / "a.tif", array, byteorder=">")
    return folder / "a.tif"


def as_compressed(folder, array):
    tifffile.imwrite(folder / "a.tif", array, compression="zlib", predictor=True)
    return folder / "a.tif"


def as_strips(folder, array):
    tifffile.imwrite(folder / "a.tif", array, compression="lzw", rowsperstrip=7)
    return folder / "a.tif"


def as_tiles(folder, array):
    tifffile.imwrite(folder / "a.tif", array, compression="zlib", tile=(16, 32))
    return folder / "a.tif"


def as_pages_one_by_one(folder, array):
    with tifffile.TiffWriter(folder / "a.tif") as tiff:
        for plane in array:
            tiff.write(plane, compression="zlib")
    return folder / "a.tif"


def as_uncompressed_pages_apart(folder, array):
    with tifffile.TiffWriter(folder / "a.tif") as tiff:
        for plane in array:
            tiff.write(plane, contiguous=False, metadata=None, rowsperstrip=8)
    return folder / "a.tif"


def as_big_endian_pages_apart(folder, array):
    with tifffile.TiffWriter(folder / "a.tif", byteorder=">") as tiff:
        for plane in array:
            tiff.write(plane, contiguous=False, metadata=None)
    return folder / "a.tif"


def as_ome(folder, array):
    tifffile.imwrite(folder / "a.ome.tif", array, metadata={"axes": "ZYX"}, compression="zlib")
    return folder / "a.ome.tif"


def as_imagej(folder, array):
    tifffile.imwrite(folder / "a.tif", array, imagej=True, metadata={"axes": "ZYX"})
    return folder / "a.tif"


def as_folder(folder, array):
    for z, plane in enumerate(array):
        tifffile.imwrite(folder / f"plane{z}.tif", plane, compression="zlib" if z % 2 else None)
    (folder / "notes.txt").write_text("not a plane")
    (folder / "._plane0.tif").write_text("what a Mac leaves behind")
    return folder


def as_npy(folder, array):
    np.save(folder / "a.npy", array)
    return folder / "a.npy"


def as_zarr_array(folder, array):
    zarr.create_array(folder / "a.zarr", data=array, chunks=(5, 16, 16))
    return folder / "a.zarr"


def as_array(folder, array):
    return array


KINDS = [
    as_plain,
    as_big_endian,
    as_compressed,
    as_strips,
    as_tiles,
    as_pages_one_by_one,
    as_uncompressed_pages_apart,
    as_big_endian_pages_apart,
    as_ome,
    as_imagej,
    as_folder,
    as_npy,
    as_zarr_array,
    as_array,
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_gives_the_same_voxels_by_blocks_as_whole(tmp_path, kind):
    image = open_image(kind(tmp_path, VOLUME), voxel_um=VOXEL)
    assert image.shape == (1, 1, *VOLUME.shape)
    assert image.dtype == image.read().dtype == np.uint16
    assert np.array_equal(image.read(), VOLUME)
    for box in [np.s_[3:4, 0:45, 0:70], np.s_[2:9, 5:38, 15:33], np.s_[11:12, 44:45, 69:70]]:
        assert np.array_equal(image.read(box=box), VOLUME[box])
    assert image.read(box=box).dtype.isnative
    assert all(1 <= c <= n for c, n in zip(image.chunk, VOLUME.shape, strict=True))


def test_a_dask_array_is_read_block_by_block():
    image = open_image(dask.array.from_array(VOLUME, chunks=(5, 16, 70)), voxel_um=VOXEL)
    assert image.chunk == (5, 16, 70)
    assert np.array_equal(image.read(box=np.s_[3:9, 5:38, 15:33]), VOLUME[3:9, 5:38, 15:33])


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_block_of_a_tiled_file_is_that_block(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "tiled.tif"
    if not path.exists():
        tifffile.imwrite(path, VOLUME, compression="zlib", tile=(16, 16))
    starts = [data.draw(st.integers(0, n - 1)) for n in VOLUME.shape]
    box = tuple(slice(a, data.draw(st.integers(a + 1, n))) for a, n in zip(starts, VOLUME.shape, strict=True))
    assert np.array_equal(open_image(path, voxel_um=VOXEL).read(box=box), VOLUME[box])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32"])
def test_every_type_comes_back_as_it_is(tmp_path, dtype):
    array = voxels(5, 20, 20, dtype="int16").astype(dtype) - np.array(1, dtype)
    for kind in (as_plain, as_compressed, as_npy):
        image = open_image(kind(tmp_path, array), voxel_um=VOXEL)
        assert image.dtype == np.dtype(dtype)
        assert np.array_equal(image.read(), array)


def test_a_2d_image_is_one_plane(tmp_path):
    image = open_image(as_compressed(tmp_path, VOLUME[0]), voxel_um=VOXEL)
    assert image.shape == (1, 1, 1, 45, 70)
    assert np.array_equal(image.read(), VOLUME[:1])


def test_plane2_comes_before_plane10(tmp_path):
    names = ["plane10.tif", "plane2.tif", "b1.tif", "plane2b.tif", "plane02.tif"]
    paths = sorted((tmp_path / name for name in names), key=natural_order)
    assert [path.name for path in paths] == [
        "b1.tif",
        "plane02.tif",
        "plane2.tif",
        "plane2b.tif",
        "plane10.tif",
    ]
    assert sorted(names)[1] == "plane02.tif" and sorted(names)[2] == "plane10.tif", "control: plain order"


def test_time_and_channels_are_found_by_their_names(tmp_path):
    lapse = voxels(3, 2, 4, 20, 30)
    tifffile.imwrite(tmp_path / "a.ome.tif", lapse, metadata={"axes": "TCZYX"}, compression="zlib")
    tifffile.imwrite(tmp_path / "b.tif", lapse.swapaxes(1, 2), imagej=True, metadata={"axes": "TZCYX"})
    write_zarr(tmp_path / "c.zarr", lapse, "0.5")
    for name in ("a.ome.tif", "b.tif", "c.zarr"):
        image = open_image(tmp_path / name, voxel_um=VOXEL, roles=("none", "signal"))
        assert image.shape == lapse.shape and image.frames == 3
        assert np.array_equal(image.read("signal", frame=2), lapse[2, 1])


@settings(max_examples=20, deadline=None)
@given(st.permutations("tczyx"), st.sampled_from(["", "t", "c", "z", "tc", "tcz"]))
def test_given_axes_say_what_each_axis_of_an_array_is(order, left_out):
    lengths = {"t": 2, "c": 2, "z": 3, "y": 4, "x": 5}
    axes = "".join(axis for axis in order if axis not in left_out)
    full = [axis for axis in "tczyx" if axis in axes]
    array = voxels(*(lengths[axis] for axis in axes))
    roles = ("background", "signal")[-1 if "c" in left_out else 0 :]
    image = open_image(array, voxel_um=VOXEL, axes=axes, roles=roles)
    upright = array.transpose([axes.index(axis) for axis in full])
    upright = upright.reshape([1 if axis in left_out else lengths[axis] for axis in "tczyx"])
    assert image.shape == upright.shape
    assert np.array_equal(image.read("signal", frame=image.frames - 1), upright[-1, -1])


def test_given_axes_count_more_than_those_of_the_file(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", VOLUME, imagej=True, metadata={"axes": "ZYX"})
    assert open_image(tmp_path / "a.tif", voxel_um=VOXEL).shape == (1, 1, *VOLUME.shape), "control"
    lapse = open_image(tmp_path / "a.tif", voxel_um=VOXEL, axes="tyx")
    assert lapse.shape == (12, 1, 1, 45, 70)
    assert np.array_equal(lapse.read(frame=7), VOLUME[7:8])


def test_several_files_are_the_channels_in_their_order(tmp_path):
    other = voxels(*VOLUME.shape, seed=1)
    tifffile.imwrite(tmp_path / "signal.tif", VOLUME)
    tifffile.imwrite(tmp_path / "background.tif", other, compression="zlib")
    paths = [tmp_path / "signal.tif", str(tmp_path / "background.tif")]
    image = open_image(paths, voxel_um=VOXEL, roles=["signal", "background"])
    assert (image.name, image.has_background, image.shape[1]) == ("signal", True, 2)
    assert np.array_equal(image.read("signal"), VOLUME)
    assert np.array_equal(image.read("background"), other)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_level_of_an_ome_zarr_has_its_own_voxel_size(tmp_path, version):
    array = voxels(1, 1, 6, 32, 40)
    path = write_zarr(tmp_path / "brain.ome.zarr", array, version)
    fine, coarse = open_image(path), open_image(path, level=1)
    assert (fine.name, fine.voxel_um, coarse.voxel_um) == ("brain", (5, 2, 2), (5, 4, 4))
    assert fine.chunk == (4, 16, 16)
    assert np.array_equal(fine.read(), array[0, 0])
    assert np.array_equal(coarse.read(), array[0, 0, :, ::2, ::2])


def write_pyramid(path, array, *, ome=True, **settings):
    """Write a TIFF of three levels, the coarser ones in SubIFDs."""
    unit = {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm", "PhysicalSizeZUnit": "µm"}
    metadata = {"axes": "ZYX", "PhysicalSizeX": 2, "PhysicalSizeY": 2, "PhysicalSizeZ": 5} | unit
    with tifffile.TiffWriter(path, ome=ome) as tiff:
        tiff.write(array, subifds=2, metadata=metadata if ome else {"axes": "ZYX"}, **settings)
        for step in (2, 4):
            tiff.write(array[:, ::step, ::step], subfiletype=1, metadata=None, **settings)
    return path


PACKED = {"compression": "zlib", "tile": (16, 16)}


@pytest.mark.parametrize("settings", [{}, PACKED], ids=["plain", "tiles"])
@pytest.mark.parametrize("ending", [".ome.tif", ".tif"])
def test_a_level_of_a_pyramidal_tiff_has_its_own_voxel_size(tmp_path, settings, ending):
    array, is_ome = voxels(5, 64, 96), ending == ".ome.tif"
    path = write_pyramid(tmp_path / f"a{ending}", array, ome=is_ome, **settings)
    for level in range(3):
        image = open_image(path, level=level, voxel_um=None if is_ome else VOXEL)
        assert np.array_equal(image.read(), array[:, :: 2**level, :: 2**level])
        assert image.voxel_um == ((5, 2 * 2**level, 2 * 2**level) if is_ome else VOXEL)
        assert np.array_equal(image.read(box=np.s_[2:4, 3:9, 1:20]), image.read()[2:4, 3:9, 1:20])


def test_the_levels_of_a_tiff_are_as_wide_as_the_whole(tmp_path):
    path = write_pyramid(tmp_path / "a.ome.tif", voxels(3, 33, 50), **PACKED)
    coarse = open_image(path, level=1)
    assert coarse.shape == (1, 1, 3, 17, 25)
    assert coarse.voxel_um == pytest.approx((5, 2 * 33 / 17, 4))


@pytest.mark.parametrize("level", [-1, 3])
def test_a_level_that_is_not_there_is_refused(tmp_path, level):
    message = "The level must be one of the {} of {}, counted from 0; got {}. Level 0 is the finest."
    pyramid = write_pyramid(tmp_path / "a.ome.tif", voxels(3, 32, 48))
    with refused(message.format(3, pyramid, level)):
        open_image(pyramid, level=level)
    store = write_zarr(tmp_path / "a.zarr", voxels(1, 1, 3, 32, 48), "0.5")
    with refused(message.format(2, store, level)):
        open_image(store, level=level)


@pytest.mark.parametrize("kind", [as_plain, as_compressed, as_folder, as_npy, as_zarr_array, as_array])
def test_only_a_pyramid_has_levels(tmp_path, kind):
    what = kind(tmp_path, VOLUME)
    said = "the array" if kind is as_array else what
    with refused(f"Only a pyramid has levels; {said} holds one image, and level 1 came. Leave it out."):
        open_image(what, voxel_um=VOXEL, level=1)
    assert open_image(what, voxel_um=VOXEL, level=0).shape[2:] == VOLUME.shape, "control"


def as_pyramid(folder, array):
    return write_pyramid(folder / "a.tif", array, ome=False, compression="zlib")


def write_ome_of_several_files(folder, planes):
    """Write a stack as one OME-TIFF a plane, all with the same metadata that name the others."""
    blocks = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1">'
        f'<UUID FileName="m{z}.ome.tif">urn:uuid:{z}</UUID></TiffData>'
        for z in range(len(planes))
    )
    _, height, width = planes.shape
    for z, plane in enumerate(planes):
        described = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{z}">'
            f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
            f'SizeX="{width}" SizeY="{height}" SizeZ="{len(planes)}" SizeC="1" SizeT="1" PhysicalSizeX="2" '
            f'PhysicalSizeY="2" PhysicalSizeZ="5">'
            f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{blocks}</Pixels></Image></OME>'
        )
        settings = {"metadata": None, "compression": "zlib", "description": described.encode()}
        tifffile.imwrite(folder / f"m{z}.ome.tif", plane, **settings)


def test_an_ome_tiff_may_lie_in_several_files(tmp_path):
    write_ome_of_several_files(tmp_path, VOLUME[:4])
    image = open_image(tmp_path / "m0.ome.tif")
    assert image.voxel_um == VOXEL
    assert np.array_equal(image.read(), VOLUME[:4])
    (tmp_path / "m2.ome.tif").unlink()
    first = tmp_path / "m0.ome.tif"
    with refused(f"A TIFF must be whole; {first} holds 3 of 4 planes. Copy or save it again."):
        open_image(first)


# --- voxel size ------------------------------------------------------------


def ome(path, unit, sides):
    sizes = {f"PhysicalSize{side.upper()}": um for side, um in sides.items()}
    units = {f"PhysicalSize{side.upper()}Unit": unit for side in sides} if unit else {}
    tifffile.imwrite(path, VOLUME, metadata={"axes": "ZYX"} | sizes | units, ome=True)


@pytest.mark.parametrize(("unit", "factor"), [(None, 1), ("µm", 1), ("nm", 1000), ("mm", 0.001)])
def test_the_voxel_size_of_an_ome_tiff_is_converted_to_um(tmp_path, unit, factor):
    ome(tmp_path / "a.ome.tif", unit, {"z": 5 * factor, "y": 2 * factor, "x": 1.5 * factor})
    assert open_image(tmp_path / "a.ome.tif").voxel_um == pytest.approx((5, 2, 1.5))


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("micron", 1), ("um", 1), ("µm", 1), ("\\u00B5m", 1), ("μm", 1), ("nm", 1000), ("mm", 0.001)],
)
def test_the_voxel_size_of_an_imagej_tiff_is_converted_to_um(tmp_path, unit, factor):
    tifffile.imwrite(
        tmp_path / "a.tif",
        VOLUME,
        imagej=True,
        resolution=(1 / (1.5 * factor), 1 / (2 * factor)),
        metadata={
            "axes": "ZYX",
            "spacing": 5 * factor,
            "unit": unit.replace("µ", "\\u00B5").replace("μ", "\\u03BC"),
        },
    )
    assert open_image(tmp_path / "a.tif").voxel_um == pytest.approx((5, 2, 1.5), rel=1e-5)


def test_a_given_voxel_size_counts_more_than_the_metadata(tmp_path):
    ome(tmp_path / "a.ome.tif", "µm", {"z": 5, "y": 2, "x": 2})
    assert open_image(tmp_path / "a.ome.tif").voxel_um == (5, 2, 2), "control"
    assert open_image(tmp_path / "a.ome.tif", voxel_um=(4, 1, 1)).voxel_um == (4, 1, 1)


def test_a_single_plane_needs_no_depth(tmp_path):
    metadata = {"axes": "YX", "PhysicalSizeX": 0.65, "PhysicalSizeY": 0.65}
    tifffile.imwrite(tmp_path / "slice.ome.tif", VOLUME[0], metadata=metadata, ome=True)
    assert open_image(tmp_path / "slice.ome.tif").voxel_um == pytest.approx((0.65, 0.65, 0.65))


def refused(message, error=ValueError):
    return pytest.raises(error, match=f"^{re.escape(message)}$")


def test_an_unknown_voxel_size_is_never_guessed(tmp_path):
    plain = as_plain(tmp_path, VOLUME)
    rule = "The voxel size must be known; the metadata of {} do not say it along {}. "
    rule += "Give it in µm: `voxel_um=(z, y, x)`."
    with refused(rule.format(plain, "z, y, x")):
        open_image(plain)
    ome(tmp_path / "b.ome.tif", None, {"y": 2, "x": 2})
    with refused(rule.format(tmp_path / "b.ome.tif", "z")):
        open_image(tmp_path / "b.ome.tif")
    ome(tmp_path / "c.ome.tif", "pixel", {"z": 1, "y": 1, "x": 1})
    with refused(rule.format(tmp_path / "c.ome.tif", "z, y, x")):
        open_image(tmp_path / "c.ome.tif")
    path = write_zarr(tmp_path / "d.zarr", voxels(1, 1, 4, 16, 16), "0.4", unit=None)
    with refused(rule.format(path, "z, y, x")):
        open_image(path)
    with refused(rule.format("the array", "z, y, x")):
        open_image(VOLUME)


@pytest.mark.parametrize(
    "voxel", [(0, 2, 2), (5, -2, 2), (5, 2, float("nan")), (5, 2), "wide", 2, (5, 2, None)]
)
def test_a_voxel_size_that_cannot_be_is_refused(voxel):
    message = f"The voxel size must be three lengths above zero, z, y, x in µm; got {voxel}. "
    with refused(message + "Give it: `voxel_um=(5, 2, 2)`."):
        open_image(VOLUME, voxel_um=voxel)


def test_channels_that_disagree_about_the_voxel_size_are_refused(tmp_path):
    ome(tmp_path / "a.ome.tif", "µm", {"z": 5, "y": 2, "x": 2})
    ome(tmp_path / "b.ome.tif", "µm", {"z": 4, "y": 2, "x": 2})
    both = [tmp_path / "a.ome.tif", tmp_path / "b.ome.tif"]
    with refused(
        f"The channels of an image must have one voxel size; along z {both[1]} has 4 µm, another 5 µm. "
        "Say which holds: `voxel_um=(z, y, x)`."
    ):
        open_image(both, roles=("signal", "background"))
    assert open_image(both, roles=("signal", "background"), voxel_um=(4, 2, 2)).voxel_um == (4, 2, 2)


# --- laziness and threads ------------------------------------------------------------


@pytest.mark.parametrize("kind", [as_plain, as_compressed, as_npy, as_folder, as_zarr_array])
def test_a_block_is_read_and_not_the_file(tmp_path, kind):
    deep = np.zeros((200, 200, 200), dtype=np.uint16)
    path = kind(tmp_path, deep)
    open_image(path, voxel_um=VOXEL).read(box=np.s_[0:1, 0:9, 0:9])
    tracemalloc.start()
    image = open_image(path, voxel_um=VOXEL)
    block = image.read(box=np.s_[90:100, 0:200, 0:200])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert block.nbytes == deep.nbytes / 20
    assert peak < deep.nbytes / 4


def test_decoded_planes_are_kept_up_to_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr("cellkit.pixels.planes.KEPT_BYTES", 3 * VOLUME[0].nbytes)
    image = open_image(as_compressed(tmp_path, VOLUME), voxel_um=VOXEL)
    decoded, decode = [], Planes._decoded

    def counted(self, number, which, file):
        decoded.append(number)
        return decode(self, number, which, file)

    monkeypatch.setattr(Planes, "_decoded", counted)
    for z in (0, 1, 2, 1, 3, 1, 0):
        plane = image.read(box=np.s_[z : z + 1, 0:45, 0:70])
        assert np.array_equal(plane, VOLUME[z : z + 1])
    assert decoded == [0, 1, 2, 3, 0]


@pytest.mark.parametrize("kind", [as_compressed, as_tiles, as_folder, as_plain, as_zarr_array])
def test_blocks_may_be_read_from_several_threads(tmp_path, kind):
    image = open_image(kind(tmp_path, VOLUME), voxel_um=VOXEL)
    boxes = [np.s_[z : z + 3, y : y + 20, 0:70] for z in range(9) for y in (0, 11, 25)] * 4
    with ThreadPoolExecutor(4) as threads:
        for box, block in zip(boxes, threads.map(lambda box: image.read(box=box), boxes), strict=True):
            assert np.array_equal(block, VOLUME[box])


def test_what_is_read_can_be_changed_without_changing_the_image():
    array = VOLUME.copy()
    image = open_image(array, voxel_um=VOXEL)
    image.read()[:] = 0
    assert np.array_equal(array, VOLUME)


def test_an_array_that_maps_a_file_for_writing_keeps_what_was_written(tmp_path):
    np.save(tmp_path / "a.npy", VOLUME)
    changed = np.load(tmp_path / "a.npy", mmap_mode="c")
    changed[3] = 7
    image = open_image(changed, voxel_um=VOXEL)
    image.read()
    assert (changed[3] == 7).all() and (image.read()[3] == 7).all()


def test_no_file_stays_open(tmp_path):
    path = as_compressed(tmp_path, VOLUME)
    image = open_image(path, voxel_um=VOXEL)
    image.read()
    path.rename(tmp_path / "moved.tif")
    tifffile.imwrite(path, np.zeros_like(VOLUME))
    assert open_image(path, voxel_um=VOXEL).read().max() == 0


# --- other processes ------------------------------------------------------------


def as_fortran_npy(folder, array):
    np.save(folder / "a.npy", np.asfortranarray(array))
    return folder / "a.npy"


@pytest.mark.parametrize("kind", [*KINDS, as_fortran_npy])
def test_an_image_can_be_sent_to_another_process(tmp_path, kind):
    image = open_image(kind(tmp_path, VOLUME), voxel_um=VOXEL, name="brain")
    image.read(box=np.s_[0:2, 0:45, 0:70])
    sent = pickle.dumps(image)
    assert kind is as_array or len(sent) < VOLUME.nbytes / 10, "the way to the voxels, not the voxels"
    again = pickle.loads(sent)
    assert (again.name, again.voxel_um, again.roles, again.chunk) == (
        "brain",
        VOXEL,
        ("signal",),
        image.chunk,
    )
    assert np.array_equal(again.read(box=np.s_[3:9, 5:38, 15:33]), VOLUME[3:9, 5:38, 15:33])


def test_a_level_of_a_pyramid_in_several_channels_can_be_sent(tmp_path):
    paths = [write_pyramid(tmp_path / f"{n}.ome.tif", voxels(5, 64, 96, seed=n), **PACKED) for n in (1, 2)]
    image = open_image(paths, roles=("background", "signal"), level=2)
    again = pickle.loads(pickle.dumps(image))
    assert np.array_equal(again.read(), voxels(5, 64, 96, seed=2)[:, ::4, ::4])


def read_there(image, z):
    return image.read(box=np.s_[z : z + 1, 0:45, 0:70])


@pytest.mark.parametrize("kind", [as_compressed, as_npy, as_zarr_array])
def test_another_process_reads_the_same_voxels(tmp_path, kind):
    image = open_image(kind(tmp_path, VOLUME), voxel_um=VOXEL)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
        planes = list(other.map(read_there, [image] * 3, (0, 5, 11)))
    assert np.array_equal(np.concatenate(planes), VOLUME[[0, 5, 11]])


def test_an_image_that_was_moved_before_it_arrived_is_refused(tmp_path):
    mapped = pickle.dumps(open_image(as_npy(tmp_path, VOLUME), voxel_um=VOXEL))
    (tmp_path / "a.npy").unlink()
    with refused(
        f"An image must be there to be read; {tmp_path / 'a.npy'} is not. Was it moved?", FileNotFoundError
    ):
        pickle.loads(mapped)
    packed = pickle.dumps(open_image(as_compressed(tmp_path, VOLUME), voxel_um=VOXEL))
    (tmp_path / "a.tif").unlink()
    with pytest.raises(
        ValueError,
        match=r"^An image's voxels must be readable; a cannot be read at .*: FileNotFoundError .*$",
    ):
        pickle.loads(packed).read()


# --- bad input ------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path):
    with refused(
        f"An image must be there to be opened; {tmp_path / 'no.tif'} is not. Is the path right?",
        FileNotFoundError,
    ):
        open_image(tmp_path / "no.tif", voxel_um=VOXEL)


def test_an_empty_file_is_refused(tmp_path):
    for name in ("a.tif", "a.npy"):
        (tmp_path / name).write_bytes(b"")
    with refused(f"A TIFF must hold an image; {tmp_path / 'a.tif'} is empty (0 bytes). Copy it again."):
        open_image(tmp_path / "a.tif", voxel_um=VOXEL)
    with pytest.raises(
        ValueError, match=r"^A \.npy must hold one whole array; .*a\.npy cannot be read: .*\. Save it"
    ):
        open_image(tmp_path / "a.npy", voxel_um=VOXEL)


def test_what_is_not_an_image_is_refused(tmp_path):
    (tmp_path / "a.tif").write_text("PK, or anything else")
    with refused(f"An image with this ending must be a TIFF; {tmp_path / 'a.tif'} is not. Save it as TIFF."):
        open_image(tmp_path / "a.tif", voxel_um=VOXEL)
    (tmp_path / "a.nd2").write_text("")
    with refused(
        "An image must be a TIFF, a folder of TIFF planes, an OME-Zarr or a .npy; "
        f"got {tmp_path / 'a.nd2'}. Export it as OME-TIFF."
    ):
        open_image(tmp_path / "a.nd2", voxel_um=VOXEL)
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(
        ValueError, match=r"^A \.npy must hold one whole array; .* cannot be read: .*\. Save it again\.$"
    ):
        open_image(tmp_path / "a.npy", voxel_um=VOXEL)


@pytest.mark.parametrize("kind", [as_plain, as_compressed, as_ome, as_strips, as_imagej, as_npy])
@pytest.mark.parametrize("kept", [0.001, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused_when_opened(tmp_path, kind, kept, capfd, caplog):
    path = kind(tmp_path, VOLUME)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ValueError, match=r"^A (TIFF|\.npy) must [^\n]+\. (Copy|Save) [^\n]+\.$"):
        open_image(path, voxel_um=VOXEL)
    assert not caplog.records
    assert capfd.readouterr() == ("", ""), "the error is one line, and nothing is printed beside it"


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([as_plain, as_compressed, as_ome, as_imagej, as_tiles, as_pyramid]),
    st.floats(0, 1, exclude_max=True),
)
def test_no_truncated_tiff_gives_fewer_or_other_voxels(tmp_path_factory, kind, kept):
    folder = tmp_path_factory.mktemp("cut")
    path = kind(folder, VOLUME[:5])
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    try:
        image = open_image(path, voxel_um=VOXEL)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert np.array_equal(image.read(), VOLUME[:5]), "only what follows the voxels may be missing"


def test_damaged_voxels_are_refused_when_they_are_read(tmp_path):
    path = as_compressed(tmp_path, VOLUME)
    whole = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        start = tiff.pages[4].dataoffsets[0]
    whole[start : start + 200] = bytes(200)
    path.write_bytes(whole)
    image = open_image(path, voxel_um=VOXEL)
    assert np.array_equal(image.read(box=np.s_[0:4, 0:45, 0:70]), VOLUME[:4]), "control: the planes before"
    with pytest.raises(
        ValueError,
        match=r"^An image's voxels must be readable; a cannot be read at 4:5, 0:45, 0:70: [^\n]+\. "
        r"The file may be damaged: copy it again\.$",
    ):
        image.read(box=np.s_[4:5, 0:45, 0:70])


def test_colour_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 30, 3), "uint8"), photometric="rgb")
    with refused(
        f"An image must be in grey values, one number a voxel; {tmp_path / 'a.tif'} is in colour "
        "(RGB, 3 numbers a voxel). Split it into its channels."
    ):
        open_image(tmp_path / "a.tif", voxel_um=VOXEL)


def test_images_that_differ_in_one_file_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(VOLUME[0])
        tiff.write(VOLUME[0, :20])
    with refused(
        "A TIFF must hold one image, or planes of one shape and type; "
        f"{tmp_path / 'a.tif'} holds 2: (45, 70), (20, 70). Save the one you want as a file of its own."
    ):
        open_image(tmp_path / "a.tif", voxel_um=VOXEL)


def test_axes_that_are_not_named_or_do_not_fit_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", voxels(2, 3, 20, 30), photometric="minisblack")
    with refused(
        f"An image must name its axes unless they are (y, x) or (z, y, x); {tmp_path / 'a.tif'} has 4 axes "
        "of length (2, 3, 20, 30), known as '??yx'. Name them: `axes=\"tzyx\"`."
    ):
        open_image(tmp_path / "a.tif", voxel_um=VOXEL)
    assert open_image(tmp_path / "a.tif", voxel_um=VOXEL, axes="tzyx").shape == (2, 1, 3, 20, 30), "control"
    for axes in ("zyx", "tzzx", "tzyq", "tcz?", "TZYX"):
        with refused(
            "`axes` must name each axis of an image once, by t, c, z, y or x, with y and x; "
            f"{tmp_path / 'a.tif'} has 4 axes of length (2, 3, 20, 30), got {axes!r}. Mend `axes`."
        ):
            open_image(tmp_path / "a.tif", voxel_um=VOXEL, axes=axes)
    with refused(
        "An image must be a path, or an array of 2 to 5 axes; got an array of shape (9,). "
        "Of nested lists make an array: `np.asarray(them)`."
    ):
        open_image(np.zeros(9, "uint8"), voxel_um=VOXEL)


def test_planes_of_different_shape_or_type_in_a_folder_are_refused(tmp_path):
    for name, plane in [
        ("p1.tif", VOLUME[0]),
        ("p2.tif", VOLUME[0, :20]),
        ("p3.tif", VOLUME[0].astype("uint8")),
    ]:
        tifffile.imwrite(tmp_path / name, plane)
    rule = "The planes of a folder must have one shape and type; p1.tif has (45, 70) uint16, "
    mend = "Take out what does not belong, or save the planes again."
    with refused(f"{rule}p2.tif has (20, 70) uint16. {mend}"):
        open_image(tmp_path, voxel_um=VOXEL)
    (tmp_path / "p2.tif").unlink()
    with refused(f"{rule}p3.tif has (45, 70) uint8. {mend}"):
        open_image(tmp_path, voxel_um=VOXEL)
    tifffile.imwrite(tmp_path / "p3.tif", VOLUME)
    with refused(
        f"In a folder of planes each TIFF must hold one plane; {tmp_path / 'p3.tif'} holds 12. "
        "Give that file itself, or take it out of the folder."
    ):
        open_image(tmp_path, voxel_um=VOXEL)


def test_a_folder_without_planes_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with refused(
        f"A folder of planes must hold TIFFs, and an OME-Zarr its metadata; {tmp_path} holds neither. "
        "Is it the right folder?"
    ):
        open_image(tmp_path, voxel_um=VOXEL)


def test_an_ome_zarr_that_is_not_whole_is_refused(tmp_path):
    path = write_zarr(tmp_path / "a.zarr", voxels(1, 1, 4, 16, 16), "0.5")
    described = json.loads((path / "zarr.json").read_text())
    described["attributes"]["ome"]["multiscales"][0]["datasets"][1]["path"] = "away"
    (path / "zarr.json").write_text(json.dumps(described))
    with refused(
        f"An OME-Zarr must hold the levels that it lists; {path} lists 'away' and holds no such array. "
        "Copy it again."
    ):
        open_image(path, level=1)
    del described["attributes"]["ome"]
    (path / "zarr.json").write_text(json.dumps(described))
    with refused(
        f"An OME-Zarr must have `multiscales` in its attributes; {path} has none. "
        "Give the image inside it; it holds 0, 1."
    ):
        open_image(path)
    (path / "zarr.json").write_text("{")
    with refused(f"An OME-Zarr must be whole; {path} cannot be read: JSONDecodeError. Copy it again."):
        open_image(path)


@pytest.mark.parametrize("dtype", ["int64", "float64", "uint32", "bool", "complex64"])
def test_an_unsupported_type_is_refused(dtype):
    with refused(
        f"An image must be of type uint8, int8, uint16, int16 or float32; the array is {dtype}. "
        "Convert it: `array.astype('float32')`, or 'uint16' where it holds whole numbers."
    ):
        open_image(VOLUME.astype(dtype), voxel_um=VOXEL)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_nan_is_refused_where_it_is_read(wrong):
    array = VOLUME.astype("float32")
    array[5, 20, 30] = wrong
    image = open_image(array, voxel_um=VOXEL, name="brain")
    assert image.read(box=np.s_[6:8, 0:9, 0:9]).shape == (2, 9, 9), "control: another block"
    with refused(
        "An image must hold finite numbers; the signal of brain is NaN or infinite at (z, y, x) = "
        "(5, 20, 30), frame 0. Replace such voxels before opening it."
    ):
        image.read(box=np.s_[4:8, 10:40, 10:40])


def test_channels_of_different_shapes_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", VOLUME)
    tifffile.imwrite(tmp_path / "b.tif", VOLUME[:5])
    paths = [tmp_path / "a.tif", tmp_path / "b.tif"]
    with refused(
        f"The channels of an image must have one shape (t, z, y, x); {paths[0]} has (1, 12, 45, 70), "
        f"{paths[1]} has (1, 5, 45, 70). Are they of one brain?"
    ):
        open_image(paths, voxel_um=VOXEL, roles=("signal", "background"))


def test_roles_are_never_guessed():
    with refused(
        "An image of several channels needs their roles; the array has 2 channels. "
        'Give them: `roles=("signal", "background")`.'
    ):
        open_image([VOLUME, VOLUME], voxel_um=VOXEL)
    for roles, came in [
        (("signal",), "signal"),
        (("signal", "signal"), "signal, signal"),
        (("background", "none"), "background, none"),
        (("signal", "red"), "signal, red"),
        ((), "nothing"),
    ]:
        with refused(
            "`roles` must say of each channel whether it is signal (exactly one), background (at most one) "
            f"or none; got {came} for 2 channels. Give one a channel."
        ):
            open_image([VOLUME, VOLUME], voxel_um=VOXEL, roles=roles)


def test_an_image_without_voxels_and_no_image_are_refused():
    with refused("An image must hold voxels; the array has shape (1, 1, 0, 45, 70). Is it the right one?"):
        open_image(VOLUME[:0], voxel_um=VOXEL)
    with refused("An image needs at least one path or array; got an empty list. Give its path."):
        open_image([], voxel_um=VOXEL)


def test_a_block_role_or_frame_outside_the_image_is_refused():
    image = open_image(VOLUME, voxel_um=VOXEL, name="brain")
    for box, said in [
        (np.s_[0:13, 0:9, 0:9], "0:13, 0:9, 0:9"),
        (np.s_[-1:3, 0:9, 0:9], "-1:3, 0:9, 0:9"),
        (np.s_[3:3, 0:9, 0:9], "3:3, 0:9, 0:9"),
    ]:
        with refused(
            "A block must lie inside the image, with at least one voxel; brain is (12, 45, 70) (z, y, x), "
            f"got {said}. Cut it at the border."
        ):
            image.read(box=box)
    with refused(
        "The role must be one of the image's; brain has signal, got 'background'. Open it with `roles=...`."
    ):
        image.read("background")
    with refused(
        "The frame must be one of the image's 1, counted from 0; of brain came frame 1. Mend the frame."
    ):
        image.read(frame=1)


@pytest.mark.real
def test_real_volumes_open_and_read(real_data):
    folder = real_data / "two_channel_brain"
    image = open_image(
        [folder / "signal.tif", folder / "background.tif"], voxel_um=VOXEL, roles=("signal", "background")
    )
    assert image.shape == (1, 2, 30, 510, 667)
    box = np.s_[3:9, 100:200, 300:400]
    assert np.array_equal(image.read("background", box=box), tifffile.imread(folder / "background.tif")[box])
