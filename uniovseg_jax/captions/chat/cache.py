"""Answers of language models on disk, so that none is paid for twice."""

import os
import pathlib
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

from uniovseg_jax.captions.chat.question import Chat, Failure, Question, question_key

# Of processes that share a cache, each waits so long for another's write; in seconds.
_PATIENCE = 60


class AnswerCache:
    """A SQLite file of answers by key; threads and processes of one machine may share it.

    Answers are stored as they came. Nothing in here says whom they came from.
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Opens the file, or makes it.

        Raises:
          ValueError: If it is no such file or cannot be written.
        """
        self._path = pathlib.Path(path)
        self._lock = threading.Lock()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = self._open()
        except (sqlite3.Error, OSError) as error:
            raise ValueError(f"{self._path} cannot be used as a cache: {error}.") from error

    def _open(self) -> sqlite3.Connection:
        end = time.monotonic() + _PATIENCE
        while True:
            connection = sqlite3.connect(
                self._path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
            try:
                # A killed process leaves a log behind that the next one reads: nothing is lost.
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS answers"
                    " (key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID"
                )
                connection.execute("SELECT key, answer FROM answers LIMIT 1").fetchall()
                return connection
            except sqlite3.Error as error:
                connection.close()
                # Two that make the file at the same time: SQLite does not wait for the first.
                locked = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY
                if not locked or time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def get(self, key: str) -> str | None:
        """Returns an answer.

        Raises:
          OSError: If the file cannot be read.
        """
        row = self._run("SELECT answer FROM answers WHERE key = ?", (key,))
        return row[0] if row else None

    def put(self, key: str, answer: str) -> None:
        """Keeps an answer; the first one of a key stays.

        Raises:
          OSError: If it cannot be written.
        """
        self._run("INSERT OR IGNORE INTO answers VALUES (?, ?)", (key, answer))

    def drop(self, key: str) -> None:
        """Keeps an answer no longer.

        Raises:
          OSError: If the file cannot be written.
        """
        self._run("DELETE FROM answers WHERE key = ?", (key,))

    def close(self) -> None:
        """Closes the file; the cache is of no use afterwards."""
        with self._lock:
            self._connection.close()

    def _run(self, statement: str, values: tuple[str, ...]) -> Any:
        try:
            with self._lock:
                return self._connection.execute(statement, values).fetchone()
        except sqlite3.Error as error:
            raise OSError(f"The cache {self._path} failed: {error}.") from error


class CachedChat:
    """A model whose answers are kept; failures are not, and are asked for again the next time.

    Nor are answers that are forgotten, as nobody could use them.

    What one thread asks already, another waits for: the same caption of two images costs one call.
    """

    def __init__(self, chat: Chat, stage: str, cache: AnswerCache):
        """Puts the cache of a stage in front of a model."""
        self.name, self.model, self.settings = chat.name, chat.model, chat.settings
        self.batch_size, self.num_at_once = chat.batch_size, chat.num_at_once
        self._chat, self._stage, self._cache = chat, stage, cache
        self._lock = threading.Lock()
        self._under_way: dict[str, threading.Event] = {}

    def answer(self, questions: Sequence[Question]) -> list[str | Failure]:
        """Returns kept answers, and new ones where there are none."""
        keys = [question_key(question, self._stage, self._chat) for question in questions]
        by_key = dict(zip(keys, questions, strict=True))
        answers, mine, others = self._claim(by_key)
        try:
            found = self._chat.answer([by_key[key] for key in mine]) if mine else []
            for key, answer in zip(mine, found, strict=True):
                if isinstance(answer, str):
                    self._cache.put(key, answer)
                answers[key] = answer
        finally:
            with self._lock:
                for key in mine:
                    self._under_way.pop(key).set()
        for key, event in others.items():
            event.wait()
            # Only if the other thread had no luck is this asked once more.
            (answers[key],) = self.answer([by_key[key]])
        return [answers[key] for key in keys]

    def forget(self, questions: Sequence[Question]) -> None:
        """Drops answers from the cache."""
        for question in questions:
            self._cache.drop(question_key(question, self._stage, self._chat))

    def _claim(
        self, keys: Iterable[str]
    ) -> tuple[dict[str, str | Failure], list[str], dict[str, threading.Event]]:
        """Returns kept answers, keys to ask for, and those that other threads ask for."""
        answers: dict[str, str | Failure] = {}
        mine: list[str] = []
        others: dict[str, threading.Event] = {}
        # An answer is kept before its key is given up, so that one of the two is always seen.
        with self._lock:
            for key in keys:
                answer = self._cache.get(key)
                if answer is not None:
                    answers[key] = answer
                elif key in self._under_way:
                    others[key] = self._under_way[key]
                else:
                    self._under_way[key] = threading.Event()
                    mine.append(key)
        return answers, mine, others
