"""Images with captions for the tests of the text pipeline, and short ways to run it."""

import io
import json
import pathlib

import numpy as np
from PIL import Image

from configs.captions import get_config
from uniovseg_jax.captions.from_config import Tools
from uniovseg_jax.captions.preparation import prepare_captions

COLOURS = ("red", "blue", "green", "yellow", "black")
THINGS = ("ball", "house", "dog", "car", "tree", "boat", "chair")


def caption_of(number):
    """Returns a caption of its own for every number."""
    colour, thing = COLOURS[number % 5], THINGS[number % 7]
    return f"A {colour} {thing}, sample {number}, on the grass"


def jpeg_of(number, hw=(24, 32)):
    """Returns a small JPEG file of its own for every number."""
    pixels = np.full((*hw, 3), (number * 37 % 256, number // 7 % 256, number % 251), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def write_images(folder, count):
    """Writes `<number>.jpg` files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number}.jpg").write_bytes(jpeg_of(number))


def write_jsonl(path, lines):
    """Writes values as lines of JSON; text as it is."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def write_input(root, count):
    """Writes images and `captions.jsonl`."""
    write_images(root / "images", count)
    lines = [{"image": f"{n}.jpg", "caption": caption_of(n)} for n in range(count)]
    write_jsonl(root / "captions.jsonl", lines)


def make_config(root, options="", server=None, **values):
    """Returns the configuration for what `write_input` wrote.

    Args:
      root: Its folder.
      options: Behind the source, such as `parser=llm`.
      server: That is asked, with small waits.
      values: Of the configuration, `__` for a dot.
    """
    config = get_config(",".join(["jsonl", *filter(None, [options])]))
    config.source.path, config.source.images = f"{root}/captions.jsonl", f"{root}/images"
    for stage in (config.refiner, config.parser):
        if server is not None and "base_url" in stage:
            stage.update(base_url=server.url, model="fake", deadline=1.0, backoff=0.01)
    for name, value in values.items():
        config.update_from_flattened_dict({name.replace("__", "."): value})
    return config


def run(config, output, cache=None, limit=None, part=None):
    """Runs the pipeline; returns the manifest and the number of calls."""
    cache = pathlib.Path(cache or f"{output}.answers.sqlite")
    with Tools(config, cache, limit, part) as tools:
        manifest = prepare_captions(tools.plan, pathlib.Path(output))
        return manifest, sum(chat.num_calls for chat in tools.chats.values())


def read_lines(folder, pattern="captions-*.jsonl"):
    """Returns the documents of all lines of JSON in files of a folder."""
    files = sorted(pathlib.Path(folder).glob(pattern))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def contents(folder):
    """Returns the bytes of every file by name."""
    return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir()}
