"""Answers of language models on disk, so that none is paid for twice."""

import os
import pathlib
import sqlite3
import threading
from collections.abc import Sequence
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
            self._connection = sqlite3.connect(
                self._path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
            # A killed process leaves a log behind that the next one reads: nothing is lost.
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)"
                " WITHOUT ROWID"
            )
            self._connection.execute("SELECT key, answer FROM answers LIMIT 1").fetchall()
        except (sqlite3.Error, OSError) as error:
            raise ValueError(f"{self._path} cannot be used as a cache: {error}.") from error

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
    """A model whose answers are kept; failures are not, and are asked for again the next time."""

    def __init__(self, chat: Chat, stage: str, cache: AnswerCache):
        """Puts the cache of a stage in front of a model."""
        self.name, self.model, self.settings = chat.name, chat.model, chat.settings
        self.batch_size, self.num_at_once = chat.batch_size, chat.num_at_once
        self._chat, self._stage, self._cache = chat, stage, cache

    def answer(self, questions: Sequence[Question]) -> list[str | Failure]:
        """Returns kept answers, and new ones where there are none."""
        keys = [question_key(question, self._stage, self._chat) for question in questions]
        answers: list[Any] = [self._cache.get(key) for key in keys]
        missing = [index for index, answer in enumerate(answers) if answer is None]
        found = self._chat.answer([questions[index] for index in missing]) if missing else []
        for index, answer in zip(missing, found, strict=True):
            if isinstance(answer, str):
                self._cache.put(keys[index], answer)
            answers[index] = answer
        return answers
