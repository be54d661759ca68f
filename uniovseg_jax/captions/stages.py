"""The stages between reading and writing: each a function from records to records, one for one.

What was skipped, or failed in an earlier stage, passes through in its place.
"""

import dataclasses
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, TypeGuard

from uniovseg_jax.captions.chat.question import Failure
from uniovseg_jax.captions.images import ImageFolder, check_image
from uniovseg_jax.captions.parsers import Parser
from uniovseg_jax.captions.phrases import make_entities
from uniovseg_jax.captions.record import CaptionRecord, Tool
from uniovseg_jax.captions.refine import Identity, Refiner
from uniovseg_jax.data.mask_sources.source import Skipped
from uniovseg_jax.data.threads import map_in_threads

Item = CaptionRecord | Skipped
# Reading waits for the disk and decodes outside Python's lock.
_IMAGE_THREADS = 4


def check_images(items: Iterable[Item], folder: ImageFolder) -> Iterator[Item]:
    """Reads every image completely; records without a usable one are skipped."""

    def check(item: Item) -> Item:
        return check_image(item, folder) if _is_open(item) else item

    return map_in_threads(check, items, _IMAGE_THREADS)


def refine(items: Iterable[Item], refiner: Refiner) -> Generator[Item, None, None]:
    """Gives every record its caption."""

    def apply(record: CaptionRecord, caption: str | Failure) -> CaptionRecord:
        if isinstance(caption, Failure):
            return _failed(record, "refine", caption, refiner=refiner.tool)
        # Who passes a caption on is not who made it.
        kept = isinstance(refiner, Identity) and record.refiner is not None
        tool = record.refiner if kept else refiner.tool
        return dataclasses.replace(record, caption=caption, refiner=tool)

    return _apply_in_batches(items, refiner, lambda record: record, apply)


def parse(items: Iterable[Item], parser: Parser, max_entities: int) -> Generator[Item, None, None]:
    """Gives every record its entities; without any its status is `empty`.

    Args:
      items: Records with a caption.
      parser: Finds phrases.
      max_entities: Each record keeps at most so many.
    """

    def apply(record: CaptionRecord, phrases: list[str] | Failure) -> CaptionRecord:
        if isinstance(phrases, Failure):
            return _failed(record, "parse", phrases, parser=parser.tool)
        entities, count = make_entities(phrases, record.caption or "", max_entities)
        return dataclasses.replace(
            record,
            entities=entities,
            num_entities=count,
            parser=parser.tool,
            status="ok" if entities else "empty",
        )

    return _apply_in_batches(items, parser, lambda record: record.caption or "", apply)


def _apply_in_batches(
    items: Iterable[Item],
    worker: Any,
    take: Callable[[CaptionRecord], Any],
    apply: Callable[[CaptionRecord, Any], CaptionRecord],
) -> Generator[Item, None, None]:
    """Calls the worker with batches of what `take` gives, and `apply` with what it returns."""

    def run(batch: Sequence[Item]) -> list[Item]:
        chosen = [item for item in batch if _is_open(item)]
        results = iter(worker([take(record) for record in chosen]) if chosen else [])
        return [apply(item, next(results)) if _is_open(item) else item for item in batch]

    batches = _batches(items, worker.batch_size)
    for done in map_in_threads(run, batches, worker.num_at_once):
        yield from done


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _is_open(item: Item) -> TypeGuard[CaptionRecord]:
    return isinstance(item, CaptionRecord) and item.status != "failed"


def _failed(record: CaptionRecord, stage: str, failure: Failure, **tool: Tool) -> CaptionRecord:
    return dataclasses.replace(record, status="failed", error=f"{stage}: {failure.reason}", **tool)
