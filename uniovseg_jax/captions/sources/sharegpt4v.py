"""ShareGPT4V's JSON: a list of conversations, each about one image."""

import os
from collections.abc import Iterator
from typing import Any

from uniovseg_jax.captions.record import CaptionRecord
from uniovseg_jax.captions.sources.json_list import read_json_list
from uniovseg_jax.captions.sources.source import (
    Exclusion,
    checked_captions,
    describe_file,
    file_image,
    require_file,
)
from uniovseg_jax.data.mask_sources.source import Skipped


class ShareGpt4v:
    """`[{"id", "image", "conversations": [{"from", "value"}]}]`; the first answer is the caption.

    Source: the public files of ShareGPT4V, share-captioner_coco_lcs_sam_1246k_1107.json and
    sharegpt4v_instruct_gpt4-vision_cap100k.json.
    """

    name = "sharegpt4v_json"
    total = None

    def __init__(self, path: str | os.PathLike[str], exclusion: Exclusion, has_images: bool):
        """Finds the file.

        Args:
          path: The JSON file.
          exclusion: Images of COCO to leave out.
          has_images: Whether the images are on this disk.

        Raises:
          FileNotFoundError: If there is no such file.
        """
        self._path = require_file(path, "JSON file")
        self._exclusion, self.has_images = exclusion, has_images

    def describe(self) -> dict[str, Any]:
        """Returns the layout and the file."""
        return {
            "layout": self.name,
            **describe_file(self._path),
            **self._exclusion.describe(),
        }

    def records(self) -> Iterator[CaptionRecord | Skipped]:
        """Yields the entries in their order.

        The image's path is the id: those of the published files occur once per image there, their
        own ids do not.

        Raises:
          ValueError: If the file as a whole is damaged.
        """
        for index, entry in enumerate(read_json_list(self._path)):
            name = f"{self._path.name}[{index}]"
            try:
                if not isinstance(entry, dict):
                    raise ValueError(f"It is {str(entry)[:40]!r}, expected an object.")
                image = file_image(entry.get("image"))
                captions = checked_captions(_first_answer(entry.get("conversations")))
            except ValueError as error:
                yield Skipped(name, "bad entry", str(error))
                continue
            if self._exclusion.covers_path(image.path):
                yield Skipped(name, "excluded", f"{image.path} is to be left out.")
                continue
            yield CaptionRecord(image.path, image, captions, source=self.name)


def _first_answer(turns: Any) -> Any:
    for turn in turns if isinstance(turns, list) else []:
        if isinstance(turn, dict) and turn.get("from") == "gpt":
            return turn.get("value")
    raise ValueError('It has no turn from "gpt", which is the caption.')
