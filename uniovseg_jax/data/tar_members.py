"""The members of a tar from outside, one header after the other, none of them believed."""

import io
import pathlib
import tarfile
from collections.abc import Iterator

# The published tars of SA-1B have about 22,000 members, those of img2dataset 30,000.
_MAX_MEMBERS = 200_000
# Headers of one member, long names and PAX records included.
_MAX_HEADER_BYTES = 1 << 20
# A tar ends with two blocks of zeros and is filled up with more, usually to 10 KiB.
_MIN_PADDING = 2 * tarfile.BLOCKSIZE
_MAX_PADDING = 1 << 20


def tar_members(path: pathlib.Path) -> Iterator[tarfile.TarInfo]:
    """Yields the headers of a tar and makes sure that they were all of them.

    The module tarfile takes a damaged header, or the end of a file between two members, for the
    end of the archive. Here everything that follows must be the zeros that end a tar.

    Raises:
      ValueError: If it is compressed, damaged or cut off; names the tar.
      OSError: If it cannot be opened.
    """
    with path.open("rb") as raw:
        file = _HeaderReader(raw)
        try:
            # "r:" is plain tar only: a compressed file is refused, not decompressed.
            with tarfile.open(fileobj=file, mode="r:") as tar:  # pyright: ignore
                for _ in range(_MAX_MEMBERS):
                    file.start_member()
                    member = tar.next()
                    if member is None:
                        break
                    if member.size < 0:
                        raise tarfile.ReadError("a member of negative size")
                    yield member
                else:
                    raise tarfile.ReadError(f"more than {_MAX_MEMBERS} members")
            raw.seek(raw.tell() - tarfile.BLOCKSIZE)
            rest = raw.read(_MAX_PADDING)
            if len(rest) < _MIN_PADDING or rest.strip(b"\0"):
                raise tarfile.ReadError(f"damaged or cut off at byte {raw.tell() - len(rest)}")
        # tarfile lets through what int() and struct say of odd headers.
        except (tarfile.TarError, OSError, ValueError, OverflowError, EOFError) as error:
            raise ValueError(f"{path} is no whole tar: {error}.") from error


class _HeaderReader(io.RawIOBase):
    """A file for tarfile: forward only, and with a limit on the headers of one member.

    Headers say themselves how long they are, and tarfile believes them; negative lengths lead it
    in a circle.
    """

    def __init__(self, file: io.BufferedReader):
        self._file = file
        self._allowed = _MAX_HEADER_BYTES

    def start_member(self) -> None:
        """Allows another member's headers."""
        self._allowed = _MAX_HEADER_BYTES

    def read(self, size: int = -1) -> bytes:
        """Reads `size` bytes, or fewer at the end of the file."""
        if not 0 <= size <= self._allowed:
            raise tarfile.ReadError(f"headers of more than {_MAX_HEADER_BYTES} bytes")
        self._allowed -= size
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves on to a position further behind."""
        if whence != io.SEEK_SET or offset < self._file.tell():
            raise tarfile.ReadError("a member that lies before the one that it follows")
        return self._file.seek(offset)

    def tell(self) -> int:
        """Returns the position."""
        return self._file.tell()
