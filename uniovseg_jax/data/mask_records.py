"""Image-mask records by index, from the shards of `scripts/prepare_data.py` or a tfds folder."""

import os
import pathlib

from uniovseg_jax.data.manifest import read_manifest
from uniovseg_jax.data.records import decode_record
from uniovseg_jax.data.sharded_records import ShardedRecords
from uniovseg_jax.data.tfds_masks import TFDS_FILE, TfdsMasks, open_tfds_masks


class MaskRecords(ShardedRecords):
    """Records of a folder of shards, in the order in which they were written; see `records`.

    Attributes:
      manifest: What the folder says that it holds.
    """

    def __init__(self, directory: str | os.PathLike[str]):
        """Opens a folder; names and sizes of all shards are compared with the manifest.

        Raises:
          FileNotFoundError: If the folder has no manifest.
          ValueError: If the manifest is damaged or a shard is missing, extra or of another size.
        """
        directory = pathlib.Path(directory)
        self.manifest = read_manifest(directory)
        super().__init__([(directory, self.manifest.shards)], decode_record)


def open_mask_records(directory: str | os.PathLike[str]) -> MaskRecords | TfdsMasks:
    """Opens image-mask records of either layout.

    Raises:
      FileNotFoundError: If there is no such folder, or a conversion that did not finish.
      ValueError: If it is neither layout, or a broken one.
    """
    directory = pathlib.Path(directory)
    if not directory.is_dir():
        raise FileNotFoundError(f"There is no data folder {directory}.")
    if (directory / TFDS_FILE).is_file():
        return open_tfds_masks(directory)
    return MaskRecords(directory)
