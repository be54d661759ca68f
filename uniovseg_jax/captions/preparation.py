"""The whole text pipeline: read, refine, parse, write, and come back where it was left."""

import contextlib
import dataclasses
import hashlib
import itertools
import pathlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import tqdm

from uniovseg_jax.captions.images import ImageFolder
from uniovseg_jax.captions.manifest import CaptionManifest
from uniovseg_jax.captions.parsers import Parser
from uniovseg_jax.captions.record import CaptionRecord
from uniovseg_jax.captions.refine import Refiner
from uniovseg_jax.captions.sources.source import EXPECTED_REASONS, CaptionSource
from uniovseg_jax.captions.stages import Item, check_images, parse, refine
from uniovseg_jax.captions.writer import FAILED_FILE, CaptionWriter, check_output
from uniovseg_jax.data.mask_sources.source import Skipped
from uniovseg_jax.data.shard_writer import SKIPPED_FILE
from uniovseg_jax.locks import held_alone

# After so many entries a share of bad ones that is twice what is allowed ends the run.
_EARLY = 200


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes:
      source: Where records come from.
      images: Where their images are; None if nobody looks at them.
      refiner: Makes the captions.
      parser: Makes the entities.
      max_entities: Each record keeps at most so many.
      form: `jsonl` or `array_record`.
      records_per_shard: Of every shard but the last.
      max_skipped: Largest share of entries that may be unusable, from 0 to 1.
      max_failed: Largest share of records that a stage may give up, from 0 to 1.
      settings: Of the tools, for the manifest: all that decides what they make.
      limit: Only so many entries; None for all.
      part: Number i, from 0, and n: only every n-th entry, from the i-th on; None for all.
    """

    source: CaptionSource
    images: ImageFolder | None
    refiner: Refiner
    parser: Parser
    max_entities: int
    form: str
    records_per_shard: int
    max_skipped: float
    max_failed: float
    settings: dict[str, Any]
    limit: int | None = None
    part: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        for name in ("max_entities", "records_per_shard"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("max_skipped", "max_failed"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie from 0 to 1, got {getattr(self, name)}.")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be at least 1, got {self.limit}.")

    def describe(self) -> dict[str, Any]:
        """Returns all that decides what is written, without paths of this machine."""
        return {
            "source": self.source.describe(),
            **self.settings,
            "max_entities": self.max_entities,
            "form": self.form,
            "records_per_shard": self.records_per_shard,
            "limit": self.limit,
            "part": self.part,
        }

    def entries(self) -> Iterator[Item]:
        """Yields the entries of the source that this run is about; an id counts once."""
        seen: set[bytes] = set()
        chosen = _every(self.source.records(), self.part, seen)
        return itertools.islice(chosen, self.limit)


def prepare_captions(plan: Plan, output: pathlib.Path) -> CaptionManifest:
    """Runs the pipeline, or the rest of it; shows a progress bar.

    Args:
      plan: What to do.
      output: Folder to write to. What a killed run finished in it is kept; a finished one with the
        same settings is left as it is.

    Returns:
      The manifest of the finished folder.

    Raises:
      ValueError: If too many entries were skipped or failed, none is left, the source is broken as
        a whole or changed since the run began, a server refuses every question, or the folder
        cannot be used. What is finished by then stays, and the next run goes on from there.
      OSError: If something cannot be written.
    """
    settings = plan.describe()
    # Before the lock, which would leave its trace in a folder that is not to be touched.
    check_output(output, settings)
    with (
        held_alone(output, "run"),
        CaptionWriter(output, settings, plan.form, plan.records_per_shard) as writer,
    ):
        if writer.manifest.done:
            return writer.manifest
        entries = plan.entries()
        _go_to(entries, writer.manifest)
        items: Iterable[Item] = entries
        if plan.images is not None:
            items = check_images(items, plan.images)
        counts = _Counts()
        with (
            # Closed at once when something goes wrong, so that its threads take up nothing new.
            contextlib.closing(
                parse(refine(items, plan.refiner), plan.parser, plan.max_entities)
            ) as done,
            tqdm.tqdm(
                desc="captions",
                initial=writer.manifest.position,
                total=_total(plan),
                unit="img",
                mininterval=1.0 if sys.stderr.isatty() else 60.0,
            ) as bar,
        ):
            for item in done:
                writer.write(item)
                counts.add(item)
                bar.set_postfix(failed=counts.failed, skipped=counts.skipped, refresh=False)
                bar.update()
                if counts.good + counts.failed + counts.skipped >= _EARLY:
                    counts.check(2 * plan.max_skipped, 2 * plan.max_failed, output)
        # Of all runs that led here, not of this one alone.
        counts = writer.counts(EXPECTED_REASONS)
        _Counts(*counts).check(plan.max_skipped, plan.max_failed, output)
        if not counts[0]:
            raise ValueError("The source has no record that could be written.")
        return writer.finish()


@dataclasses.dataclass
class _Counts:
    """Records written, failed, and entries skipped without a good reason."""

    good: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, item: Item) -> None:
        if isinstance(item, Skipped):
            self.skipped += item.reason not in EXPECTED_REASONS
        else:
            self.failed += item.status == "failed"
            self.good += item.status != "failed"

    def check(self, max_skipped: float, max_failed: float, output: pathlib.Path) -> None:
        seen = self.good + self.failed
        if self.failed > max_failed * seen:
            raise ValueError(
                f"{self.failed} of {seen} records failed, more than max_failed allows; "
                f"{output / FAILED_FILE} says why. Answers so far are in the cache: to ask the "
                "failed ones again, delete the folder and repeat the command."
            )
        if self.skipped > max_skipped * (seen + self.skipped):
            raise ValueError(
                f"{self.skipped} of {seen + self.skipped} entries were skipped, more than "
                f"max_skipped allows; {output / SKIPPED_FILE} names them."
            )


def _every(items: Iterator[Item], part: tuple[int, int] | None, seen: set[bytes]) -> Iterator[Item]:
    first, step = part or (0, 1)
    for index, item in enumerate(items):
        if isinstance(item, CaptionRecord):
            # Digests, as ids of a million images would fill the memory.
            digest = hashlib.blake2b(item.id.encode(), digest_size=16).digest()
            if digest in seen:
                item = Skipped(item.id, "repeated id", "An entry before it has the same id.")
            seen.add(digest)
        if index % step == first:
            yield item


def _go_to(entries: Iterator[Item], manifest: CaptionManifest) -> None:
    """Passes over what is accounted for."""
    last = None
    for last in itertools.islice(entries, manifest.position):  # noqa: B007
        pass
    name = "" if last is None else last.id if isinstance(last, CaptionRecord) else last.name
    if manifest.position and name != manifest.last_id:
        raise ValueError(
            f"The source has changed since the run began: entry {manifest.position - 1} is "
            f"{name!r}, it was {manifest.last_id!r}; delete the folder and begin anew."
        )


def _total(plan: Plan) -> int | None:
    total = plan.source.total
    if total is not None and plan.part:
        total = len(range(plan.part[0], total, plan.part[1]))
    return total if plan.limit is None else min(plan.limit, total or plan.limit)
