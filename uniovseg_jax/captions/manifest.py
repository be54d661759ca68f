"""`manifest.json` of an output of the text pipeline: what is finished, down to digests.

It is rewritten, whole, after every shard; what it does not list is not finished.
"""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

from uniovseg_jax.data.manifest import MANIFEST_FILE, Shard
from uniovseg_jax.files import write_text_whole

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class CaptionManifest:
    """How far an output folder is.

    Attributes:
      settings: All that decides what is written: source, tools, form of the output.
      done: Whether everything of the source is in.
      position: Entries of the source that the shards and the two lists account for.
      last_id: Of the last of them, to notice a source that changed; a name if it was skipped.
      num_records: Of all shards.
      num_empty: Of them, those without entities.
      num_entities: Of all records.
      failed: Records that a stage gave up; `failed.jsonl` holds them.
      skipped: Entries that are no records, by reason; `skipped.jsonl` names them.
      list_bytes: Sizes of `failed.jsonl` and `skipped.jsonl` by name; what lies behind is not
        accounted for.
      shards: In the order of the records.
    """

    settings: dict[str, Any]
    done: bool = False
    position: int = 0
    last_id: str = ""
    num_records: int = 0
    num_empty: int = 0
    num_entities: int = 0
    failed: int = 0
    skipped: dict[str, int] = dataclasses.field(default_factory=dict)
    list_bytes: dict[str, int] = dataclasses.field(default_factory=dict)
    shards: tuple[Shard, ...] = ()

    def to_document(self) -> dict[str, Any]:
        """Returns what the file holds; `digest` covers all else, and so every byte of the data."""
        document = {"format": FORMAT, **dataclasses.asdict(self)}
        document["skipped"] = dict(sorted(self.skipped.items()))
        document["shards"] = [
            {
                "shard": shard.file,
                "count": shard.records,
                "bytes": shard.bytes,
                "sha256": shard.sha256,
                "done": True,
            }
            for shard in self.shards
        ]
        text = json.dumps(document, sort_keys=True)
        return {**document, "digest": hashlib.sha256(text.encode()).hexdigest()}


def write_caption_manifest(directory: pathlib.Path, manifest: CaptionManifest) -> None:
    """Replaces `manifest.json`.

    Raises:
      OSError: If it cannot be written.
    """
    text = json.dumps(manifest.to_document(), indent=1) + "\n"
    write_text_whole(directory / MANIFEST_FILE, text)


def read_caption_manifest(directory: pathlib.Path) -> CaptionManifest | None:
    """Reads and checks `manifest.json`.

    Returns:
      Its content; None where there is no such file.

    Raises:
      ValueError: If it is damaged, of another format, or that of something else.
    """
    path = directory / MANIFEST_FILE
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_bytes())
        if isinstance(document, dict) and "num_masks" in document:
            raise ValueError(f"{path} is that of image-mask records, not of captions.")
        fields = {name: document[name] for name in _FIELDS}
        fields["shards"] = tuple(
            Shard(entry["shard"], entry["count"], entry["bytes"], entry["sha256"])
            for entry in document["shards"]
        )
        manifest = CaptionManifest(**fields)
        if manifest.to_document() == document:
            return manifest
    except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError):
        pass
    raise ValueError(f"{path} is damaged, or of another version: its digest does not fit.")


_FIELDS = tuple(field.name for field in dataclasses.fields(CaptionManifest))
