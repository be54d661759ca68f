"""The last stage: shards, the two lists of what is not in them, and the manifest.

The folder can be left at any moment. Who comes back finds in the manifest how many entries of the
source are accounted for, removes what lies beyond, and goes on from there to the same bytes.
"""

import collections
import dataclasses
import json
import pathlib
import re
from collections.abc import Collection
from typing import Any, TextIO

from uniovseg_jax.captions.manifest import (
    CaptionManifest,
    read_caption_manifest,
    write_caption_manifest,
)
from uniovseg_jax.captions.record import CaptionRecord, to_json
from uniovseg_jax.captions.shards import SHARD_FILES, ShardFile
from uniovseg_jax.data.manifest import MANIFEST_FILE, Shard, file_sha256
from uniovseg_jax.data.mask_sources.source import Skipped
from uniovseg_jax.data.shard_writer import SKIPPED_FILE
from uniovseg_jax.locks import LOCK_FILE, check_only_ours
from uniovseg_jax.settings import as_json, first_difference

FAILED_FILE = "failed.jsonl"
_SHARD = r"captions-\d{5}\.(?:jsonl|array_record)"
_OURS = re.compile(
    rf"{re.escape(LOCK_FILE)}|{_SHARD}|\.{_SHARD}\.tmp|{re.escape(SKIPPED_FILE)}"
    rf"|{re.escape(FAILED_FILE)}|{re.escape(MANIFEST_FILE)}"
    rf"|\.{re.escape(MANIFEST_FILE)}\.[0-9a-f]{{8}}\.tmp\.json"
)


class CaptionWriter:
    """Writes what comes out of the stages; use as a context, within the folder's lock.

    Attributes:
      manifest: What is finished.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        settings: dict[str, Any],
        form: str,
        records_per_shard: int,
    ):
        """Opens a folder, new or left behind, and clears what is not accounted for.

        Args:
          directory: That only this process uses.
          settings: All that decides what is written; those of a folder left behind must be equal.
          form: `jsonl` or `array_record`, which needs records with their images.
          records_per_shard: Of every shard but the last.

        Raises:
          ValueError: If the folder holds something else, or is damaged.
        """
        self._directory, self._form = directory, form
        self._per_shard = records_per_shard
        check_output(directory, settings)
        self.manifest = read_caption_manifest(directory) or CaptionManifest(as_json(settings))
        self._lists: dict[str, TextIO] = {}
        self._file: ShardFile | None = None
        self._in_shard = 0
        if self.manifest.done:
            return
        kept = {shard.file for shard in self.manifest.shards} | {LOCK_FILE, MANIFEST_FILE}
        for path in list(directory.iterdir()):
            if path.name not in kept | {FAILED_FILE, SKIPPED_FILE}:
                path.unlink()
        for shard in self.manifest.shards:
            path = directory / shard.file
            if not path.is_file() or path.stat().st_size != shard.bytes:
                raise ValueError(
                    f"{path} is missing or not what was written: delete {directory} and begin anew."
                )
        # Counted on from here, also what no shard is finished for yet.
        self._now = dataclasses.asdict(self.manifest)
        self._skipped = collections.Counter(self.manifest.skipped)
        for name in (FAILED_FILE, SKIPPED_FILE):
            self._lists[name] = self._open_list(name)

    def __enter__(self) -> "CaptionWriter":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._lists.values():
            file.close()
        if self._file is not None:
            # Unfinished; what went wrong first is what counts.
            try:
                self._file.close()
            except OSError:
                pass
            self._temporary().unlink(missing_ok=True)

    def write(self, item: CaptionRecord | Skipped) -> None:
        """Puts an entry where it belongs.

        Raises:
          OSError: If it cannot be written.
        """
        self._now["position"] += 1
        if isinstance(item, Skipped):
            self._skipped[item.reason] += 1
            self._now["last_id"] = item.name
            self._list(SKIPPED_FILE, json.dumps(dataclasses.asdict(item)))
            return
        self._now["last_id"] = item.id
        if item.status == "failed":
            self._now["failed"] += 1
            self._list(FAILED_FILE, to_json(item))
            return
        file = self._file or SHARD_FILES[self._form](self._temporary())
        self._file = file
        file.write(item)
        self._now["num_records"] += 1
        self._now["num_empty"] += item.status == "empty"
        self._now["num_entities"] += len(item.entities)
        self._in_shard += 1
        if self._in_shard == self._per_shard:
            self._finish_shard(done=False)

    def counts(self, expected_reasons: Collection[str]) -> tuple[int, int, int]:
        """Returns records, failed ones, and entries skipped for other reasons, of all runs."""
        skipped = sum(
            count for reason, count in self._skipped.items() if reason not in expected_reasons
        )
        return self._now["num_records"], self._now["failed"], skipped

    def finish(self) -> CaptionManifest:
        """Ends the last shard and says that everything is in."""
        self._finish_shard(done=True)
        return self.manifest

    def _finish_shard(self, done: bool) -> None:
        shards = list(self.manifest.shards)
        if self._file is not None:
            temporary, file, self._file = self._temporary(), self._file, None
            file.close()
            path = self._directory / f"captions-{len(shards):05d}{file.suffix}"
            temporary.rename(path)
            size = path.stat().st_size
            shards.append(Shard(path.name, self._in_shard, size, file_sha256(path)))
            self._in_shard = 0
        sizes = {}
        for name, file in self._lists.items():
            file.flush()
            sizes[name] = (self._directory / name).stat().st_size
        self._now.update(
            done=done, skipped=dict(self._skipped), list_bytes=sizes, shards=tuple(shards)
        )
        self.manifest = CaptionManifest(**self._now)
        write_caption_manifest(self._directory, self.manifest)

    def _open_list(self, name: str) -> TextIO:
        path, size = self._directory / name, self.manifest.list_bytes.get(name, 0)
        path.touch()
        if path.stat().st_size < size:
            raise ValueError(f"{path} was cut: delete {self._directory} and begin anew.")
        with path.open("r+b") as file:
            file.truncate(size)
        return path.open("a", encoding="utf-8", newline="\n")

    def _list(self, name: str, line: str) -> None:
        self._lists[name].write(line + "\n")
        self._lists[name].flush()

    def _temporary(self) -> pathlib.Path:
        suffix = SHARD_FILES[self._form].suffix
        return self._directory / f".captions-{len(self.manifest.shards):05d}{suffix}.tmp"


def check_output(directory: pathlib.Path, settings: dict[str, Any]) -> None:
    """Makes sure that a run with these settings may write to a folder; changes nothing.

    Raises:
      ValueError: If it holds anything else.
    """
    check_only_ours(directory, _OURS, "this pipeline did not write")
    manifest = read_caption_manifest(directory)
    if manifest is None:
        return
    if other := first_difference(manifest.settings, as_json(settings)):
        raise ValueError(
            f"{directory} was written with other settings ({other}); delete it or choose another "
            "folder. Answers of models are kept in the cache and cost nothing again."
        )
