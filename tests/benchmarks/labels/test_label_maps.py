"""Label maps: values as they are stored, and every value accounted for."""

import numpy as np
import pytest
from PIL import Image
from scipy import io

from uniovseg_jax.benchmarks.labels.label_maps import LabelMaps, read_values

VALUES = np.random.default_rng(0).integers(0, 200, (5, 7))


def save(path, values, dtype, palette=None):
    image = Image.fromarray(values.astype(dtype), **({"mode": "P"} if palette else {}))
    if palette:
        image.putpalette(palette)
    image.save(path)
    return path


def one(path, index_of, void=(), **more):
    return LabelMaps({"a": path}, index_of, void, **more)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize(("dtype", "offset"), [(np.uint8, 0), (np.uint16, 0), (np.uint16, 65336)])
def test_values_are_never_scaled_or_cut(tmp_path, name, dtype, offset):
    values = VALUES + offset
    path = save(tmp_path / name, values, dtype)
    np.testing.assert_array_equal(read_values(path), values)
    assert one(path, {}).hw("a") == (5, 7)


def test_of_a_palette_the_index_counts_and_not_its_colour(tmp_path):
    # Every index has the grey of another one.
    palette = np.repeat(np.roll(np.arange(256), 1)[::-1], 3).tolist()
    path = save(tmp_path / "a.png", VALUES, np.uint8, palette)
    assert (np.asarray(Image.open(path).convert("L")) != VALUES).any()
    np.testing.assert_array_equal(read_values(path), VALUES)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_matlab_files(tmp_path, dtype):
    io.savemat(tmp_path / "a.mat", {"LabelMap": VALUES.astype(dtype), "other": np.ones(3)})
    labels = one(tmp_path / "a.mat", {int(v): int(v) for v in np.unique(VALUES)})
    np.testing.assert_array_equal(labels.read("a"), VALUES)
    assert labels.hw("a") == (5, 7)


def test_zero_is_void_where_it_says_so_and_no_class_below_the_first(tmp_path):
    # Subtracting one makes 255 of it in 8 bits and -1 in signed types; neither happens here.
    path = save(tmp_path / "a.png", np.array([[0, 1, 150]]), np.uint8)
    index_of = {value: value - 1 for value in range(1, 151)}
    assert one(path, index_of, {0}).read("a").tolist() == [[-1, 0, 149]]
    with pytest.raises(ValueError, match=r"a\.png holds the value 0, which is neither one of the"):
        one(path, index_of).read("a")
    shifted = save(tmp_path / "b.png", np.array([[255, 0, 149]]), np.uint8)
    same = {index: index for index in range(150)}
    assert one(shifted, same, {255}).read("a").tolist() == [[-1, 0, 149]]


@pytest.mark.parametrize("value", [4, 6, 255, 1000, 65535])
def test_a_value_of_no_class_is_named(tmp_path, value):
    path = save(tmp_path / "a.png", np.array([[3, 5, value]]), np.uint16)
    with pytest.raises(ValueError, match=rf"a\.png holds the value {value}, which"):
        one(path, {3: 0, 5: 1}).read("a")
    assert one(path, {3: 0, 5: 1}, {value}).read("a").tolist() == [[0, 1, -1]]


def test_eight_bits_are_refused_where_sixteen_are_expected(tmp_path):
    path = save(tmp_path / "a.tif", VALUES, np.uint8)
    labels = one(path, {value: value for value in range(847)}, {65535}, sixteen_bit=True)
    with pytest.raises(ValueError, match=r"a\.tif is TIFF of mode L; .* one channel of 16 bits"):
        labels.read("a")
    save(path, VALUES, np.uint16)
    np.testing.assert_array_equal(labels.read("a"), VALUES)


def test_other_files_are_one_sentence(tmp_path):
    grey, colour = Image.fromarray(VALUES.astype(np.uint8)), np.zeros((4, 4, 3), np.uint8)
    grey.save(tmp_path / "a.jpg")
    Image.fromarray(colour).save(tmp_path / "colour.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "colour.png").read_bytes()[:46])
    Image.fromarray(VALUES.astype(np.float32)).save(tmp_path / "float.tif")
    io.savemat(tmp_path / "float.mat", {"LabelMap": VALUES.astype(float)})
    io.savemat(tmp_path / "other.mat", {"Labels": VALUES})
    (tmp_path / "text.mat").write_text("LabelMap")
    for name, message in {
        "a.jpg": "is JPEG of mode L",
        "colour.png": "is PNG of mode RGB",
        "cut.png": "cannot be read as an image",
        "float.tif": "is TIFF of mode F",
        "float.mat": "no map of whole numbers called LabelMap",
        "other.mat": "no map of whole numbers called LabelMap",
        "text.mat": "cannot be read as a .mat file",
        "none.mat": "There is no label file",
        "none.png": "There is no label file",
    }.items():
        with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
            read_values(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
    for name in ("other.mat", "text.mat", "none.mat", "none.png"):
        with pytest.raises((ValueError, FileNotFoundError), match=name):
            one(tmp_path / name, {}).hw("a")
