r"""Turns images with captions into what stage 2 learns from; docs/captions.md explains it all.

  python scripts/prepare_captions.py --config=configs/captions.py:jsonl,output=array_record \
      --config.source.path=captions.jsonl --config.source.images=images \
      --output=data/captions
  python scripts/prepare_captions.py --dry_run=3 --output=data/refined \
      --config=configs/captions.py:webdataset_tar,refiner=openai_compatible,parser=llm \
      --config.source.path=<folder of tars> --config.refiner.base_url=http://localhost:8000/v1 \
      --config.refiner.model=<name> --config.parser.model=<name>

A run that was stopped goes on where it was when the same command is given again.
Exit code: 0, or 2 with one sentence that says why nothing was finished.
"""

import pathlib
import re
import sys

from absl import app, flags
from ml_collections import config_flags

from uniovseg_jax.captions.caption_records import part_name
from uniovseg_jax.captions.chat.openai_chat import OpenAiChat
from uniovseg_jax.captions.estimate import Price, dry_run
from uniovseg_jax.captions.from_config import Tools
from uniovseg_jax.captions.preparation import prepare_captions
from uniovseg_jax.command_line import goes_on_when_repeated, parse_flags

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "configs/captions.py, a colon, and the source with its options."
)
flags.DEFINE_string("output", None, "Folder for the records; made when needed.", required=True)
flags.DEFINE_integer(
    "dry_run", None, "Show the requests of so many records and estimate all; ask and write nothing."
)
flags.DEFINE_integer("limit", None, "Only so many entries of the source.")
flags.DEFINE_string(
    "shard", None, "i/n, i from 0: only every n-th entry, written to a folder within the output."
)
flags.mark_flag_as_required("config")
FLAGS = flags.FLAGS


def read_part() -> tuple[int, int] | None:
    """Returns --shard as numbers."""
    if FLAGS.shard is None:
        return None
    match = re.fullmatch(r"(\d{1,4})/(\d{1,4})", FLAGS.shard)
    if not match or not int(match[1]) < int(match[2]):
        raise ValueError(f"--shard is {FLAGS.shard!r}, expected i/n such as 0/8, i from 0 to n-1.")
    return int(match[1]), int(match[2])


def run() -> str:
    """Does what the flags say and returns what there is to say about it."""
    config, output, part = _CONFIG.value, pathlib.Path(FLAGS.output), read_part()
    if FLAGS.dry_run is not None:
        if FLAGS.dry_run < 1:
            raise ValueError(f"--dry_run must be at least 1, got {FLAGS.dry_run}.")
        with Tools(config, None, FLAGS.limit, part) as tools:
            stages = {"refine": config.refiner, "parse": config.parser}
            prices = {
                stage: Price(each.get("price_in", 0.0), each.get("price_out", 0.0))
                for stage, each in stages.items()
            }
            return dry_run(tools.plan, tools.chats, prices, FLAGS.dry_run)
    name = str(output).rstrip("/")
    if part is not None:
        output = output / part_name(part)
        # Parts run on several machines, and SQLite shares no file over a network.
        name = f"{name}.{part_name(part)}"
    # Beside the folder, as that may be deleted and made anew.
    cache = pathlib.Path(config.cache or f"{name}.answers.sqlite")
    with Tools(config, cache, FLAGS.limit, part) as tools:
        manifest = prepare_captions(tools.plan, output)
        servers = [chat for chat in tools.chats.values() if isinstance(chat, OpenAiChat)]
        calls = sum(chat.num_calls for chat in servers)
    asked = f", {calls} calls to servers" if servers else ""
    missed = ""
    if config.source.get("exclude") and not manifest.skipped.get("excluded"):
        missed = "\nconfig.source.exclude left nothing out: no entry is an image of that file."
    return (
        f"{manifest.num_records} records with {manifest.num_entities} entities in "
        f"{len(manifest.shards)} shards, {manifest.num_empty} without any, {manifest.failed} "
        f"failed, {sum(manifest.skipped.values())} skipped{asked}: {output}{missed}"
    )


def main(_: list[str]) -> int:
    goes_on_when_repeated()
    try:
        print(run())
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
