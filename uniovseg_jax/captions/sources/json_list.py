"""A long list in a JSON file, entry by entry, without the whole file in memory."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

_CHUNK = 1 << 20
# Of one entry, in characters; those of the published sets have some thousands.
_MAX_ENTRY = 1 << 24
_BLANKS = " \t\n\r"


def read_json_list(path: pathlib.Path) -> Iterator[Any]:
    """Yields the entries of a file that is one list.

    Raises:
      ValueError: If the file is no such list, is cut off or goes on after it, or an entry is
        overlong; names the file and the entry.
    """
    decoder = json.JSONDecoder()
    with path.open(encoding="utf-8", errors="replace") as file:
        text, position, index, ended = file.read(_CHUNK).removeprefix("\ufeff"), 0, 0, False

        def next_sign() -> str:
            """Moves to the next character that is no blank; empty at the end."""
            nonlocal text, position
            while True:
                while position < len(text) and text[position] in _BLANKS:
                    position += 1
                if position < len(text):
                    return text[position]
                text, position = file.read(_CHUNK), 0
                if not text:
                    return ""

        if next_sign() != "[":
            raise ValueError(f"{path} does not begin with a list of entries.")
        position += 1
        if next_sign() == "]":
            position, ended = position + 1, True
        while not ended:
            next_sign()
            while True:
                try:
                    value, end = decoder.raw_decode(text, position)
                    # A number may go on in the next chunk; a comma or bracket shows that it ended.
                    if end < len(text):
                        break
                    problem = "It is cut off"
                except RecursionError:
                    raise ValueError(f"{path}: entry {index} is nested too deeply.") from None
                except ValueError as error:
                    problem = str(error)
                more = file.read(max(_CHUNK, len(text) - position))
                if not more or len(text) - position > _MAX_ENTRY:
                    raise ValueError(
                        f"{path}: entry {index} is no JSON that can be read: {problem}."
                    ) from None
                text, position = text[position:] + more, 0
            yield value
            position, index = end, index + 1
            sign = next_sign()
            if sign not in ("]", ","):
                raise ValueError(f"{path} is damaged or cut off after entry {index - 1}.")
            position, ended = position + 1, sign == "]"
        if next_sign():
            raise ValueError(f"{path} goes on after the end of its list.")
