"""The layout of tfds' `segment_anything`, written by a builder with its features."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from made_builder import MadeBuilder
from mask_files import make_record, sa1b_json

from uniovseg_jax.data.mask_records import open_mask_records
from uniovseg_jax.data.tfds import tinyscenes

NUM = 9


class SegmentAnything(MadeBuilder):
    """The features of the published builder, on records made here."""

    VERSION = tfds.core.Version("1.0.0")
    name = "segment_anything"
    SPLIT = "train"

    def features(self):
        annotation = {
            "area": tfds.features.Scalar(dtype=np.uint64),
            "bbox": tfds.features.BBoxFeature(),
            "crop_box": tfds.features.BBoxFeature(),
            "id": tfds.features.Scalar(dtype=np.uint64),
            "point_coords": tfds.features.Tensor(shape=(1, 2), dtype=np.float64),
            "predicted_iou": tfds.features.Scalar(dtype=np.float64),
            "segmentation": tfds.features.FeaturesDict(
                {
                    "counts": np.str_,
                    "size": tfds.features.Tensor(shape=(2,), dtype=np.uint64),
                }
            ),
            "stability_score": tfds.features.Scalar(dtype=np.float64),
        }
        image = {
            "content": tfds.features.Image(),
            "file_name": np.str_,
            "height": np.uint64,
            "image_id": np.uint64,
            "width": np.uint64,
        }
        return {
            "image": tfds.features.FeaturesDict(image),
            "annotations": tfds.features.Sequence(annotation),
        }

    def _generate_examples(self):
        for number in range(NUM):
            record = make_record(number, num_masks=number % 3)
            document = sa1b_json(record)
            box = tfds.features.BBox(0.0, 0.0, 1.0, 1.0)
            for annotation in document["annotations"]:
                annotation |= {"bbox": box, "crop_box": box}
            path = self.data_path.parent.parent / f"{number}.jpg"
            path.write_bytes(record["image"])
            document["image"]["content"] = str(path)
            yield number, document


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    tfds.disable_progress_bar()
    root = tmp_path_factory.mktemp("tfds")
    builder = SegmentAnything(data_dir=str(root), file_format="array_record")
    builder.download_and_prepare()
    return root / "segment_anything" / "1.0.0"


def test_its_records_are_those_of_our_shards(directory):
    records = open_mask_records(directory)
    found = {int(records[index]["id"]): records[index] for index in range(len(records))}
    expected = {number: make_record(number, number % 3) for number in range(NUM)}
    for mask in (mask for record in expected.values() for mask in record["masks"]):
        for score in ("predicted_iou", "stability"):
            mask[score] = float(np.float32(mask[score]))  # So does tfds store its float64.
    assert found == expected
    with pytest.raises(IndexError, match="Index 9 lies outside the 9 records"):
        records[NUM]
    records.verify()


def test_reading_needs_no_tensorflow(directory):
    code = (
        "import sys; from uniovseg_jax.data.mask_records import open_mask_records\n"
        "open_mask_records(sys.argv[1])[0]\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(directory)], check=True, timeout=120)


def test_a_cut_or_missing_shard_is_named(directory, tmp_path):
    (shard,) = directory.glob("*.array_record*")
    whole = shard.read_bytes()
    records = open_mask_records(directory)
    try:
        for length in (0, 100, len(whole) // 2):
            shard.write_bytes(whole[:length])
            with pytest.raises(ValueError, match=shard.name):
                records.verify()
        shard.unlink()
        with pytest.raises(ValueError, match=f"{shard.name} is missing"):
            records.verify()
    finally:
        shard.write_bytes(whole)


def test_other_data_sets_are_refused(tmp_path):
    sizes = {"image_mask": {"train": 2}}
    root = tinyscenes.prepare(tmp_path, 0, sizes=sizes, progress=False, num_workers=1)
    (info,) = root.glob("**/dataset_info.json")
    with pytest.raises(ValueError, match="it has no feature 'annotations'"):
        open_mask_records(info.parent)
