"""How well true masks are named at several input sizes, and what each size costs (table 4b)."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from uniovseg_jax.data.tfds.tinyscenes import JOINT_NAMES
from uniovseg_jax.eval.prepared import write_true_logits
from uniovseg_jax.models.uniovseg import UniOVSeg
from uniovseg_jax.proposals import letterbox
from uniovseg_jax.text_encoder import TextEncoder
from uniovseg_jax.weights.store import Pretrained

_MAX_SEGMENTS = 32
# Calls that are timed for each size.
_TIMED = 10


def name_true_masks(
    base: Pretrained,
    records: Any,
    size_sets: Sequence[Sequence[int]],
    templates: str,
    batch_size: int = 8,
) -> list[dict[str, Any]]:
    """Classifies true masks by frozen CLIP vectors, whose cosines are averaged over input sizes.

    Args:
      base: The frozen model.
      records: Of the panoptic part.
      size_sets: Input sides that go together, one set per row.
      templates: Prompts, see `prompt_templates.TEMPLATES`.
      batch_size: Images per call of the device.

    Returns:
      Per set `sizes`, `top1` (percent of the masks) and `seconds` per image: the trunk at these
      sizes and the pooling, median of several calls.

    Source: arXiv 2402.08960, table 4b.
    """
    sizes = sorted({size for sizes in size_sets for size in sizes})
    names = TextEncoder(base, templates).embed(JOINT_NAMES)
    embed = {size: _make_embed(base, size) for size in sizes}
    cosines: dict[int, list[Float[np.ndarray, "m t"]]] = {size: [] for size in sizes}
    labels: list[int] = []
    inputs: Any = None
    for start in range(0, len(records), batch_size):
        batch = [records[i] for i in range(start, min(start + batch_size, len(records)))]
        images, masks, truth = _stack(batch, base.config.image_size, batch_size)
        inputs = inputs or (images, masks)
        for size in sizes:
            regions = np.asarray(embed[size](base.variables, images, masks))
            rows = [region[: len(own)] for region, own in zip(regions, truth, strict=False)]
            cosines[size].append(np.concatenate(rows) @ names.T)
        labels += [label for own in truth for label in own]
    whole = {size: np.concatenate(parts) for size, parts in cosines.items()}
    seconds = {size: _time(embed[size], base.variables, *inputs) / batch_size for size in sizes}
    return [
        {
            "sizes": list(row),
            "top1": _top1(sum(whole[size] for size in row), labels),
            "seconds": sum(seconds[size] for size in row),
        }
        for row in size_sets
    ]


def _make_embed(base: Pretrained, size: int) -> Callable[..., Float[Array, "b m e"]]:
    """Returns `(variables, images, masks) -> embeddings` at one input size."""

    def embed(
        module: UniOVSeg, images: UInt8[Array, "b s s 3"], masks: Float[Array, "b m h w"]
    ) -> Float[Array, "b m e"]:
        shape = (images.shape[0], size, size, 3)
        resized = jax.image.resize(images.astype(jnp.float32), shape, "linear")
        return module.embed_regions(module.clip.trunk_features(resized), masks, adapt=False)

    return jax.jit(lambda variables, *inputs: base.model.apply(variables, *inputs, method=embed))


def _stack(
    batch: Sequence[Any], side: int, batch_size: int
) -> tuple[UInt8[np.ndarray, "b s s 3"], Float[np.ndarray, "b m s s"], list[list[int]]]:
    """Returns letterboxed images, masks as logits, and the category of every mask."""
    images = np.zeros((batch_size, side, side, 3), np.uint8)
    masks = np.full((batch_size, _MAX_SEGMENTS, side, side), -1.0, np.float32)
    labels = []
    for i, record in enumerate(batch):
        images[i], content_wh = letterbox(record["image"], side)
        write_true_logits(record, content_wh, masks[i])
        labels.append([info["category_id"] for info in record["segments_info"]])
    return images, masks, labels


def _top1(cosines: Any, labels: Sequence[int]) -> float:
    return 100.0 * float(np.mean(cosines.argmax(axis=1) == np.array(labels)))


def _time(function: Callable[..., Any], *inputs: Any) -> float:
    """Returns the median seconds of a call that is compiled already."""
    inputs, seconds = jax.device_put(inputs), []
    for _ in range(_TIMED):
        start = time.perf_counter()
        jax.block_until_ready(function(*inputs))
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))
