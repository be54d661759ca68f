"""One trainer per working directory."""

import datetime
import fcntl
import json
import os
import pathlib
import socket
from types import TracebackType


class RunLock:
    """Holds a working directory for this process, as a context.

    The lock is the operating system's: it ends with the process, however that ends, and so there
    is nothing to clean up. The file says who holds it, for the message of those who come second.
    """

    def __init__(self, workdir: pathlib.Path):
        """Takes the directory, which must exist.

        Raises:
          ValueError: If another process holds it.
        """
        self._file = (workdir / "lock.json").open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            owner = self._file.read().strip() or "unknown"
            self._file.close()
            raise ValueError(
                f"{workdir} is in use by another trainer ({owner}); expected a working directory "
                "of its own for every run."
            ) from None
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "started": started}
        self._file.truncate(0)
        self._file.write(json.dumps(owner))
        self._file.flush()

    def __enter__(self) -> "RunLock":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Lets the next one in; the file stays, since removing it would open a gap."""
        self._file.close()
