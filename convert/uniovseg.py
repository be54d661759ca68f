"""A published Uni-OVSeg stage-1 state dict to our variables; sizes are read from its tensors."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from flax import traverse_util

from convert.openclip_models import config_from_state
from convert.uniovseg_rules import (
    CLIP_PREFIX,
    MASK_RULES,
    PIXEL_DECODER_PREFIX,
    PREDICTOR_PREFIX,
    UNIOVSEG_RULES,
)
from uniovseg_jax.models.presets import PRESETS, ClipConfig, UniOVSegConfig
from uniovseg_jax.models.uniovseg import Part, abstract_variables
from uniovseg_jax.weights.engine import convert, count_by_prefix
from uniovseg_jax.weights.store import Pretrained, flatten_variables

# The layout publishes no other numbers of these.
_NUM_LEVELS, _NUM_POINTS = 3, 4
_NUM_GROUPS = 32

State = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Converted:
    """What a checkpoint became.

    Attributes:
      config: Sizes, read from the tensors.
      flat: Arrays by flat path.
      parts: `clip` and `masks`, or `masks` alone.
      counts: Tensors and numbers per prefix of the source.
    """

    config: UniOVSegConfig
    flat: dict[str, np.ndarray]
    parts: tuple[Part, ...]
    counts: dict[str, tuple[int, int]]

    @property
    def variables(self) -> Any:
        """Collections `params` and `fixed`."""
        return traverse_util.unflatten_dict(self.flat, sep="/")


def convert_state(state: State, input_norm: Literal["ln", "gn"] = "ln") -> Converted:
    """Converts the tensors of a checkpoint, with or without the CLIP inside.

    Args:
      state: Published tensors.
      input_norm: LayerNorm or GroupNorm after the input projections; their tensors look the same.

    Raises:
      ValueError: If it is another architecture, or tensors are unused, missing or misshapen; all
        complaints at once.
    """
    has_clip = any(name.startswith(CLIP_PREFIX) for name in state)
    config = config_of(state, input_norm)
    parts: tuple[Part, ...] = ("clip", "masks") if has_clip else ("masks",)
    rules = UNIOVSEG_RULES if has_clip else MASK_RULES
    expected = flatten_variables(abstract_variables(config, parts))
    return Converted(
        config, convert(state, rules, expected), parts, dict(count_by_prefix(state, 2))
    )


def with_clip(converted: Converted, clip: Pretrained) -> Converted:
    """Adds the CLIP of a model directory to masks that came without one.

    Raises:
      ValueError: If masks have a CLIP already, the directory holds none, or its maps do not fit.
    """
    if "clip" in converted.parts:
        raise ValueError("The checkpoint holds a CLIP already; expected no --clip beside it.")
    if "clip" not in clip.parts:
        raise ValueError("The directory of --clip holds no CLIP; expected one with the part clip.")
    wanted, found = converted.config.clip.widths, clip.config.clip.widths
    if wanted != found:
        raise ValueError(f"The masks were trained on maps of widths {wanted}; --clip has {found}.")
    params = {"params": {"clip": clip.variables["params"]["clip"]}}
    flat = {path: np.asarray(leaf) for path, leaf in flatten_variables(params).items()}
    config = dataclasses.replace(converted.config, clip=clip.config.clip)
    return dataclasses.replace(
        converted, config=config, flat=converted.flat | flat, parts=("clip", "masks")
    )


def config_of(state: State, input_norm: Literal["ln", "gn"] = "ln") -> UniOVSegConfig:
    """Reads the sizes of a model from its published tensors.

    Heads follow from the rows of the sampling offsets (3 levels, 4 points, 2 coordinates); groups
    of the norms are 32, which no tensor tells.

    Raises:
      ValueError: If a tensor that tells a size is missing: it is another architecture.
    """
    pixel, predictor = PIXEL_DECODER_PREFIX, PREDICTOR_PREFIX
    layer = f"{pixel}.transformer.encoder.layers.0"

    def shape(name: str) -> tuple[int, ...]:
        if name not in state:
            raise ValueError(
                f"This is no Uni-OVSeg checkpoint: {name} is missing; expected the names of the "
                "released stage-1 model."
            )
        return state[name].shape

    dim = shape(f"{pixel}.mask_features.weight")[0]
    offsets = shape(f"{layer}.self_attn.sampling_offsets.weight")[0]
    if any(name.startswith(CLIP_PREFIX) for name in state):
        inner = {
            name.removeprefix(CLIP_PREFIX): tensor
            for name, tensor in state.items()
            if name.startswith(CLIP_PREFIX)
        }
        clip = config_from_state(inner)
    else:
        # Only the widths of its maps are known; what it is, --clip tells.
        levels = [shape(f"{pixel}.input_proj.{i}.0.weight")[1] for i in (2, 1, 0)]
        widths = (shape(f"{pixel}.adapter_1.weight")[1], *levels)
        clip = ClipConfig(widths=widths)
    return dataclasses.replace(
        PRESETS["released"],
        clip=clip,
        dim=dim,
        num_heads=offsets // (_NUM_LEVELS * _NUM_POINTS * 2),
        num_groups=_NUM_GROUPS,
        encoder_layers=_count(state, rf"{re.escape(pixel)}\.transformer\.encoder\.layers\.(\d+)\."),
        encoder_ffn_dim=shape(f"{layer}.linear1.weight")[0],
        decoder_layers=_count(state, rf"{re.escape(predictor)}\.transformer_ffn_layers\.(\d+)\."),
        decoder_ffn_dim=shape(f"{predictor}.transformer_ffn_layers.0.linear1.weight")[0],
        input_norm=input_norm,
        quality_head=_count(state, rf"{re.escape(predictor)}\.iou_embed\.(\d+)\.") > 0,
        masks_per_point=shape(f"{predictor}.prompt_encoder.mask_emb")[1] - 1,
        adapter=None,
    )


def _count(state: State, pattern: str) -> int:
    """Returns one more than the largest number that stands in place of the pattern's group."""
    found = (re.match(pattern, name) for name in state)
    return 1 + max((int(match[1]) for match in found if match), default=-1)
