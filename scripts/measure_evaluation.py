r"""Measures where the time of an image goes when a benchmark is scored.

  python scripts/measure_evaluation.py --preset=released

Reads, segments, merges and scores photographs of noise by the names of COCO, ADE20K-150 and
ADE20K-847, on the tasks semantic, panoptic and instance. Sizes and thresholds are those of
configs/eval.py. The network has random weights; what is merged are as many smooth masks as the
protocol keeps at most, since random weights find none, each with most of its probability on a name
or two, as a trained CLIP gives it.
"""

import io
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from uniovseg_jax.command_line import parse_flags

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_CONFIG = config_flags.DEFINE_config_file(
    "config", f"{_ROOT / 'configs/eval.py'}:coco_panoptic", "Configuration and its protocol."
)

_PRESET = flags.DEFINE_string("preset", "released", "Model, see models/presets.py.")
_LISTS = ("coco_panoptic_133", "ade20k_150", "ade20k_847")
# CLIP's factor on cosines, and by how much of it a mask's own name is before the mean of all.
_LOGIT_SCALE, _LEAD = 100.0, 8.0
# Height and width of images, and what their sides become: COCO's, and those of Cityscapes.
_SIZES = (((480, 640), (800, 1333)), ((1024, 2048), (1024, 2560)))
_TRUE_SEGMENTS, _REPEATS = 20, 3


def main(_: list[str]) -> None:
    """Prints a table; a mistake ends it with one sentence."""
    logging.set_verbosity(logging.WARNING)
    try:
        measure()
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def measure() -> None:
    """Prints a row for every size and list of names."""
    from uniovseg_jax.eval.from_config import check_config

    check_config(_CONFIG.value)
    pretrained = random_model()
    with tempfile.TemporaryDirectory() as text_cache:
        measure_sizes(pretrained, text_cache)


def measure_sizes(pretrained: Any, text_cache: str) -> None:
    """Prints the rows; names are embedded once for all of them, which is not measured here."""
    from uniovseg_jax.benchmarks.benchmark import Benchmark
    from uniovseg_jax.eval.from_config import make_framing
    from uniovseg_jax.text_encoder import TextEncoder

    encoder = TextEncoder(pretrained, "single", text_cache)
    print("image | classes | load | network | merge | metric | merge and metric / network")
    for hw, resize in _SIZES:
        sized = Benchmark("noise", {}, resize=resize)
        framing = make_framing(_CONFIG.value, sized, pretrained.config)
        image = make_image(hw)
        network = None
        for name in _LISTS:
            segmenter = make_segmenter(pretrained, framing, name, text_cache)
            if network is None:
                network = seconds(lambda s=segmenter, i=image: s.propose(i))
            vectors = encoder.embed(segmenter.vocabulary.names)
            load, merge, metric = time_host(segmenter, vectors, framing(image), image, name)
            share = 100 * (merge + metric) / network
            print(
                f"{hw[1]} x {hw[0]} | {name.rpartition('_')[2]} | {load:.3f} | {network:.2f} | "
                f"{merge:.3f} | {metric:.3f} | {share:.1f} %",
                flush=True,
            )


def random_model() -> Any:
    """Returns a model with random weights and a tokenizer of few words."""
    import jax
    import numpy as np

    from uniovseg_jax.benchmarks.class_list import load_class_list
    from uniovseg_jax.models.presets import get_preset
    from uniovseg_jax.models.tokenizer import train_tokenizer
    from uniovseg_jax.models.uniovseg import UniOVSeg, init_variables
    from uniovseg_jax.weights.store import Pretrained

    config = get_preset(_PRESET.value)
    names = [info.name for info in load_class_list(_LISTS[-1]).classes]
    tokenizer = train_tokenizer(names, 1024, config.clip.context_length)
    variables = init_variables(config, jax.random.key(0), ("clip", "masks"))
    variables["params"]["clip"]["logit_scale"] = np.log(np.float32(_LOGIT_SCALE))
    return Pretrained(UniOVSeg(config), config, variables, tokenizer, ("clip", "masks"), {})


def make_segmenter(pretrained: Any, framing: Any, name: str, text_cache: str) -> Any:
    """Returns a segmenter of the configuration that knows the names of a list."""
    import dataclasses

    from uniovseg_jax.benchmarks.class_list import load_class_list
    from uniovseg_jax.eval.from_config import make_segmenter_config
    from uniovseg_jax.inference.segmenter import OpenVocabularySegmenter

    config = dataclasses.replace(make_segmenter_config(_CONFIG.value, framing), templates="single")
    segmenter = OpenVocabularySegmenter(pretrained, config, text_cache)
    segmenter.use_vocabulary(load_class_list(name).vocabulary())
    return segmenter


