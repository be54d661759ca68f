r"""Measures where the time of an image goes when a benchmark is scored.

  python scripts/measure_evaluation.py --preset=released

Reads, segments, merges and scores photographs of noise by the names of COCO, ADE20K-150 and
ADE20K-847. The network has random weights; what is merged are as many smooth masks as the protocol
keeps at most, since random weights find none.
"""

import io
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging

_PRESET = flags.DEFINE_string("preset", "released", "Model, see models/presets.py.")
_LISTS = ("coco_panoptic_133", "ade20k_150", "ade20k_847")
# Height and width of images, and what their sides become.
_SIZES = (((480, 640), (800, 1333), 160), ((1024, 2048), (1024, 2560), 32))
_MASKS, _TRUE_SEGMENTS, _REPEATS = 250, 20, 3


def main(argv: list[str]) -> None:
    """Prints a table; a mistake ends it with one sentence."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; expected only flags.")
    # As scripts/evaluate.py does, and for its reason.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    logging.set_verbosity(logging.WARNING)
    try:
        measure()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def measure() -> None:
    """Prints a row for every size and list of names."""
    from uniovseg_jax.inference.framing import ShortSide

    pretrained = random_model()
    width, mean = pretrained.config.clip.embed_dim, pretrained.config.clip.image_mean
    print("image | classes | load | network | merge | metric | merge and metric / network")
    for hw, (short, longest), pad_to in _SIZES:
        framing = ShortSide(short, longest, pad_to, mean)
        image = make_image(hw)
        network = None
        for name in _LISTS:
            segmenter = make_segmenter(pretrained, framing, name)
            if network is None:
                network = seconds(lambda s=segmenter, i=image: s.propose(i))
            load, merge, metric = time_host(segmenter, width, framing(image), image, name)
            share = 100 * (merge + metric) / network
            print(
                f"{hw[1]} x {hw[0]} | {name.rpartition('_')[2]} | {load:.3f} | {network:.2f} | "
                f"{merge:.3f} | {metric:.3f} | {share:.1f} %",
                flush=True,
            )


def random_model() -> Any:
    """Returns a model with random weights and a tokenizer of few words."""
    import jax

    from uniovseg_jax.benchmarks.class_list import load_class_list
    from uniovseg_jax.models.presets import get_preset
    from uniovseg_jax.models.tokenizer import train_tokenizer
    from uniovseg_jax.models.uniovseg import UniOVSeg, init_variables
    from uniovseg_jax.weights.store import Pretrained

    config = get_preset(_PRESET.value)
    names = [info.name for info in load_class_list(_LISTS[-1]).classes]
    tokenizer = train_tokenizer(names, 1024, config.clip.context_length)
    variables = init_variables(config, jax.random.key(0), ("clip", "masks"))
    return Pretrained(UniOVSeg(config), config, variables, tokenizer, ("clip", "masks"), {})


def make_segmenter(pretrained: Any, framing: Any, name: str) -> Any:
    """Returns a segmenter of the protocol fcclip that knows the names of a list."""
    from uniovseg_jax.benchmarks.class_list import load_class_list
    from uniovseg_jax.inference.results import SemanticRules
    from uniovseg_jax.inference.segmenter import OpenVocabularySegmenter, SegmenterConfig
    from uniovseg_jax.proposals import ProposalConfig

    config = SegmenterConfig(
        proposals=ProposalConfig(
            points_per_side=20,
            score_threshold=0.5,
            nms_iou=0.7,
            nms_inside=2.0,
            max_proposals=_MASKS,
        ),
        framing=framing,
        object_threshold=0.0,
        overlap_threshold=0.8,
        semantic=SemanticRules(fill=True, weigh_by_quality=True),
        templates="single",
    )
    segmenter = OpenVocabularySegmenter(pretrained, config)
    segmenter.use_vocabulary(load_class_list(name).vocabulary())
    return segmenter


def time_host(
    segmenter: Any, width: int, source: Any, image: Any, name: str
) -> tuple[float, float, float]:
    """Returns seconds of reading, merging and scoring one image, semantic and panoptic."""
    import numpy as np

    from uniovseg_jax.benchmarks.benchmark import Benchmark
    from uniovseg_jax.benchmarks.class_list import load_class_list
    from uniovseg_jax.eval.panoptic import Segment
    from uniovseg_jax.eval.stopwatch import Stopwatch
    from uniovseg_jax.eval.tasks import PanopticTask, SemanticTask
    from uniovseg_jax.image_io import decode_image, read_labels
    from uniovseg_jax.inference.segmenter import ImageProposals

    classes, rng = load_class_list(name), np.random.default_rng(0)
    logits = smooth_masks(source.pixels.shape[0] // 4, source.pixels.shape[1] // 4)
    embeddings = rng.normal(size=(_MASKS, width)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    scores = rng.uniform(0.5, 1, _MASKS).astype(np.float32)
    proposals = ImageProposals(source.full_size(logits), scores, embeddings)
    benchmark = Benchmark("noise", {}, classes=classes)
    cells = (1 + np.arange(_TRUE_SEGMENTS)).reshape(4, -1)
    rows = np.arange(image.shape[0]) * 4 // image.shape[0]
    columns = np.arange(image.shape[1]) * cells.shape[1] // image.shape[1]
    ids = cells[rows[:, None], columns].astype(np.int32)
    segments = tuple(Segment(n, n % len(classes)) for n in range(1, _TRUE_SEGMENTS + 1))
    files = encode(image, "JPEG"), encode(ids.astype(np.uint8), "PNG")
    load = seconds(lambda: (decode_image(files[0], "image"), read_labels(files[1], "labels")))
    found = []
    for _ in range(_REPEATS):
        watch = Stopwatch()
        tasks = SemanticTask(benchmark, classes), PanopticTask(benchmark, classes)
        truths: list[Any] = [ids - 1, (ids, segments)]
        for task, truth in zip(tasks, truths, strict=True):
            task.score("noise", truth, segmenter, proposals, watch)
        found.append((watch.seconds["merge"], watch.seconds["metric"]))
    merge, metric = (statistics.median(values) for values in zip(*found, strict=True))
    return load, merge, metric


def smooth_masks(h: int, w: int) -> Any:
    """Returns logits of discs of many sizes all over the map."""
    import numpy as np

    rng = np.random.default_rng(1)
    y, x = np.mgrid[:h, :w]
    centres = rng.uniform(0, 1, (_MASKS, 2)) * (h, w)
    radii = rng.uniform(0.03, 0.4, _MASKS) * min(h, w)
    logits = np.empty((_MASKS, h, w), np.float32)
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
    app.run(main)
