"""Keeps the key of a server out of what is shown and stored, however the server spells it."""

import json
import re

# A beginning of the key that the end of a text cuts off counts from so many characters.
_MIN_BEGINNING = 6
# JSON within JSON escapes its backslashes once more; no end to them would cost time.
_ESCAPES = r"\\{0,7}"
# Of what a server said, in messages; in characters.
_MAX_EXCERPT = 200
# Characters of the longest spelling of one.
_LONGEST = 12
# An escaped character that the end of a text cuts off.
_CUT_OFF = re.compile(r"\\{1,7}(?:u[0-9a-fA-F]{0,3})?|%[0-9a-fA-F]?|")


class HiddenKey:
    """Replaces a key by `[key]`: as it is, with escapes of JSON, or percent-encoded."""

    def __init__(self, key: str):
        """Takes the key, of ASCII; an empty one is never found."""
        spellings = [_spellings(character) for character in key]
        self._characters = [re.compile(spelling) for spelling in spellings]
        self._whole = re.compile("".join(spellings)) if key else None

    def erase(self, text: str) -> str:
        """Returns a text without the key, and without a beginning of it where the text ends."""
        if self._whole is None:
            return text
        text = self._whole.sub("[key]", text)
        first = max(0, len(text) - _LONGEST * len(self._characters))
        for start in range(first, len(text)):
            if self._is_beginning(text, start):
                return f"{text[:start]}[key]"
        return text

    def excerpt(self, text: str) -> str:
        """Returns the beginning of what a server said, or of the error in its JSON, in one line."""
        try:
            error = json.loads(text)["error"]
            text = str(error["message"] if isinstance(error, dict) else error)
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        # Before it is cut: a part of the key would not be found.
        text = self.erase(text)
        line = " ".join(re.sub(r"[^\x20-\x7e\u00a0-\ud7ff]+", " ", text).split())
        return repr(line[:_MAX_EXCERPT]) if line else "nothing"

    def _is_beginning(self, text: str, place: int) -> bool:
        count = 0
        for count, character in enumerate(self._characters):  # noqa: B007
            match = character.match(text, place)
            if match is None:
                break
            place = match.end()
        return count >= _MIN_BEGINNING and _CUT_OFF.fullmatch(text, place) is not None


def _spellings(character: str) -> str:
    code = f"{ord(character):02x}"
    return rf"{_ESCAPES}(?:{re.escape(character)}|(?i:u00{code}|%{code}))"
