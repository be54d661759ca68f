"""What all rows share: proposals and pooled vectors of scenes with their truth."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from uniovseg_jax.benchmarks.segment import Segment
from uniovseg_jax.inference.full_size import FullSizeLogits
from uniovseg_jax.inference.segmenter import SegmenterConfig
from uniovseg_jax.models.uniovseg import ImageFeatures, UniOVSeg
from uniovseg_jax.proposals import letterbox, letterbox_labels, make_proposer, pad_masks
from uniovseg_jax.weights.store import Pretrained

# Things and regions of a scene, and some room; arrays of true masks are padded to this.
_MAX_SEGMENTS = 16

Pooled = dict[str, Float[np.ndarray, "_n _"]]


@dataclasses.dataclass(frozen=True)
class PreparedImage:
    """One image with everything that all rows share.

    Attributes:
      image: RGB.
      ids: True panoptic map, 0 is void.
      segments: True segments; categories index `JOINT_NAMES`.
      masks: Proposals.
      scores: Their predicted quality.
      pooled: Their pooled vectors.
      true_pooled: Pooled vectors of the true segments, in the order of `segments`.
    """

    image: np.ndarray
    ids: Int[np.ndarray, "h w"]
    segments: tuple[Segment, ...]
    masks: FullSizeLogits
    scores: Float[np.ndarray, " n"]
    pooled: Pooled
    true_pooled: Pooled


def prepare_images(
    pretrained: Pretrained,
    records: Any,
    config: SegmenterConfig,
    batch_size: int = 8,
) -> Iterator[PreparedImage]:
    """Yields proposals and pooled vectors of panoptic records, in order.

    Args:
      pretrained: A model with the parts `clip` and `masks`.
      records: Random access to `image`, `panoptic` and `segments_info` as COCO has them.
      config: How proposals are made.
      batch_size: Images per call of the device.
    """
    model, variables = pretrained.model, pretrained.variables
    side = pretrained.config.image_size
    proposer = make_proposer(model, config.proposals)

    def pool(
        module: UniOVSeg,
        features: ImageFeatures,
        proposal_logits: Float[Array, "b n h w"],
        true_logits: Float[Array, "b m s s"],
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        return (
            module.pool_regions(features, proposal_logits),
            module.pool_regions(features, true_logits),
        )

    compiled = jax.jit(lambda *inputs: model.apply(*inputs, method=pool))
    for start in range(0, len(records), batch_size):
        batch = [records[i] for i in range(start, min(start + batch_size, len(records)))]
        boxed = [letterbox(record["image"], side) for record in batch]
        # The last batch repeats its last image, so that one shape is compiled.
        images = np.stack([image for image, _ in boxed + boxed[-1:] * (batch_size - len(batch))])
        sizes = [(record["image"].shape[1], record["image"].shape[0]) for record in batch]
        sizes += sizes[-1:] * (batch_size - len(batch))
        features = proposer.encode(variables, images)
        found = proposer.propose_from(variables, features, sizes)
        logits = pad_masks([proposals.mask_logits for proposals in found])
        truth = np.full((batch_size, _MAX_SEGMENTS, side, side), -1.0, np.float32)
        for i, record in enumerate(batch):
            write_true_logits(record, boxed[i][1], truth[i])
        pooled, true_pooled = jax.device_get(compiled(variables, features, logits, truth))
        for i, record in enumerate(batch):
            width, height = boxed[i][1]
            n, m = len(found[i].ious), len(record["segments_info"])
            yield PreparedImage(
                image=record["image"],
                ids=record["panoptic"],
                segments=tuple(
                    Segment(s["id"], s["category_id"], s["area"], bool(s["iscrowd"]))
                    for s in record["segments_info"]
                ),
                masks=FullSizeLogits(
                    found[i].mask_logits,
                    (side, side),
                    (height, width),
                    record["image"].shape[:2],
                ),
                scores=found[i].ious,
                # Copies, since a view would keep the padding of the whole batch alive.
                pooled={key: values[i, :n].copy() for key, values in pooled.items()},
                true_pooled={key: values[i, :m].copy() for key, values in true_pooled.items()},
            )


def write_true_logits(
    record: dict[str, Any], content_wh: tuple[int, int], logits: Float[np.ndarray, "m s s"]
) -> None:
    """Writes 1 where the true segments of a panoptic record are in the network input.

    Args:
      record: With `panoptic` and `segments_info`.
      content_wh: Size of the image within the input.
      logits: Changed in place, one mask per segment.
    """
    ids = letterbox_labels(record["panoptic"], content_wh, logits.shape[-1])
    for index, info in enumerate(record["segments_info"]):
        logits[index][ids == info["id"]] = 1.0
