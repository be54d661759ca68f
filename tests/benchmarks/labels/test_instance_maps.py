"""Instance maps: a mask per number, at 8 and 16 bits, and per class and number."""

import numpy as np
import pytest
from label_files import write_image, write_png

from uniovseg_jax.benchmarks.labels.instance_maps import InstanceMaps
from uniovseg_jax.benchmarks.labels.paired_files import pair_files
from uniovseg_jax.masks import rle_decode


def made(folder, maps, with_classes=False):
    """Opens maps by id, written beside black images."""
    for image_id, array in maps.items():
        write_image(folder / "image" / f"{image_id}.jpg", array.shape[:2])
        write_png(folder / "map" / f"{image_id}.png", array)
    return InstanceMaps(pair_files(folder / "image", folder / "map", ".png"), with_classes)


def pixels(rles):
    """The pixels (y, x) of every mask, in the order of the masks."""
    return [set(zip(*np.nonzero(rle_decode(rle)), strict=True)) for rle in rles]


def pixels_by_number(array):
    """The same by a loop over pixels: number 0 is nothing, the others in ascending order."""
    found = {}
    for y, row in enumerate(array.tolist()):
        for x, number in enumerate(row):
            if number not in (0, (0, 0)):
                found.setdefault(number, set()).add((y, x))
    return [found[number] for number in sorted(found)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_number_is_one_mask_as_a_loop_finds_them(tmp_path, dtype):
    rng = np.random.default_rng(0)
    largest = np.iinfo(dtype).max
    numbers = np.array([0, 1, 2, 7, largest - 1, largest], dtype)
    maps = {str(n): rng.choice(numbers, size=(7, 11)) for n in range(3)}
    labels = made(tmp_path, maps)
    assert list(labels.images) == ["0", "1", "2"]
    for image_id, array in maps.items():
        assert labels.hw(image_id) == (7, 11)
        assert pixels(labels.masks(image_id)) == pixels_by_number(array)


def test_numbers_of_16_bits_stay_apart_that_8_bits_would_merge(tmp_path):
    array = np.zeros((8, 8), np.uint16)
    array[:4], array[4:] = 1, 257
    assert len(made(tmp_path, {"a": array}).masks("a")) == 2


def test_holes_stay_holes_and_parts_stay_together(tmp_path):
    array = np.full((8, 8), 5, np.uint8)
    array[2:6, 2:6] = 0
    array[3:5, 3:5] = 9
    array[0, 0] = 9
    ring, dots = (rle_decode(rle) for rle in made(tmp_path, {"a": array}).masks("a"))
    np.testing.assert_array_equal(ring, array == 5)
    np.testing.assert_array_equal(dots, array == 9)
    assert not ring[2, 2] and dots[0, 0] and dots[4, 4]


def test_an_object_with_a_class_is_a_pair_of_red_and_green(tmp_path):
    rng = np.random.default_rng(1)
    array = rng.choice(np.array([0, 1, 2, 100, 255], np.uint8), size=(19, 19, 3))
    pairs = np.empty((19, 19), object)
    for y, x in np.ndindex(19, 19):
        red, green = array[y, x, :2].tolist()
        # Neither a class without a number nor a number without a class is an object.
        pairs[y, x] = (red, green) if red and green else (0, 0)
    masks = made(tmp_path, {"a": array}, with_classes=True).masks("a")
    assert pixels(masks) == pixels_by_number(pairs)
    assert len(masks) == 16


def test_a_map_without_objects_has_no_masks(tmp_path):
    assert made(tmp_path, {"a": np.zeros((8, 8), np.uint8)}).masks("a") == ()


def test_what_is_no_map_is_one_sentence_with_the_file(tmp_path):
    colours = np.zeros((8, 8, 3), np.uint8)
    labels = made(tmp_path, {"a": np.zeros((8, 8), np.uint8), "b": colours})
    with pytest.raises(ValueError, match=r"map/b.png is no label map: expected a PNG or TIFF"):
        labels.masks("b")
    with pytest.raises(ValueError, match=r"a.png must be a PNG file of 8-bit colours"):
        InstanceMaps(pair_files(tmp_path / "image", tmp_path / "map", ".png"), True).masks("a")
    path = tmp_path / "map" / "a.png"
    path.write_bytes(path.read_bytes()[:45])
    with pytest.raises(ValueError, match=r"map/a.png cannot be read as an image"):
        labels.masks("a")
    path.unlink()
    with pytest.raises(ValueError, match=r"a.png cannot be read: No such file"):
        labels.masks("a")
    with pytest.raises(FileNotFoundError, match=r"There is no image file .*map/a.png"):
        labels.hw("a")


def test_noise_is_no_instance_map(tmp_path):
    array = np.arange(1, 10_202, dtype=np.uint16).reshape(101, 101)
    with pytest.raises(ValueError, match="holds 10201 objects, more than 10000; is it an instance"):
        made(tmp_path, {"a": array}).masks("a")
