"""Files of caption records that appear whole, one by one: lines of JSON, or array_record."""

import pathlib
import zlib
from typing import Any, Protocol, runtime_checkable

import msgpack
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

from uniovseg_jax.captions.record import CaptionRecord, from_json, to_json
from uniovseg_jax.data.shard_writer import SHARD_OPTIONS, count_records

_CHECKSUM_BYTES = 4


@runtime_checkable
class ShardFile(Protocol):
    """A file that is being written.

    Attributes:
      suffix: Of its name.
    """

    suffix: str

    def write(self, record: CaptionRecord, image: bytes | None) -> None:
        """Appends a record."""
        ...

    def close(self, count: int) -> None:
        """Ends the file.

        Raises:
          OSError: If it does not hold `count` records.
        """
        ...


class JsonlFile:
    """One record a line; images stay where they are."""

    suffix = ".jsonl"

    def __init__(self, path: pathlib.Path):
        """Begins a file."""
        self._file = path.open("w", encoding="utf-8", newline="\n")

    def write(self, record: CaptionRecord, image: bytes | None) -> None:
        """Appends a record."""
        del image
        self._file.write(to_json(record) + "\n")

    def close(self, count: int) -> None:
        """Ends the file."""
        del count
        self._file.close()


class ArrayRecordFile:
    """Records with their images, for random access."""

    suffix = ".array_record"

    def __init__(self, path: pathlib.Path):
        """Begins a file."""
        self._path = path
        try:
            self._writer: Any = array_record_module.ArrayRecordWriter(str(path), SHARD_OPTIONS)
        except RuntimeError as error:  # All that array_record raises.
            raise OSError(f"{path} cannot be written: {error}.") from error

    def write(self, record: CaptionRecord, image: bytes | None) -> None:
        """Appends a record.

        Raises:
          OSError: If it cannot be written.
        """
        assert image is not None
        try:
            self._writer.write(encode_caption_record(record, image))
        except RuntimeError as error:
            raise OSError(f"{self._path} cannot be written: {error}.") from error

    def close(self, count: int) -> None:
        """Ends the file.

        Raises:
          OSError: If it does not hold `count` records: a full disk does not always stop the writer.
        """
        try:
            self._writer.close()
            found = count_records(self._path)
        except RuntimeError as error:
            raise OSError(f"{self._path} cannot be written: {error}.") from error
        if found != count:
            raise OSError(f"{self._path} holds {found} of {count} records: the disk may be full.")


SHARD_FILES = {"jsonl": JsonlFile, "array_record": ArrayRecordFile}


def encode_caption_record(record: CaptionRecord, image: bytes) -> bytes:
    """Returns a record with its encoded image as bytes: a CRC-32 and a msgpack map."""
    payload = msgpack.packb({"record": to_json(record), "image": image})
    assert payload is not None
    return zlib.crc32(payload).to_bytes(_CHECKSUM_BYTES, "little") + payload


def decode_caption_record(encoded: bytes) -> dict[str, Any]:
    """Reads back what `encode_caption_record` wrote.

    Returns:
      `id`, `image` (an upright JPEG or PNG file) and `record`, a `CaptionRecord`.

    Raises:
      ValueError: If the checksum does not fit or the content is no such record.
    """
    payload = memoryview(encoded)[_CHECKSUM_BYTES:]
    if zlib.crc32(payload).to_bytes(_CHECKSUM_BYTES, "little") != encoded[:_CHECKSUM_BYTES]:
        raise ValueError("its checksum does not fit its content")
    try:
        document = msgpack.unpackb(payload)
        image, line = document["image"], document["record"]
    except (ValueError, KeyError, TypeError, msgpack.UnpackException):
        raise ValueError("it is no caption record") from None
    if not isinstance(image, bytes) or not isinstance(line, str):
        raise ValueError("it is no caption record")
    record = from_json(line)
    return {"id": record.id, "image": image, "record": record}
