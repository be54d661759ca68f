"""Plain folders: label maps become the regions that a flood fill finds."""

import collections
import hashlib
import os

import numpy as np
import pytest
from mask_files import (
    HW,
    blob,
    encode,
    make_record,
    picture,
    run,
    sa1b_json,
    skipped_names,
    write_json,
)
from PIL import Image
from scipy import ndimage

from uniovseg_jax.data.mask_records import open_mask_records
from uniovseg_jax.data.mask_sources.folder import FolderMasks, number_regions
from uniovseg_jax.data.mask_sources.sampling import Sample
from uniovseg_jax.masks import rle_decode, rle_encode


def flood_fill(labels):
    """Sets of pixels that belong together, by label and position of their first pixel."""
    free = {(y, x): int(label) for (y, x), label in np.ndenumerate(labels)}
    regions = []
    for start in sorted(free, key=lambda pixel: (labels[pixel], pixel)):
        if start not in free:
            continue
        label, region = free.pop(start), {start}
        queue = collections.deque([start])
        while queue:
            y, x = queue.popleft()
            for pixel in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if free.get(pixel) == label:
                    del free[pixel]
                    region.add(pixel)
                    queue.append(pixel)
        regions.append((label, region))
    return regions


def make_source(folder, void_labels=(), min_area=0.0, sample=None):
    images, masks = folder / "images", folder / "masks"
    return FolderMasks(images, masks, sample or Sample(), void_labels, min_area)


def write_folder(folder, labels, kind="PNG"):
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rng = np.random.default_rng(0)
    for stem, array in labels.items():
        (folder / "images" / f"{stem}.jpg").write_bytes(picture(rng, array.shape[:2]))
        (folder / "masks" / f"{stem}.png").write_bytes(encode(array, kind))
    return folder


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("min_area", [0.0, 0.02, 3.0])
def test_regions_are_those_of_a_flood_fill(seed, min_area):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (13, 11)).astype(np.uint8)
    if seed % 2:
        labels = np.kron(labels, np.ones((3, 2), np.uint8))
    least = min_area if min_area >= 1 else min_area * labels.size
    fills = [region for label, region in flood_fill(labels) if label != 2]
    expected = [region for region in fills if len(region) >= least]
    regions, num_regions, num_small = number_regions(labels, (2, 9), min_area)
    assert num_regions == regions.max(initial=0) == len(expected)
    assert num_small == len(fills) - len(expected)
    for number, region in enumerate(expected, start=1):
        assert set(zip(*np.nonzero(regions == number), strict=True)) == region


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_folder_becomes_records_in_the_order_of_the_stems(tmp_path, dtype):
    labels = np.zeros(HW, dtype)
    labels[3:7, 2:9], labels[9:, 12:] = 11, 200
    folder = write_folder(tmp_path / "in", {"b": labels, "a": labels[:, ::-1].copy()})
    manifest = run(make_source(folder, (11,), 0.1), tmp_path / "out")
    records = open_mask_records(tmp_path / "out")
    assert [records[index]["id"] for index in range(2)] == ["a", "b"]
    assert records[1]["image"] == (folder / "images" / "b.jpg").read_bytes()
    (mask,) = records[1]["masks"]
    np.testing.assert_array_equal(rle_decode(mask), labels == 0)
    assert manifest.dropped_masks == {"small": 2}
    assert manifest.source == {"layout": "folder", "void_labels": [11], "min_area": 0.1}


def test_a_palette_map_is_read_by_its_indices(tmp_path):
    labels = np.zeros(HW, np.uint8)
    labels[:, 8:] = 1
    folder = write_folder(tmp_path / "in", {"a": labels})
    image = Image.fromarray(labels, mode="P")
    image.putpalette([255, 0, 0] * 256)
    image.save(folder / "masks" / "a.png")
    assert run(make_source(folder), tmp_path / "out").num_masks == 2


def test_json_masks_come_as_a_list_or_as_sa1b_has_them(tmp_path):
    record = make_record(0)
    folder = write_folder(tmp_path / "in", {})
    for stem in "ab":
        (folder / "images" / f"{stem}.jpg").write_bytes(record["image"])
    masks = [blob(np.random.default_rng(0)) for _ in range(2)]
    write_json(folder / "masks" / "a.json", [rle_encode(mask) for mask in masks])
    write_json(folder / "masks" / "b.json", sa1b_json(record))
    run(make_source(folder), tmp_path / "out")
    records = open_mask_records(tmp_path / "out")
    np.testing.assert_array_equal([rle_decode(mask) for mask in records[0]["masks"]], masks)
    assert records[1]["masks"] == record["masks"]


