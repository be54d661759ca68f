"""From any mask source to a finished folder of shards.

One process lists what there is and writes; several read and check. The records keep the order of
the source, so that the number of processes changes nothing in the files.
"""

import collections
import dataclasses
import json
import pathlib
import sys

import tqdm

from uniovseg_jax.data.encoded_images import upright_image
from uniovseg_jax.data.manifest import Manifest, write_manifest
from uniovseg_jax.data.mask_sources.sampling import Sample
from uniovseg_jax.data.mask_sources.source import MAX_IMAGE_BYTES, Candidate, MaskSource, Skipped
from uniovseg_jax.data.records import check_masks, encode_record
from uniovseg_jax.data.shard_writer import SKIPPED_FILE, ShardWriter, check_folder
from uniovseg_jax.data.workers import map_in_order
from uniovseg_jax.locks import held_alone

# After so many records a share of skipped ones that is twice what is allowed ends the conversion.
_EARLY = 1_000


@dataclasses.dataclass(frozen=True)
class EncodedRecord:
    """A record ready to be written.

    Attributes:
      id: Of the record.
      name: Of the candidate that it was made from.
      encoded: Its bytes.
      num_masks: That it holds.
      dropped: Masks that it does not hold, by reason.
    """

    id: str
    name: str
    encoded: bytes
    num_masks: int
    dropped: dict[str, int]


def convert(
    source: MaskSource,
    output: pathlib.Path,
    sample: Sample,
    records_per_shard: int,
    max_skipped: float,
    num_workers: int,
) -> Manifest:
    """Converts a source to shards; shows a progress bar.

    Args:
      source: Where records come from; it samples by itself.
      output: Folder to write to. What a killed conversion left in it is deleted first.
      sample: That of the source, for the manifest.
      records_per_shard: Of every shard but the last.
      max_skipped: Largest share of candidates that may be skipped, from 0 to 1.
      num_workers: Processes that read and check; below 2 the calling process does.

    Returns:
      The manifest that was written.

    Raises:
      ValueError: If too many records were skipped, none is left, the source is broken as a whole,
        or the folder cannot be used or another conversion writes to it. No manifest is written
        then; `skipped.jsonl` stays.
      OSError: If something cannot be written.
    """
    if not 0 <= max_skipped <= 1:
        raise ValueError(f"max_skipped must lie from 0 to 1, got {max_skipped}.")
    # Before the lock, which would leave its trace in a folder that is not to be touched.
    check_folder(output)
    # Kept until the manifest is written: shards without one are there to be cleared.
    with held_alone(output, "conversion"):
        skipped, dropped = collections.Counter[str](), collections.Counter[str]()
        ids: set[str] = set()
        num_masks = 0
        with (
            ShardWriter(output, records_per_shard) as writer,
            (output / SKIPPED_FILE).open("w", encoding="utf-8") as skipped_file,
            tqdm.tqdm(
                desc="converting",
                total=source.total,
                unit="img",
                mininterval=1.0 if sys.stderr.isatty() else 60.0,
            ) as bar,
        ):
            for made in map_in_order(make_record, source.candidates(), num_workers):
                if isinstance(made, EncodedRecord) and made.id in ids:
                    made = Skipped(
                        made.name, "repeated id", f"Another record has the id {made.id!r}."
                    )
                if isinstance(made, Skipped):
                    skipped[made.reason] += 1
                    skipped_file.write(json.dumps(dataclasses.asdict(made)) + "\n")
                    skipped_file.flush()
                else:
                    writer.write(made.encoded)
                    ids.add(made.id)
                    num_masks += made.num_masks
                    dropped.update(made.dropped)
                bar.set_postfix(masks=num_masks, skipped=skipped.total(), refresh=False)
                bar.update()
                seen = len(ids) + skipped.total()
                if seen >= _EARLY and skipped.total() > 2 * max_skipped * seen:
                    break
            _check_skipped(skipped, len(ids), max_skipped, output)
        manifest = Manifest(
            source=source.describe(),
            sample=sample.describe(),
            num_records=len(ids),
            num_masks=num_masks,
            skipped=dict(sorted(skipped.items())),
            dropped_masks={reason: count for reason, count in sorted(dropped.items()) if count},
            shards=tuple(writer.shards),
        )
        write_manifest(output, manifest)
        return manifest


def make_record(candidate: Candidate | Skipped) -> EncodedRecord | Skipped:
    """Reads and checks one candidate completely; passes on what is skipped already."""
    if isinstance(candidate, Skipped):
        return candidate
    reason = "bad annotation"
    try:
        annotation = candidate.read_annotation()
        reason = "bad image"
        encoded, height, width = upright_image(candidate.image.read(MAX_IMAGE_BYTES), "The image")
        reason = "other size"
        if (height, width) != (annotation.height, annotation.width):
            raise ValueError(
                f"The image has {height} x {width} pixels (upright), its annotation says "
                f"{annotation.height} x {annotation.width}."
            )
        reason = "bad masks"
        masks, num_empty = check_masks(annotation.masks, height, width)
        dropped = {**annotation.dropped, "empty": num_empty}
        if not masks:
            reason = "no masks"
            raise ValueError(f"No mask is left; dropped: {dropped}.")
        record = {
            "id": candidate.id,
            "image": encoded,
            "height": height,
            "width": width,
            "masks": masks,
        }
        content = encode_record(record)
    except ValueError as error:
        return Skipped(candidate.name, reason, str(error))
    return EncodedRecord(candidate.id, candidate.name, content, len(masks), dropped)


def _check_skipped(
    skipped: collections.Counter[str], num_records: int, max_skipped: float, output: pathlib.Path
) -> None:
    seen = num_records + skipped.total()
    reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.most_common())
    if skipped.total() > max_skipped * seen:
        raise ValueError(
            f"{skipped.total()} of {seen} records were skipped ({reasons}), more than the share "
            f"of {max_skipped:g} that is allowed; {output / SKIPPED_FILE} names them."
        )
    if not num_records:
        raise ValueError("The source has no record in the sample.")
