"""Files of caption records that appear whole, one by one: lines of JSON, or array_record."""

import pathlib
from typing import Any, Protocol, runtime_checkable

from uniovseg_jax.captions.record import CaptionRecord, from_json, to_json
from uniovseg_jax.data.array_record_file import ArrayRecordFile, seal, unseal


@runtime_checkable
class ShardFile(Protocol):
    """A file that is being written.

    Attributes:
      suffix: Of its name.
    """

    suffix: str

    def write(self, record: CaptionRecord) -> None:
        """Appends a record."""
        ...

    def close(self) -> None:
        """Ends the file.

        Raises:
          OSError: If it does not hold what was written.
        """
        ...


class JsonlFile:
    """One record a line; images stay where they are."""

    suffix = ".jsonl"

    def __init__(self, path: pathlib.Path):
        """Begins a file."""
        self._file = path.open("w", encoding="utf-8", newline="\n")

    def write(self, record: CaptionRecord) -> None:
        """Appends a record."""
        self._file.write(to_json(record) + "\n")

    def close(self) -> None:
        """Ends the file."""
        self._file.close()


class ImageRecordFile:
    """Records with their images, for random access."""

    suffix = ".array_record"

    def __init__(self, path: pathlib.Path):
        """Begins a file.

        Raises:
          OSError: If it cannot be written.
        """
        self._file = ArrayRecordFile(path)

    def write(self, record: CaptionRecord) -> None:
        """Appends a record.

        Raises:
          OSError: If it cannot be written.
        """
        assert record.encoded is not None
        self._file.write(encode_caption_record(record, record.encoded))

    def close(self) -> None:
        """Ends the file.

        Raises:
          OSError: If it does not hold what was written.
        """
        self._file.close()


SHARD_FILES = {"jsonl": JsonlFile, "array_record": ImageRecordFile}


def encode_caption_record(record: CaptionRecord, image: bytes) -> bytes:
    """Returns a record with its encoded image as bytes."""
    return seal({"record": to_json(record), "image": image})


def decode_caption_record(encoded: bytes) -> dict[str, Any]:
    """Reads back what `encode_caption_record` wrote.

    Returns:
      `id`, `image` (an upright JPEG or PNG file) and `record`, a `CaptionRecord`.

    Raises:
      ValueError: If the checksum does not fit or the content is no such record.
    """
    document = unseal(encoded, {"record": str, "image": bytes}, "caption record")
    record = from_json(document["record"])
    return {"id": record.id, "image": document["image"], "record": record}
