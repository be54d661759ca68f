"""Runs a converted Uni-OVSeg model beside its literal float64 form.

That the float64 form is the authors' model is shown by the golden file of their outputs
(`--fixture`), not here.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convert import parity, reference, reference_masks
from convert.uniovseg import Converted, clip_state
from convert.verification import Verification, verification_images
from convert.verify_openclip import verify_openclip
from uniovseg_jax.masks import mask_nms
from uniovseg_jax.models.mask_decoder import compute_attention_mask, compute_masks
from uniovseg_jax.models.presets import UniOVSegConfig
from uniovseg_jax.models.prompt_encoder import points_to_boxes
from uniovseg_jax.models.tokenizer import Tokenizer
from uniovseg_jax.models.uniovseg import ImageFeatures, UniOVSeg
from uniovseg_jax.ops.pooling import mask_pooling
from uniovseg_jax.proposals import ProposalConfig, point_grid

_POINTS_PER_SIDE = 8


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What one side computes for one image.

    Attributes:
      places: Arrays by place in the model, channels last.
      masks: Final mask logits (masks, h, w).
      scores: Their quality.
      attend: Per layer, where prompts attended.
    """

    places: dict[str, np.ndarray]
    masks: np.ndarray
    scores: np.ndarray
    attend: list[np.ndarray]


def verify_uniovseg(
    converted: Converted,
    options: Verification,
    state: Mapping[str, np.ndarray],
    tokenizer: Tokenizer | None,
) -> parity.Parity:
    """Compares the masks with float64, and both towers of a CLIP that came along with OpenCLIP.

    Args:
      converted: What is checked.
      options: Sizes and photograph.
      state: The published tensors.
      tokenizer: That the CLIP was trained with; None where there is no CLIP.

    Raises:
      ImportError: If the checkpoint holds a CLIP and OpenCLIP is not installed.
    """
    masks = _verify_masks(converted, options)
    inner = clip_state(state)
    if not inner or tokenizer is None:
        return masks
    clip = verify_openclip(converted.config.clip, converted.variables, tokenizer, inner, options)
    return dataclasses.replace(
        masks,
        reference=f"{masks.reference}; CLIP: {clip.reference}",
        inputs=[*masks.inputs, *clip.inputs[1:]],
        errors={**masks.errors, **{f"clip/{place}": x for place, x in clip.errors.items()}},
        checks=[*masks.checks, *clip.checks],
    )


def _verify_masks(converted: Converted, options: Verification) -> parity.Parity:
    """Compares maps, masks, qualities, region embeddings and the kept masks, by points and boxes.

    Without a CLIP the pixel decoder is given random maps in place of images.
    """
    runners = {name: _make_runner(converted, dtype) for name, dtype in parity.DTYPES.items()}
    errors = parity.ErrorTable()
    ious, same, kept, flips, bits = [], 0, 0, 0, 0
    for size in options.sizes:
        for image in verification_images(size, options.image):
            trunk = None if "clip" in converted.parts else _random_maps(converted.config, size)
            expected = _run_reference(converted, image, trunk)
            for name, run in runners.items():
                found = run(image, trunk)
                errors.add(name, found.places, expected.places)
                if name != "float32":
                    continue
                ious.append(_mask_iou(found.masks, expected.masks))
                ours, theirs = _kept(found), _kept(expected)
                same, kept = same + len(ours & theirs), kept + len(ours | theirs)
                for a, b in zip(found.attend, expected.attend, strict=True):
                    flips, bits = flips + int((a != b).sum()), bits + a.size
    worst = errors.worst()
    last = f"masks/layer_{converted.config.decoder_layers}"
    common = same / kept if kept else 1.0
    checks = [
        parity.Check(
            "mask logits, 99.9th percentile", worst[last]["float32"].p999, parity.MASK_BOUND
        ),
        parity.Check("mask IoU, mean", float(np.mean(ious)), parity.MASK_IOU_BOUND, at_least=True),
        parity.Check("kept masks in common", common, parity.KEPT_BOUND, at_least=True),
    ]
    if "region embedding" in worst:
        largest = worst["region embedding"]["float32"].largest
        checks.append(
            parity.Check("region embedding, largest error", largest, parity.EMBEDDING_BOUND)
        )
    return parity.Parity(
        title=options.title,
        reference="the literal order of operations in float64 NumPy (convert/reference.py)",
        inputs=[
            options.describe(),
            f"{_POINTS_PER_SIDE} x {_POINTS_PER_SIDE} points, and as many boxes",
        ],
        errors=worst,
        checks=checks,
        notes={
            "attention bits that differ in float32": f"{flips} of {bits}",
            "masks kept by both sides, by either": f"{same}, {kept}",
            "tensors and numbers per prefix": {k: list(v) for k, v in converted.counts.items()},
            "parity with the authors' code": "shown by --fixture with their outputs, not here",
        },
    )


def _random_maps(config: UniOVSegConfig, size: int) -> reference.Maps:
    rng = np.random.default_rng(size)
    return {
        f"res{i + 2}": rng.standard_normal((1, size >> i + 2, size >> i + 2, width))
        for i, width in enumerate(config.clip.widths)
    }


def _boxes(config: UniOVSegConfig, size: int) -> np.ndarray:
    points = point_grid(_POINTS_PER_SIDE, (size, size), size)[None]
    return np.asarray(points_to_boxes(jnp.asarray(points), config.point_box_size))


def _wide_boxes(size: int) -> np.ndarray:
    """Returns boxes of many sizes and shapes, as float32 (1, boxes, 4) corners in pixels."""
    rng = np.random.default_rng(size)
    corners = np.sort(rng.uniform(0, size, (1, _POINTS_PER_SIDE**2, 2, 2)), axis=2)
    return corners.reshape(1, -1, 4).astype(np.float32)


