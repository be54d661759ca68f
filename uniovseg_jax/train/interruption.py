"""Ending a run well when it is told to: SIGTERM saves, and the process exits with 0."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils


class Interrupted(Exception):
    """The run was told to end, and all that is worth it has been saved."""


class Interruption:
    """Notices SIGTERM and Ctrl-C while it is entered as a context.

    Most of the time the signal only leaves a note, and the loop saves at its next step. Two
    stretches may last too long for that: within `interruptible`, `Interrupted` is raised at once;
    and while there is `nothing_to_save` (loading, compiling, where Python runs no handlers) SIGTERM
    ends the process on the spot. A second Ctrl-C ends the process as it always does.

    Only the main thread may handle signals; elsewhere nothing is noticed. With several processes,
    JAX's own service notices SIGTERM and makes all of them stop at the same step.
    """

    def __init__(self) -> None:
        """Prepares the handlers; entering installs them."""
        self._requested = False
        self._raise_now = False
        self._nothing_to_save = threading.Event()
        self._before: dict[int, Any] = {}
        self._wakeup = -1

    def __enter__(self) -> "Interruption":
        if jax.process_count() > 1 or threading.current_thread() is not threading.main_thread():
            return self
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handle)
        # Python's own handlers wait until a long call into compiled code returns. The number of
        # the signal is written to this pipe at once.
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        self._wakeup = writer
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reader,), daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if not self._before:
            return
        signal.set_wakeup_fd(-1)
        os.close(self._wakeup)  # Ends the watching thread.
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def is_requested(self, step: int) -> bool:
        """Tells whether to save and end; asked by every process after the same steps."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._requested

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within it a signal raises `Interrupted`; what it leaves unfinished must not matter."""
        if self._requested:
            raise Interrupted
        self._raise_now = True
        try:
            yield
        finally:
            self._raise_now = False

    @contextmanager
    def nothing_to_save(self) -> Iterator[None]:
        """Within it a signal ends the process with exit code 0, even in the middle of a call."""
        self._nothing_to_save.set()
        if self._requested:
            _leave()
        try:
            yield
        finally:
            self._nothing_to_save.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        again = self._requested or self._nothing_to_save.is_set()
        if number == signal.SIGINT and again:
            raise KeyboardInterrupt
        self._requested = True
        if self._raise_now:
            self._raise_now = False
            raise Interrupted

    def _watch(self, reader: int) -> None:
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            while number := pipe.read(1):
                if number[0] == signal.SIGTERM and self._nothing_to_save.is_set():
                    _leave()


def _leave() -> None:
    print("\nTold to end before there was anything new to save.", file=sys.stderr, flush=True)
    os._exit(0)
