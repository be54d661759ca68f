"""What a run would ask and cost, without asking."""

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


def dry_run(plan: Plan, chats: dict[str, Chat], prices: dict[str, Price], num: int) -> str:
    """Describes the first requests, and estimates calls, tokens and cost of all.

    The parser's requests are shown with the raw caption, since the refined one is not known.

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
    tokens = dict.fromkeys(chats, 0)
    for entries, item in enumerate(plan.entries(), 1):  # noqa: B007
        if shown == num or not isinstance(item, CaptionRecord):
            continue
        record = item
        if plan.images is not None:
            record = check_image(item, plan.images)
        if not isinstance(record, CaptionRecord):
            lines.append(f"{item.id}: would be skipped ({record.detail})")
            continue
        shown += 1
        for stage, question in _questions(plan, record):
            text, count = _describe(chats[stage], question)
            tokens[stage] += count
            lines.append(f"{record.id}, {stage}: {text}")
    lines.append(f"{entries} entries. {_estimate(chats, prices, tokens, shown, entries)}")
    return "\n".join(lines)


def _questions(plan: Plan, record: CaptionRecord) -> Iterator[tuple[str, Question]]:
    if isinstance(plan.refiner, ModelRefiner):
        yield "refine", plan.refiner.question(record)
    if isinstance(plan.parser, LlmParser):
        yield "parse", plan.parser.question(join_captions(record.caption_raw))


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


def _estimate(
    chats: dict[str, Chat],
    prices: dict[str, Price],
    tokens: dict[str, int],
    shown: int,
    entries: int,
) -> str:
    if not chats:
        return "No model is asked: this run costs nothing."
    if not shown:
        return "No record could be shown, so that there is no estimate."
    sentences = []
    total = 0.0
    for stage, chat in chats.items():
        tokens_in = round(tokens[stage] / shown * entries)
        tokens_out = chat.settings["max_tokens"] * entries
        price = prices.get(stage, Price(0, 0))
        total += (tokens_in * price.tokens_in + tokens_out * price.tokens_out) / 1e6
        sentences.append(
            f"{stage}: {entries} calls of {chat.model}, about {tokens_in} tokens in, at most "
            f"{tokens_out} out."
        )
    sentences.append(
        "Calls that fail or whose answer cannot be used are repeated; answers that are in the "
        "cache cost nothing."
    )
    if total:
        sentences.append(f"Cost: about {total:.2f} at the configured prices.")
    else:
        sentences.append("For a cost set price_in and price_out.")
    return " ".join(sentences)
