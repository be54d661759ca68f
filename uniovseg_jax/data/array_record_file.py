"""A file of array_record: sealed documents, one after the other, counted at the end."""

import pathlib
import zlib
from typing import Any

import msgpack
from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

# One record per chunk, for random access. JPEGs do not shrink further; decompression would only
# cost time.
_OPTIONS = "group_size:1,uncompressed"
_CHECKSUM_BYTES = 4


class ArrayRecordFile:
    """A file that is being written; what is wrong with it is an OSError that names it."""

    def __init__(self, path: pathlib.Path):
        """Begins a file.

        Raises:
          OSError: If it cannot be written.
        """
        self._path, self._count = path, 0
        try:
            self._writer: Any = array_record_module.ArrayRecordWriter(str(path), _OPTIONS)
        except RuntimeError as error:  # All that array_record raises.
            raise self._failure(error) from error

    def write(self, encoded: bytes) -> None:
        """Appends a record.

        Raises:
          OSError: If it cannot be written.
        """
        try:
            self._writer.write(encoded)
        except RuntimeError as error:
            raise self._failure(error) from error
        self._count += 1

    def close(self) -> None:
        """Ends the file.

        Raises:
          OSError: If it does not hold what was written; a full disk does not always stop
            the writer.
        """
        try:
            self._writer.close()
            found = count_records(self._path)
        except RuntimeError as error:
            raise self._failure(error) from error
        if found != self._count:
            raise OSError(
                f"{self._path} holds {found} of {self._count} records: the disk may be full."
            )

    def _failure(self, error: RuntimeError) -> OSError:
        return OSError(f"{self._path} cannot be written: {error}.")


def count_records(path: pathlib.Path) -> int:
    """Returns the number of records that array_record finds in a file.

    Raises:
      RuntimeError: If it is no array_record file.
    """
    reader = array_record_module.ArrayRecordReader(str(path))
    try:
        return reader.num_records()
    finally:
        reader.close()


def seal(document: dict[str, Any]) -> bytes:
    """Returns a document as bytes: a CRC-32 and a msgpack map."""
    payload = msgpack.packb(document)
    assert payload is not None
    return zlib.crc32(payload).to_bytes(_CHECKSUM_BYTES, "little") + payload


def unseal(encoded: bytes, types: dict[str, type], kind: str) -> dict[str, Any]:
    """Reads back what `seal` made.

    Args:
      encoded: The bytes.
      types: Fields that the document must have, with their types.
      kind: What it is, for the sentence that says it is not.

    Raises:
      ValueError: If the checksum does not fit, or the content is no such document.
    """
    payload = memoryview(encoded)[_CHECKSUM_BYTES:]
    if zlib.crc32(payload).to_bytes(_CHECKSUM_BYTES, "little") != encoded[:_CHECKSUM_BYTES]:
        raise ValueError("its checksum does not fit its content")
    try:
        document = msgpack.unpackb(payload)
        complete = all(isinstance(document[name], expected) for name, expected in types.items())
    except (ValueError, KeyError, TypeError, msgpack.UnpackException):
        complete = False
    if not complete:
        raise ValueError(f"it is no {kind}")
    return document
