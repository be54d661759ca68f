"""SA-1B as TensorFlow Datasets stores it (`segment_anything`), read without TensorFlow."""

import operator
import pathlib
from typing import Any, SupportsIndex

import tqdm

from uniovseg_jax.data.array_record_file import count_records
from uniovseg_jax.data.records import MaskRecord
from uniovseg_jax.data.tfds_source import open_tfds_source

# By this file one knows a folder of tfds.
TFDS_FILE = "dataset_info.json"
_SPLIT = "train"


class TfdsMasks:
    """Records of a tfds folder in its order, in the form of `records`; images stay encoded."""

    def __init__(self, source: Any, shards: dict[pathlib.Path, int]):
        """Takes a tfds data source, and the records that each of its files should hold."""
        self._source = source
        self._shards = shards

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: SupportsIndex) -> MaskRecord:
        """Reads a record.

        Raises:
          IndexError: If the index is negative or too large.
          ValueError: If masks and image differ in size.
        """
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"Index {index} lies outside the {len(self)} records.")
        example = self._source[index]
        image, annotations = example["image"], example["annotations"]
        size = [int(image["height"]), int(image["width"])]
        segments = annotations["segmentation"]
        if any([int(n) for n in mask_size] != size for mask_size in segments["size"]):
            raise ValueError(f"Record {index} has masks of another size than its image {size}.")
        masks = [
            {
                "size": list(size),
                "counts": bytes(counts),
                "predicted_iou": float(iou),
                "stability": float(stability),
            }
            for counts, iou, stability in zip(
                segments["counts"],
                annotations["predicted_iou"],
                annotations["stability_score"],
                strict=True,
            )
        ]
        return {
            "id": str(int(image["image_id"])),
            "image": bytes(image["content"]),
            "height": size[0],
            "width": size[1],
            "masks": masks,
        }

    def verify(self, process: int = 0, num_processes: int = 1) -> None:
        """Counts the records of every shard; tfds keeps no digests to compare with.

        Args:
          process: Of several that verify together: this one takes every `num_processes`-th shard.
          num_processes: How many there are.

        Raises:
          ValueError: If a shard is missing, unreadable or cut off; names it.
        """
        shards = list(self._shards.items())[process::num_processes]
        for path, expected in tqdm.tqdm(shards, "verifying shards", unit="shard", delay=2):
            if not path.is_file():
                raise ValueError(f"{path} is missing.")
            try:
                found = count_records(path)
            except RuntimeError as error:
                raise ValueError(f"{path} is no readable array_record file: {error}.") from error
            if found != expected:
                raise ValueError(f"{path} holds {found} records, tfds noted {expected}.")


def open_tfds_masks(directory: pathlib.Path) -> TfdsMasks:
    """Opens a prepared `segment_anything` folder, the one that holds `dataset_info.json`.

    Raises:
      ValueError: If it holds other features, has no split `train`, or is not in array_record.
    """
    import tensorflow_datasets as tfds

    # A record holds a hundred times more masks than are used; nothing is decoded before a choice.
    decoders = {"image": {"content": tfds.decode.SkipDecoding()}}
    features = ("annotations", "image")
    source, split = open_tfds_source(directory, "segment_anything", features, _SPLIT, decoders)
    files = [pathlib.Path(str(path)) for path in split.filepaths]
    return TfdsMasks(source, dict(zip(files, split.shard_lengths, strict=True)))
