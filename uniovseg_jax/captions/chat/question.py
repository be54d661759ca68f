"""What is asked of a language model, and what comes back."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

# The schema of the one answer that is not free text; an object, as strict servers demand it.
LIST_SCHEMA = {
    "type": "object",
    "properties": {"entities": {"type": "array", "items": {"type": "string"}}},
    "required": ["entities"],
    "additionalProperties": False,
}
# Of a rejected answer, shown to the model once more; in characters.
_SHOWN = 2_000

_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why there is no answer, in a sentence."""

    reason: str


@dataclasses.dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
      turns: Role ("system", "user", "assistant") and text, in their order.
      image_sha256: Digest of the image that it is about; None without one.
      read_image: Returns the encoded image; only called when the question is really asked. Raises
        ValueError if that cannot be read.
      wants_list: Whether the answer has to be JSON of `LIST_SCHEMA`.
    """

    turns: tuple[tuple[str, str], ...]
    image_sha256: str | None = None
    read_image: Callable[[], bytes] | None = None
    wants_list: bool = False


@runtime_checkable
class Chat(Protocol):
    """A model that answers; threads may share it.

    Attributes:
      name: Of the backend.
      model: Its name.
      settings: Everything else that decides an answer.
      batch_size: Questions that it likes to answer at once.
      num_at_once: Threads that may call `answer` at the same time.
    """

    name: str
    model: str
    settings: dict[str, Any]
    batch_size: int
    num_at_once: int

    def answer(self, questions: Sequence[Question]) -> list[str | Failure]:
        """Returns an answer or a failure for each question.

        Raises:
          ValueError: If no question can ever be answered, such as for a wrong key.
        """
        ...

    def forget(self, questions: Sequence[Question]) -> None:
        """Drops what is kept of answers, which turned out to be of no use.

        Raises:
          OSError: If they cannot be dropped.
        """
        ...


def question_key(question: Question, stage: str, chat: Chat) -> str:
    """Returns a digest of all that decides the answer."""
    content = {
        "stage": stage,
        "backend": chat.name,
        "model": chat.model,
        "settings": chat.settings,
        "image": question.image_sha256,
        "turns": question.turns,
        "wants_list": question.wants_list,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def ask_checked(
    chat: Chat, questions: Sequence[Question], checks: Sequence[Callable[[str, bool], _Result]]
) -> list[_Result | Failure]:
    """Asks, checks the answers, and asks once more where one cannot be used.

    Where the second one cannot be used either, the model forgets both: kept ones would fail for
    ever.

    Args:
      chat: The model.
      questions: To be asked.
      checks: Of each question: takes the answer and whether it is the last chance, returns what is
        in it, and raises ValueError with a sentence that helps the model to do better.
    """
    results: list[Any] = []
    again: dict[int, Question] = {}
    for index, answer in enumerate(chat.answer(questions)):
        if isinstance(answer, Failure):
            results.append(answer)
            continue
        try:
            results.append(checks[index](answer, False))
        except ValueError as error:
            turns = (
                *questions[index].turns,
                ("assistant", answer[:_SHOWN]),
                ("user", f"This answer cannot be used. {error} Answer again."),
            )
            results.append(None)
            again[index] = dataclasses.replace(questions[index], turns=turns)
    answers = chat.answer(tuple(again.values())) if again else []
    for index, answer in zip(again, answers, strict=True):
        try:
            results[index] = answer if isinstance(answer, Failure) else checks[index](answer, True)
        except ValueError as error:
            results[index] = Failure(f"Both answers of the model cannot be used. {error}")
            chat.forget([questions[index], again[index]])
    return results
