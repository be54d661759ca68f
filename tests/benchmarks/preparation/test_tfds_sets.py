"""Sets of tfds, written by builders with the published features and unpacked again."""

import json
import subprocess
import sys

import layouts
import numpy as np
import pytest
import tensorflow_datasets as tfds
from made_builder import MadeBuilder

from uniovseg_jax.benchmarks.check import check_benchmark
from uniovseg_jax.benchmarks.class_list import load_class_list
from uniovseg_jax.benchmarks.preparation.tfds_sets import unpack_cityscapes, unpack_coco
from uniovseg_jax.benchmarks.registry import open_benchmarks


class Coco(MadeBuilder):
    """The features of the published builder, on the layout that is made here."""

    VERSION = tfds.core.Version("1.1.0")
    name = "coco"
    SPLIT = "validation"

    def features(self):
        objects = {
            "id": np.int64,
            "area": np.int64,
            "bbox": tfds.features.BBoxFeature(),
            "label": tfds.features.ClassLabel(num_classes=133),
            "is_crowd": np.bool_,
        }
        return {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "image/filename": tfds.features.Text(),
            "image/id": np.int64,
            "panoptic_image": tfds.features.Image(encoding_format="png"),
            "panoptic_image/filename": tfds.features.Text(),
            "panoptic_objects": tfds.features.Sequence(objects),
        }

    def _generate_examples(self):
        folder = self.data_path.parent.parent / "coco_files" / "coco"
        document = json.loads((folder / "annotations" / "panoptic_val2017.json").read_text())
        index_of = load_class_list("coco_panoptic_133").index_of
        for image, annotation in zip(document["images"], document["annotations"], strict=True):
            yield (
                image["file_name"],
                {
                    "image": str(folder / "val2017" / image["file_name"]),
                    "image/filename": image["file_name"],
                    "image/id": image["id"],
                    "panoptic_image": str(folder / "panoptic_val2017" / annotation["file_name"]),
                    "panoptic_image/filename": annotation["file_name"],
                    "panoptic_objects": [
                        {
                            "id": info["id"],
                            "area": info["area"],
                            # 2 and 3 pixels from the corner, 5 high and 6 wide.
                            "bbox": tfds.features.BBox(2 / 8, 3 / 10, 7 / 8, 9 / 10),
                            "label": index_of[info["category_id"]],
                            "is_crowd": bool(info["iscrowd"]),
                        }
                        for info in annotation["segments_info"]
                    ],
                },
            )


class Cityscapes(MadeBuilder):
    """The features of the published builder for semantic segmentation."""

    VERSION = tfds.core.Version("1.0.0")
    name = "cityscapes"
    SPLIT = "validation"

    def features(self):
        return {
            "image_id": tfds.features.Text(),
            "image_left": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "segmentation_label": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
        }

    def _generate_examples(self):
        folder = self.data_path.parent.parent / "cityscapes_files" / "cityscapes"
        for path in folder.glob("leftImg8bit/val/*/*.png"):
            name = path.name.removesuffix("_leftImg8bit.png")
            labels = folder / "gtFine" / "val" / path.parent.name / f"{name}_gtFine_labelIds.png"
            yield (
                name,
                {"image_id": name, "image_left": str(path), "segmentation_label": str(labels)},
            )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    tfds.disable_progress_bar()
    root = tmp_path_factory.mktemp("tfds")
    (root / "coco_files").mkdir()
    layouts.make_coco(root / "coco_files")
    Coco(data_dir=str(root), file_format="array_record").download_and_prepare()
    return root / "coco" / "1.1.0", root / "coco_files"


def test_what_is_unpacked_reads_as_what_was_packed(prepared, tmp_path):
    directory, original = prepared
    unpack_coco(directory, tmp_path)
    (original / "coco" / "annotations" / "instances_val2017.json").unlink(missing_ok=True)
    ours, theirs = (open_benchmarks("coco_panoptic", root)[0] for root in (tmp_path, original))
    check_benchmark(ours)
    assert list(ours.images) == list(theirs.images) and ours.tasks == theirs.tasks
    for image_id, path in ours.images.items():
        assert path.read_bytes() == theirs.images[image_id].read_bytes()
        (ids, segments), (expected_ids, expected) = (
            benchmark.read_panoptic(image_id) for benchmark in (ours, theirs)
        )
        np.testing.assert_array_equal(ids, expected_ids)
        assert segments == expected
    document = json.loads((tmp_path / "coco/annotations/panoptic_val2017.json").read_text())
    boxes = [s["bbox"] for entry in document["annotations"] for s in entry["segments_info"]]
    assert boxes and all(box == [3, 2, 6, 5] for box in boxes)
    with pytest.raises(ValueError, match=r"panoptic_val2017\.json is there already"):
        unpack_coco(directory, tmp_path)


def test_unpacking_needs_no_tensorflow(prepared, tmp_path):
    code = (
        "import pathlib, sys\n"
        "from uniovseg_jax.benchmarks.preparation.tfds_sets import unpack_coco\n"
        "unpack_coco(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(prepared[0]), str(tmp_path)]
    subprocess.run(command, check=True, timeout=120)


def test_other_splits_are_refused(prepared, tmp_path):
    with pytest.raises(ValueError, match="no split 'train'; is it prepared"):
        unpack_coco(prepared[0], tmp_path, "train")
    with pytest.raises(ValueError, match="no split 'test'; expected train or val"):
        unpack_coco(prepared[0], tmp_path, "test")
    assert not (tmp_path / "coco").exists()


def test_cityscapes_reads_as_what_was_packed(tmp_path):
    (tmp_path / "cityscapes_files").mkdir()
    layouts.make_cityscapes(tmp_path / "cityscapes_files")
    Cityscapes(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    directory, root = tmp_path / "cityscapes" / "1.0.0", tmp_path / "root"
    assert unpack_cityscapes(directory, root) == 3
    before = {path: path.read_bytes() for path in root.rglob("*.png")}
    assert unpack_cityscapes(directory, root) == 3
    assert {path: path.read_bytes() for path in root.rglob("*.png")} == before
    (ours,), (theirs,) = (
        open_benchmarks("cityscapes", folder) for folder in (root, tmp_path / "cityscapes_files")
    )
    check_benchmark(ours)
    assert list(ours.images) == list(theirs.images) and ours.tasks == ("semantic",)
    for image_id, path in ours.images.items():
        assert path.read_bytes() == theirs.images[image_id].read_bytes()
        np.testing.assert_array_equal(ours.read_semantic(image_id), theirs.read_semantic(image_id))
    with pytest.raises(ValueError, match="is not tfds' coco/2017_panoptic: it has no feature"):
        unpack_coco(directory, root)
