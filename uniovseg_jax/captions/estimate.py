"""What a run would ask and cost at most, without asking."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from uniovseg_jax.captions.chat.openai_chat import OpenAiChat
from uniovseg_jax.captions.chat.question import Chat, Question
from uniovseg_jax.captions.images import check_image
from uniovseg_jax.captions.llm_parser import LlmParser
from uniovseg_jax.captions.preparation import Plan
from uniovseg_jax.captions.record import CaptionRecord
from uniovseg_jax.captions.refine import ModelRefiner, join_captions

# Of an estimate from the text alone.
_CHARACTERS_PER_TOKEN = 4


@dataclasses.dataclass(frozen=True)
class Price:
    """Of a million tokens; 0 where nobody said."""

    tokens_in: float
    tokens_out: float


@dataclasses.dataclass
class _Stage:
    """What is known of the calls of a stage.

    Attributes:
      chat: The model.
      num_calls: About all records.
      tokens_in: Of the records that are shown.
    """

    chat: Chat
    num_calls: int = 0
    tokens_in: int = 0


def dry_run(plan: Plan, chats: dict[str, Chat], prices: dict[str, Price], num: int) -> str:
    """Describes the first requests, and estimates calls, tokens and cost of all.

    The parser's requests are shown with the raw caption, since the refined one is not known; it
    counts with the refiner's longest answer. Images are only read for requests that are shown.

    Args:
      plan: What would be done.
      chats: Models by stage ("refine", "parse").
      prices: Of the models, by stage.
      num: Records whose requests are shown, and from which the rest is estimated.

    Returns:
      Lines of text; an image is named by its size instead of its bytes.
    """
    lines: list[str] = []
    shown, entries = 0, 0
    stages = {name: _Stage(chat) for name, chat in chats.items()}
    for entries, item in enumerate(plan.entries(), 1):  # noqa: B007
        # What is excluded, or has no image, is not asked about.
        if not isinstance(item, CaptionRecord):
            continue
        record = item
        if shown < num and plan.images is not None:
            record = check_image(item, plan.images)
        if not isinstance(record, CaptionRecord):
            lines.append(f"{item.id}: would be skipped ({record.detail})")
            continue
        questions = list(_questions(plan, record))
        for name, question in questions:
            stages[name].num_calls += 1
            if shown < num:
                text, tokens = _describe(chats[name], question)
                stages[name].tokens_in += tokens
                lines.append(f"{record.id}, {name}: {text}")
        shown += bool(questions) and shown < num
    if "refine" in stages and "parse" in stages:
        stages["parse"].tokens_in += shown * chats["refine"].settings["max_tokens"]
    lines.append(f"{entries} entries. {_estimate(stages, prices, shown)}")
    return "\n".join(lines)


def _questions(plan: Plan, record: CaptionRecord) -> Iterator[tuple[str, Question]]:
    if isinstance(plan.refiner, ModelRefiner):
        yield "refine", plan.refiner.question(record)
        caption, has_words = join_captions(record.caption_raw), True
    else:
        caption = str(plan.refiner([record])[0])
        # Without any the parser asks nothing.
        has_words = any(map(str.isalpha, caption))
    if isinstance(plan.parser, LlmParser) and has_words:
        yield "parse", plan.parser.question(caption)


def _describe(chat: Chat, question: Question) -> tuple[str, int]:
    """Returns the request as JSON, and the tokens that go in."""
    if not isinstance(chat, OpenAiChat):
        tokens = sum(len(text) for _, text in question.turns) // _CHARACTERS_PER_TOKEN + 1
        return json.dumps({"turns": question.turns}, ensure_ascii=False), tokens
    body, tokens = chat.request(question)
    return json.dumps(_shortened(body), ensure_ascii=False), tokens


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_shortened(each) for each in value]
    if isinstance(value, str) and value.startswith("data:image/"):
        return f"{value.partition(',')[0]},... ({len(value)} characters)"
    return value


def _estimate(stages: dict[str, _Stage], prices: dict[str, Price], shown: int) -> str:
    if not stages:
        return "No model is asked: this run costs nothing."
    if not shown:
        return "No record could be shown, so that there is no estimate."
    sentences = []
    total = 0.0
    for name, stage in stages.items():
        tokens_in = round(stage.tokens_in / shown * stage.num_calls)
        tokens_out = stage.chat.settings["max_tokens"] * stage.num_calls
        price = prices.get(name, Price(0.0, 0.0))
        total += (tokens_in * price.tokens_in + tokens_out * price.tokens_out) / 1e6
        sentences.append(
            f"{name}: at most {stage.num_calls} calls of {stage.chat.model}, about {tokens_in} "
            f"tokens in, at most {tokens_out} out."
        )
    sentences.append(
        "Calls that fail or whose answer cannot be used are repeated; answers that are in the "
        "cache cost nothing."
    )
    if total:
        sentences.append(f"Cost: at most about {total:.2f} at the configured prices.")
    else:
        sentences.append("For a cost set price_in and price_out.")
    return " ".join(sentences)
