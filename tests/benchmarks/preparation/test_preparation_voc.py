"""VOC's labels with and without the background."""

import numpy as np
import pytest
from original_files import read, run, write_png, write_voc

_LABELS = np.array([[0, 1, 2, 255], [20, 0, 255, 19]])


def test_palette_indices_become_both_protocols(tmp_path):
    write_voc(tmp_path, {"2008_000001": _LABELS})
    done = run("voc", tmp_path, 1)
    assert done.images == 1
    made = tmp_path / "pascal_voc_d2"
    mode, kept = read(made / "annotations_pascal21" / "validation" / "2008_000001.png")
    assert mode == "L"
    np.testing.assert_array_equal(kept, _LABELS)
    mode, without = read(made / "annotations_pascal20" / "validation" / "2008_000001.png")
    assert mode == "L"
    np.testing.assert_array_equal(without, [[255, 0, 1, 255], [19, 255, 255, 18]])


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.array([[0, 21]], np.uint8), "x.png holds the value 21, expected 0 to 20 or 255"),
        (np.zeros((1, 2, 3), np.uint8), "expected a PNG or TIFF file of one channel"),
        (np.zeros((2, 2), np.uint8), "x.jpg has 1 x 2 pixels, its labels have 2 x 2"),
    ],
)
def test_wrong_labels_are_named(tmp_path, pixels, message):
    folder = write_voc(tmp_path, {"x": np.zeros((1, 2))})
    write_png(folder / "SegmentationClass" / "x.png", pixels)
    with pytest.raises(ValueError, match=message):
        run("voc", tmp_path, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"x\nx\n", "holds 'x', twice"),
        (b"../../x\n", "holds '../../x', which is no name of an image"),
        (b"\xff\xfe\n", "val.txt is no text"),
    ],
)
def test_wrong_lists_are_named(tmp_path, text, message):
    folder = write_voc(tmp_path, {"x": np.zeros((1, 2))})
    (folder / "ImageSets" / "Segmentation" / "val.txt").write_bytes(text)
    with pytest.raises(ValueError, match=message):
        run("voc", tmp_path, 1)


def test_blank_lines_and_line_ends_of_windows_do_not_matter(tmp_path):
    folder = write_voc(tmp_path, {"x": np.zeros((1, 2)), "y": np.zeros((1, 2))})
    (folder / "ImageSets" / "Segmentation" / "val.txt").write_bytes(b"x\r\ny\r\n\r\n")
    assert run("voc", tmp_path, 2).images == 2
