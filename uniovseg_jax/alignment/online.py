"""Batches of stage 2 that are matched as they come, by the generator whose output a store keeps."""

import collections
import dataclasses
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from uniovseg_jax.alignment.captioned import CaptionedImages
from uniovseg_jax.alignment.pairs import choose_confident, match_costs, pair_margins
from uniovseg_jax.alignment.reading import read_boxed
from uniovseg_jax.alignment.regions import BoxedImage, PendingRegions, RegionGenerator, Regions
from uniovseg_jax.captions.record import CaptionRecord, from_json, to_json
from uniovseg_jax.data import pipeline
from uniovseg_jax.data.skipped import SkippedRecords

Batch = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Matcher:
    """Turns captioned images into examples of stage 2.

    Attributes:
      generator: Finds regions and costs.
      with_maps: Whether examples hold images and masks, for adapters of mode `dense`, in place of
        pooled vectors.
    """

    generator: RegionGenerator
    with_maps: bool

    def start(self, rows: Sequence[tuple[CaptionRecord, BoxedImage]]) -> list[PendingRegions]:
        """Gives work to the device, in parts of the generator's batch size, for `finish`."""
        size = self.generator.config.batch_size
        parts = (rows[first : first + size] for first in range(0, len(rows), size))
        return [self.generator.start(part) for part in parts]

    def finish(self, started: Sequence[PendingRegions]) -> Batch:
        """Matches on the host.

        Returns:
          Per image and entity slot: `text` (the target), `entity` (equal for equal names), `valid`,
          and `pooled` or `masks`; with maps also `image`.
        """
        config = self.generator.config
        found = [regions for pending in started for regions in pending.wait()]
        pairs = [match_costs(r.costs, config.topk, config.min_cosine) for r in found]
        margins = [pair_margins(r.costs, p) for r, p in zip(found, pairs, strict=True)]
        if sum(map(len, pairs)):
            # Of these images; the store has the margins of all.
            kept = choose_confident(np.concatenate(margins), config.confident_share)
            ends = np.cumsum([len(p) for p in pairs])[:-1]
            pairs = [p[k] for p, k in zip(pairs, np.split(kept, ends), strict=True)]
        batch = self._empty_batch(found)
        for i, regions in enumerate(found):
            if self.with_maps:
                batch["image"][i] = regions.boxed.pixels
            for slot, (region, entity) in enumerate(pairs[i].tolist()):
                name = regions.caption.names[entity]
                batch["text"][i, slot] = self.generator.encoder.embed([name])[0]
                batch["entity"][i, slot] = zlib.crc32(name.encode()) & 0x7FFFFFFF
                batch["valid"][i, slot] = True
                if self.with_maps:
                    batch["masks"][i, slot] = regions.mask_logits[region]
                else:
                    for key, values in batch["pooled"].items():
                        values[i, slot] = regions.pooled[key][region]
        return batch

    def _empty_batch(self, found: Sequence[Regions]) -> Batch:
        lead = (len(found), self.generator.config.max_entities)
        first = found[0]
        batch: Batch = {
            "text": np.zeros((*lead, self.generator.width), np.float32),
            "entity": np.zeros(lead, np.int32),
            "valid": np.zeros(lead, bool),
        }
        if self.with_maps:
            batch["image"] = np.zeros((len(found), *first.boxed.pixels.shape), np.uint8)
            batch["masks"] = np.full((*lead, *first.mask_logits.shape[1:]), -1, np.float32)
        else:
            batch["pooled"] = {
                key: np.zeros((*lead, values.shape[1]), np.float32)
                for key, values in first.pooled.items()
            }
        return batch


class OnlineBatches:
    """Endless batches of images in an order that the seed says; one is matched ahead."""

    def __init__(
        self,
        images: CaptionedImages,
        matcher: Matcher,
        batch_size: int,
        seed: int,
        share: tuple[int, int] = (0, 1),
        num_threads: int = 0,
        max_skipped: float = 0.0,
    ):
        """Prepares to read.

        Args:
          images: To learn from; those without entities weigh nothing.
          matcher: Of this process's share of a batch.
          batch_size: Images per batch, those of other processes included.
          seed: Decides the order.
          share: Number of this process and of all processes.
          num_threads: That read images ahead of time; 0 for one per core.
          max_skipped: Largest share of images that cannot be read.
        """
        self._matcher = matcher
        side, skipped = matcher.generator.side, SkippedRecords(max_skipped)

        def read(position: int, index: int) -> dict[str, np.ndarray]:
            del position
            caption, boxed = read_boxed(images, index, side, skipped)
            return {
                "pixels": boxed.pixels,
                "sizes": np.array([boxed.content_wh, boxed.image_wh]),
                "caption": np.array(to_json(caption), object),
            }

        self._read = pipeline.make_batches(
            range(len(images)), read, batch_size, seed, share, num_threads
        )

    def __iter__(self) -> "_OnlineIterator":
        return _OnlineIterator(self._matcher, iter(self._read))


class _OnlineIterator:
    """Its state is that of the images, before the batch that is matched ahead was read."""

    def __init__(self, matcher: Matcher, read: Any):
        self._matcher, self._read = matcher, read
        self._ahead: collections.deque[tuple[Any, list[PendingRegions]]] = collections.deque()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        while len(self._ahead) < 2:
            self._ahead.append((self._read.get_state(), self._start()))
        _, started = self._ahead.popleft()
        return self._matcher.finish(started)

    def get_state(self) -> Any:
        """Returns where to go on with the batch that comes next."""
        return self._ahead[0][0] if self._ahead else self._read.get_state()

    def set_state(self, state: Any) -> None:
        """Goes on from a state."""
        self._ahead.clear()
        self._read.set_state(state)

    def _start(self) -> list[PendingRegions]:
        batch = next(self._read)
        rows = []
        for text, pixels, sizes in zip(
            batch["caption"], batch["pixels"], batch["sizes"].tolist(), strict=True
        ):
            content_wh, image_wh = map(tuple, sizes)
            rows.append((from_json(str(text)), BoxedImage(pixels, content_wh, image_wh)))
        return self._matcher.start(rows)