def time_host(
    segmenter: Any, vectors: Any, source: Any, image: Any, name: str
) -> tuple[float, float, float]:
    """Returns seconds of reading one image, and of merging and scoring it on all three tasks."""
    import numpy as np

    from uniovseg_jax.benchmarks.benchmark import Benchmark, TrueInstance
    from uniovseg_jax.benchmarks.class_list import load_class_list
    from uniovseg_jax.benchmarks.segment import Segment
    from uniovseg_jax.eval.stopwatch import Stopwatch
    from uniovseg_jax.eval.tasks import InstanceTask, PanopticTask, SemanticTask
    from uniovseg_jax.image_io import decode_image, read_labels
    from uniovseg_jax.inference.segmenter import ImageProposals
    from uniovseg_jax.masks import rle_encode

    classes, rng = load_class_list(name), np.random.default_rng(0)
    count = segmenter.config.proposals.max_proposals or 250
    logits = smooth_masks(count, source.pixels.shape[0] // 4, source.pixels.shape[1] // 4)
    embeddings = some_regions(vectors, count)
    scores = rng.uniform(0.5, 1, count).astype(np.float32)
    proposals = ImageProposals(source.full_size(logits), scores, embeddings)
    benchmark = Benchmark("noise", {}, classes=classes)
    cells = (1 + np.arange(_TRUE_SEGMENTS)).reshape(4, -1)
    rows = np.arange(image.shape[0]) * 4 // image.shape[0]
    columns = np.arange(image.shape[1]) * cells.shape[1] // image.shape[1]
    ids = cells[rows[:, None], columns].astype(np.int32)
    segments = tuple(Segment(n, n % len(classes)) for n in range(1, _TRUE_SEGMENTS + 1))
    objects = tuple(
        TrueInstance(rle_encode(mask), s.category, float(mask.sum()))
        for s in segments
        if (mask := ids == s.id).any() and classes.is_thing[s.category]
    )
    files = encode(image, "JPEG"), encode(ids.astype(np.uint8), "PNG")
    load = seconds(lambda: (decode_image(files[0], "image"), read_labels(files[1], "labels")))
    found = []
    for _ in range(_REPEATS):
        watch = Stopwatch()
        tasks = [task(benchmark, classes) for task in (SemanticTask, PanopticTask, InstanceTask)]
        truths: list[Any] = [ids - 1, (ids, segments), objects]
        for task, truth in zip(tasks, truths, strict=True):
            task.score("noise", truth, segmenter, proposals, watch)
        found.append((watch.seconds["merge"], watch.seconds["metric"]))
    merge, metric = (statistics.median(values) for values in zip(*found, strict=True))
    return load, merge, metric


def some_regions(vectors: Any, count: int) -> Any:
    """Returns unit vectors, each nearer to one of the vectors of names than to the others."""
    import numpy as np

    rng = np.random.default_rng(3)
    own = (vectors - vectors.mean(axis=0))[rng.integers(len(vectors), size=count)]
    own /= (own**2).sum(axis=1, keepdims=True)
    found = own * (_LEAD / _LOGIT_SCALE) + rng.normal(size=own.shape) / own.shape[1] ** 0.5
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def smooth_masks(count: int, h: int, w: int) -> Any:
    """Returns logits of discs of many sizes all over the map."""
    import numpy as np

    rng = np.random.default_rng(1)
    y, x = np.mgrid[:h, :w]
    centres = rng.uniform(0, 1, (count, 2)) * (h, w)
    radii = rng.uniform(0.03, 0.4, count) * min(h, w)
    logits = np.empty((count, h, w), np.float32)
    for logit, (cy, cx), radius in zip(logits, centres, radii, strict=True):
        logit[:] = (radius - np.hypot(y - cy, x - cx)) / 4
    return logits


def make_image(hw: tuple[int, int]) -> Any:
    """Returns coloured noise of the smoothness of a photograph."""
    import numpy as np
    from PIL import Image

    small = np.random.default_rng(2).integers(0, 256, (hw[0] // 16, hw[1] // 16, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((hw[1], hw[0]), Image.Resampling.BICUBIC))


def encode(pixels: Any, kind: str) -> bytes:
    """Returns a picture as a file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def seconds(function: Callable[[], Any]) -> float:
    """Returns the median time of a call, after one that compiles."""
    function()
    found = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        function()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


if __name__ == "__main__":
    # As scripts/evaluate.py does, and for its reason.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    app.run(main, flags_parser=parse_flags)