def _run_reference(
    converted: Converted, image: np.ndarray, trunk: reference.Maps | None
) -> Outputs:
    config, flat, size = converted.config, converted.flat, image.shape[1]
    places: dict[str, np.ndarray] = {}
    if trunk is None:
        trunk = reference.clip_trunk(flat, config.clip, image)
        places |= trunk
    mask_features, maps, _ = reference_masks.pixel_decoder(flat, config, trunk)
    places["mask_features"] = mask_features
    places |= {f"multi_scale_{i}": x for i, x in enumerate(maps)}
    tokens = reference_masks.prompt_tokens(
        flat, config, mask_features, _boxes(config, size), (size, size), "point"
    )
    masks, ious, attend = reference_masks.mask_decoder(
        flat, config, mask_features, maps, tokens, "point"
    )
    places |= {f"masks/layer_{i}": x for i, x in enumerate(masks)}
    places |= {f"quality/layer_{i}": x for i, x in enumerate(ious) if x is not None}
    tokens = reference_masks.prompt_tokens(
        flat, config, mask_features, _wide_boxes(size), (size, size), "box"
    )
    of_boxes = reference_masks.mask_decoder(flat, config, mask_features, maps, tokens, "box")
    places["boxes/masks"] = of_boxes[0][-1]
    if of_boxes[1][-1] is not None:
        places["boxes/quality"] = of_boxes[1][-1]
    attend = [np.where(x.any(-1, keepdims=True), x, True) for x in (*attend, *of_boxes[2])]
    final = masks[-1].reshape(-1, *masks[-1].shape[-2:])
    if "clip" in converted.parts:
        places["region embedding"] = reference.embed_regions(flat, config, trunk["res5"], final)
    scores = np.ones(len(final)) if ious[-1] is None else ious[-1].ravel()
    return Outputs(places, final, scores, attend)


def _make_runner(converted: Converted, dtype: Any) -> Callable[..., Outputs]:
    """Returns a function of an image, or of the trunk's maps, that runs the converted model."""
    config = converted.config
    model = UniOVSeg(config, dtype)

    def compute(module: UniOVSeg, image: Any, trunk: Any, boxes: Any, wide_boxes: Any) -> Any:
        places = {}
        if trunk is None:
            trunk = module.encode_trunk(image)
            places |= trunk
        features = ImageFeatures(trunk, module.decode_pixels(trunk))
        places["mask_features"] = features.pixel.mask_features
        places |= {f"multi_scale_{i}": x for i, x in enumerate(features.pixel.multi_scale_features)}
        memory = module.prepare_masks(features)
        output = module.decode_masks(features, memory, boxes, "point")
        masks = [compute_masks(embeds, memory.pixel_embeds) for embeds in output.mask_embeds]
        places |= {f"masks/layer_{i}": x for i, x in enumerate(masks)}
        places |= {f"quality/layer_{i}": x for i, x in enumerate(output.pred_ious)}
        of_boxes = module.decode_masks(features, memory, wide_boxes, "box")
        places["boxes/masks"] = compute_masks(of_boxes.mask_embeds[-1], memory.pixel_embeds)
        if of_boxes.pred_ious:
            places["boxes/quality"] = of_boxes.pred_ious[-1]
        levels = memory.level_pixel_embeds
        attend = [
            compute_attention_mask(embeds, levels[i % len(levels)])
            for prediction in (output, of_boxes)
            for i, embeds in enumerate(prediction.mask_embeds[:-1])
        ]
        final = masks[-1].reshape(1, -1, *masks[-1].shape[-2:])
        if "clip" in converted.parts:
            pooled = mask_pooling(trunk["res5"], final, "binary")
            places["region embedding"] = module.embed_pooled({"clip": pooled}, adapt=False)[0]
        return places, final[0], attend

    compiled = jax.jit(lambda variables, *inputs: model.apply(variables, *inputs, method=compute))

    def run(image: np.ndarray, trunk: reference.Maps | None) -> Outputs:
        maps = trunk and {name: jnp.asarray(x, dtype) for name, x in trunk.items()}
        boxes = _boxes(config, image.shape[1]), _wide_boxes(image.shape[1])
        places, final, attend = jax.device_get(compiled(converted.variables, image, maps, *boxes))
        places = {name: np.asarray(value, np.float32) for name, value in places.items()}
        quality = places.get(f"quality/layer_{config.decoder_layers}")
        scores = np.ones(len(final)) if quality is None else quality.ravel()
        return Outputs(places, np.asarray(final, np.float32), scores, attend)

    return run


def _mask_iou(found: np.ndarray, expected: np.ndarray) -> float:
    a, b = found >= 0, expected >= 0
    union = (a | b).sum((1, 2))
    ratio = np.where(union > 0, (a & b).sum((1, 2)) / np.maximum(union, 1), 1.0)
    return float(ratio.mean())


def _kept(outputs: Outputs) -> set[tuple[float, int]]:
    """Returns what the suppression keeps of the better half by quality, at several limits.

    The released limits leave few of the random masks of an untrained model; at the looser ones
    enough are left to count.
    """
    config = ProposalConfig()
    good = np.flatnonzero(outputs.scores >= np.median(outputs.scores))
    filled = outputs.masks[good] >= 0
    good, filled = good[filled.any((1, 2))], filled[filled.any((1, 2))]
    kept = set()
    for iou, inside in ((config.nms_iou, config.nms_inside), (0.8, 1.1), (0.95, 1.1)):
        chosen = mask_nms(filled, outputs.scores[good], iou, inside)
        kept |= {(iou, index) for index in good[chosen].tolist()}
    return kept
