"""Prepared folders of TensorFlow Datasets, opened for random access without TensorFlow."""

import pathlib
from collections.abc import Collection
from typing import Any


def open_tfds_source(
    directory: pathlib.Path,
    name: str,
    features: Collection[str],
    split: str,
    decoders: dict[str, Any],
) -> tuple[Any, Any]:
    """Opens a split of the folder that holds `dataset_info.json`.

    Args:
      directory: The folder.
      name: Of the dataset as tfds calls it, for complaints.
      features: It must have.
      split: As tfds calls it.
      decoders: Of tfds, for features that are not to be decoded.

    Returns:
      The examples, and what tfds knows of the split.

    Raises:
      ValueError: If it holds other features, has no such split, or is not in array_record.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(directory))
    found: Any = builder.info.features
    missing = set(features) - set(found)
    if missing:
        raise ValueError(f"{directory} is not tfds' {name}: it has no feature {min(missing)!r}.")
    if split not in builder.info.splits:
        raise ValueError(f"{directory} has no split {split!r}; is it prepared?")
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise ValueError(
            f"{directory} is not stored as array_record; prepare it with "
            "--file_format=array_record, which alone allows random access."
        )
    # The decorators of tfds hide the signature from pyright.
    source = builder.as_data_source(split, decoders=decoders)  # pyright: ignore
    return source, builder.info.splits[split]