def test_what_does_not_fit_is_skipped_by_name(tmp_path):
    labels = np.zeros(HW, np.uint8)
    folder = write_folder(tmp_path / "in", {stem: labels for stem in "abcdefgh"})
    masks = folder / "masks"
    (masks / "a.png").unlink()
    (folder / "images" / "b.jpg").unlink()
    (masks / "c.png").write_bytes(encode(np.zeros((*HW, 3), np.uint8), "PNG"))
    (masks / "d.png").write_bytes(encode(labels, "JPEG"))
    (masks / "e.png").write_bytes(encode(labels.T.copy(), "PNG"))
    (masks / "f.png").unlink()
    write_json(masks / "f.json", [{"size": "x"}])
    (folder / "images" / "g.jpg").write_bytes(b"<html></html>")
    manifest = run(make_source(folder), tmp_path / "out", max_skipped=1.0)
    assert manifest.num_records == 1
    assert [(e["name"], e["reason"]) for e in skipped_names(tmp_path / "out")] == [
        ("'a'", "no annotation"),
        ("'b'", "no image"),
        ("'c.jpg'", "bad annotation"),
        ("'d.jpg'", "bad annotation"),
        ("'e.jpg'", "other size"),
        ("'f.jpg'", "bad annotation"),
        ("'g.jpg'", "bad image"),
    ]


@pytest.mark.parametrize("share", [0.4, 1.0])
def test_a_file_name_that_is_not_utf8_costs_that_file_only(tmp_path, share):
    labels = np.zeros(HW, np.uint8)
    folder = write_folder(tmp_path / "in", {"caf\udce9": labels, "a": labels})
    assert b"caf\xe9.jpg" in os.listdir(os.fsencode(folder / "images"))
    source = make_source(folder, sample=Sample(share=share, seed=5))
    assert run(source, tmp_path / "out", max_skipped=1.0).num_records == 1
    entries = [(e["name"], e["reason"]) for e in skipped_names(tmp_path / "out")]
    # It is sampled by its bytes, as sha1sum sees them.
    kept = int(hashlib.sha1(b"5:caf\xe9").hexdigest(), 16) % 10_000 < 10_000 * share
    assert kept == (share == 1.0)
    assert entries == [(r"'caf\udce9'", "bad name")] * kept


def test_noise_is_no_label_map(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (150, 150), np.uint8)
    folder = write_folder(tmp_path / "in", {"a": noise})
    run(make_source(write_folder(tmp_path / "in2", {"a": noise}), min_area=2.0), tmp_path / "out")
    with pytest.raises(ValueError, match="1 of 1 records were skipped"):
        run(make_source(folder), tmp_path / "out2")
    assert "a.png has more than 10000 regions" in skipped_names(tmp_path / "out2")[0]["detail"]


def test_too_many_labels_are_refused_before_any_is_looked_at(monkeypatch):
    labels = np.arange(10_300, dtype=np.uint16).reshape(103, 100)
    assert number_regions(labels, tuple(range(300)), 0.0)[1] == 10_000
    monkeypatch.setattr(ndimage, "label", None)
    with pytest.raises(ValueError, match="10001 labels, expected at most 10000"):
        number_regions(labels, tuple(range(299)), 1e9)


def test_only_the_box_of_a_label_is_labelled(monkeypatch):
    labels = np.zeros((50, 60), np.uint8)
    labels[4:9, 7:13] = 255
    sizes, label = [], ndimage.label
    monkeypatch.setattr(
        ndimage, "label", lambda mask, *rest: sizes.append(mask.shape) or label(mask, *rest)
    )
    regions, num_regions, _ = number_regions(labels, (), 0.0)
    assert sizes == [(50, 60), (5, 6)] and num_regions == 2
    np.testing.assert_array_equal(regions, 1 + (labels == 255))


def test_folders_that_cannot_be_paired_are_refused(tmp_path):
    labels = np.zeros(HW, np.uint8)
    folder = write_folder(tmp_path / "in", {"a": labels})
    (folder / "masks" / "a.json").write_text("[]")
    with pytest.raises(ValueError, match=r"holds a\.json and a\.png: one stem, two files"):
        make_source(folder)
    (folder / "masks" / "a.json").unlink()
    (folder / "images" / "a.jpg").rename(folder / "a.jpg")
    (folder / "images" / "train").mkdir()
    with pytest.raises(ValueError, match="name one of its folders, such as train"):
        make_source(folder)
    with pytest.raises(FileNotFoundError, match="no folder"):
        make_source(tmp_path)
    for void_labels, min_area in [((-1,), 0.0), ((), -1.0), ((), float("nan"))]:
        with pytest.raises(ValueError, match="must"):
            make_source(folder, void_labels, min_area)


def test_photographs_of_camvid(shared_dir, tmp_path):
    source = shared_dir / "data" / "camvid"
    sample = Sample(share=0.05)
    images, masks = source / "images" / "val", source / "masks" / "val"
    manifest = run(FolderMasks(images, masks, sample, (11,), 0.001), tmp_path / "out")
    records = open_mask_records(tmp_path / "out")
    assert 0 < len(records) < 15 and manifest.skipped == {}
    for record in (records[index] for index in range(len(records))):
        assert record["image"] == (images / f"{record['id']}.jpg").read_bytes()
        labels = np.asarray(Image.open(masks / f"{record['id']}.png"))
        covered = np.zeros(labels.shape, int)
        for mask in map(rle_decode, record["masks"]):
            (label,) = np.unique(labels[mask])
            assert label != 11 and mask.sum() >= 0.001 * labels.size
            covered += mask
        assert covered.max() == 1
