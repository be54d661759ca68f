"""The manifest of a folder of shards: what a finished folder holds, down to digests.

It is written last and whole. A folder without one is unfinished.
"""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

from uniovseg_jax.files import write_text_whole

FORMAT = 1
MANIFEST_FILE = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of records.

    Attributes:
      file: Its name within the folder.
      records: How many it holds.
      bytes: Its size.
      sha256: Of all its bytes.
    """

    file: str
    records: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a finished folder holds.

    Attributes:
      source: What was read, and with which options.
      sample: `by` ("image" or "tar"), `share` and `seed`; see `mask_sources.sampling`.
      num_records: Of all shards.
      num_masks: Of all records.
      skipped: Records left out, by reason; `skipped.jsonl` names them.
      dropped_masks: Masks left out of the records that were kept, by reason.
      shards: In the order of the records.
    """

    source: dict[str, Any]
    sample: dict[str, Any]
    num_records: int
    num_masks: int
    skipped: dict[str, int]
    dropped_masks: dict[str, int]
    shards: tuple[Shard, ...]

    @property
    def digest(self) -> str:
        """Of everything above; through the digests of the shards, of every byte of the data."""
        content = {"format": FORMAT, **dataclasses.asdict(self)}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_manifest(directory: pathlib.Path, manifest: Manifest) -> None:
    """Writes `manifest.json`, by which the folder becomes readable."""
    document = {"format": FORMAT, "digest": manifest.digest, **dataclasses.asdict(manifest)}
    text = json.dumps(document, indent=1) + "\n"
    write_text_whole(directory / MANIFEST_FILE, text)


def read_manifest(directory: pathlib.Path) -> Manifest:
    """Reads and checks `manifest.json`.

    Raises:
      FileNotFoundError: If there is none.
      ValueError: If it is damaged or of another format.
    """
    path = directory / MANIFEST_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{directory} has no {MANIFEST_FILE}: its conversion did not finish; run it again."
        )
    try:
        document = json.loads(path.read_bytes())
        version, digest = document.pop("format"), document.pop("digest")
        if version == FORMAT:
            shards = tuple(Shard(**shard) for shard in document.pop("shards"))
            manifest = Manifest(**document, shards=shards)
            if manifest.digest == digest:
                return manifest
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        version = FORMAT
    if version != FORMAT:
        raise ValueError(f"{path} has format {str(version)[:20]}; this version reads {FORMAT}.")
    raise ValueError(f"{path} is damaged: its digest does not fit its content.")


def file_sha256(path: pathlib.Path) -> str:
    """Returns the digest of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
