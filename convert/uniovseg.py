"""A published Uni-OVSeg stage-1 state dict to our variables; sizes are read from its tensors."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from flax import traverse_util

from convert.openclip_models import config_from_state, count_layers, shape_of
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
    has_clip = bool(clip_state(state))
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


def clip_state(state: State) -> dict[str, np.ndarray]:
    """Returns the tensors of the CLIP inside, under OpenCLIP's names; none without one."""
    return {
        name.removeprefix(CLIP_PREFIX): tensor
        for name, tensor in state.items()
        if name.startswith(CLIP_PREFIX)
    }


def config_of(state: State, input_norm: Literal["ln", "gn"] = "ln") -> UniOVSegConfig:
    """Reads the sizes of a model from its published tensors.

    Heads follow from the rows of the sampling offsets (3 levels, 4 points, 2 coordinates); groups
    of the norms are 32, which no tensor tells.

    Raises:
      ValueError: If a tensor that tells a size is missing or of other axes: it is another
        architecture.
    """
    pixel, predictor = PIXEL_DECODER_PREFIX, PREDICTOR_PREFIX
    layers = f"{pixel}.transformer.encoder.layers.{{}}.self_attn.sampling_offsets.weight"
    layer = f"{pixel}.transformer.encoder.layers.0"
    ffn = f"{predictor}.transformer_ffn_layers.{{}}.linear1.weight"
    masks = f"{predictor}.mask_embed.{{}}.layers.0.weight"

    def shape(name: str, rank: int) -> tuple[int, ...]:
        return shape_of(state, name, rank, "Uni-OVSeg checkpoint with the released names")

    dim = shape(f"{pixel}.mask_features.weight", 4)[0]
    heads, rest = divmod(shape(layers.format(0), 2)[0], _NUM_LEVELS * _NUM_POINTS * 2)
    if rest or not heads or dim % heads or dim % _NUM_GROUPS:
        raise ValueError(
            f"{layers.format(0)} has {state[layers.format(0)].shape[0]} rows for a width of {dim}; "
            f"expected {_NUM_LEVELS * _NUM_POINTS * 2} per head, and a width that heads and "
            f"{_NUM_GROUPS} groups divide."
        )
    shape(masks.format(1), 2)  # Number 0 is for boxes; points have at least one.
    if inner := clip_state(state):
        clip = config_from_state(inner)
    else:
        # Only the widths of its maps are known; what it is, --clip tells.
        levels = [shape(f"{pixel}.input_proj.{i}.0.weight", 4)[1] for i in (2, 1, 0)]
        widths = (shape(f"{pixel}.adapter_1.weight", 4)[1], *levels)
        clip = ClipConfig(widths=widths)
    return dataclasses.replace(
        PRESETS["released"],
        clip=clip,
        dim=dim,
        num_heads=heads,
        num_groups=_NUM_GROUPS,
        encoder_layers=count_layers(state, layers),
        encoder_ffn_dim=shape(f"{layer}.linear1.weight", 2)[0],
        decoder_layers=count_layers(state, ffn),
        decoder_ffn_dim=shape(ffn.format(0), 2)[0],
        input_norm=input_norm,
        quality_head=any(name.startswith(f"{predictor}.iou_embed.") for name in state),
        masks_per_point=count_layers(state, masks) - 1,
        adapter=None,
    )
