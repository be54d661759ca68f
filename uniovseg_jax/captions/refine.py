"""From raw captions to the one that is parsed: as they are, or described by a model that looks."""

import functools
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from uniovseg_jax.captions.chat.question import Chat, Failure, Question, ask_checked
from uniovseg_jax.captions.descriptions import check_description
from uniovseg_jax.captions.images import ImageFolder
from uniovseg_jax.captions.prompts import REFINE_SYSTEM, caption_turn, prompt_hash
from uniovseg_jax.captions.record import CaptionRecord, Tool

_SENTENCE_ENDS = (".", "!", "?")


@runtime_checkable
class Refiner(Protocol):
    """Makes the caption of records; threads may share it.

    Attributes:
      tool: What the records will say about it.
      needs_image: Whether it looks at images.
      batch_size: Records that it likes to have at once.
      num_at_once: Threads that may call it at the same time.
    """

    tool: Tool
    needs_image: bool
    batch_size: int
    num_at_once: int

    def __call__(self, records: Sequence[CaptionRecord]) -> list[str | Failure]:
        """Returns a caption or a failure for each record."""
        ...


class Identity:
    """Passes captions on: the refined one where there is one, else the raw ones as one text."""

    tool = Tool("identity")
    needs_image = False
    batch_size = num_at_once = 1

    def __call__(self, records: Sequence[CaptionRecord]) -> list[str | Failure]:
        """Returns the captions; never a failure."""
        return [
            record.caption if record.caption is not None else join_captions(record.caption_raw)
            for record in records
        ]


class ModelRefiner:
    """Asks a model for a description of the image, with the raw caption as a hint."""

    needs_image = True

    def __init__(self, chat: Chat, images: ImageFolder, max_sentences: int):
        """Takes a model and the images that it is shown.

        Raises:
          ValueError: If `max_sentences` is below 1.
        """
        if max_sentences < 1:
            raise ValueError(f"max_sentences must be at least 1, got {max_sentences}.")
        self._chat, self._images = chat, images
        self._system = REFINE_SYSTEM.format(max_sentences=max_sentences)
        self.tool = Tool(chat.name, chat.model, prompt_hash(self._system))
        self.batch_size, self.num_at_once = chat.batch_size, chat.num_at_once

    def __call__(self, records: Sequence[CaptionRecord]) -> list[str | Failure]:
        """Returns descriptions; what is none, or not in English, is asked for once more."""
        questions = [self.question(record) for record in records]
        checks = [lambda answer, _: check_description(answer)] * len(questions)
        return ask_checked(self._chat, questions, checks)

    def question(self, record: CaptionRecord) -> Question:
        """Returns what is asked about a record."""
        return Question(
            turns=(
                ("system", self._system),
                ("user", caption_turn(join_captions(record.caption_raw))),
            ),
            image_sha256=record.image.sha256,
            read_image=functools.partial(self._images.read, record.image),
        )


def join_captions(captions: Sequence[str]) -> str:
    """Returns several captions as one text, in which each is a sentence; one stays as it is."""
    texts = [text.strip() for text in captions if text.strip()]
    if len(texts) < 2:
        return "".join(texts)
    return " ".join(text if text.endswith(_SENTENCE_ENDS) else f"{text}." for text in texts)
