"""Sizes and choices of the model: CLIP variants and the four presets.

A preset fixes everything that has a shape. `released` follows the authors' public inference code,
`paper` follows the text of arXiv 2402.08960, `nano` is the model that trains on a laptop
(tinyscenes), `test` is for the test suite.
"""

import dataclasses
from typing import Any, Literal

# CLIP's normalisation constants on the 0..255 scale; OpenCLIP stores them divided by 255.
CLIP_MEAN = (122.7709383, 116.7460125, 104.09373615)
CLIP_STD = (68.5005327, 66.6321579, 70.32316305)


@dataclasses.dataclass(frozen=True)
class ClipConfig:
    """One ConvNeXt CLIP.

    Attributes:
      depths: Blocks per stage.
      widths: Channels of res2..res5.
      embed_dim: Width of the joint image-text space.
      head: Projection after pooling; `mlp` has a hidden width of `2 * embed_dim`.
      text_width: Width of the text transformer.
      text_heads: Attention heads of the text transformer.
      text_layers: Layers of the text transformer.
      image_size: Native input side in pixels (any multiple of 32 works).
      norm_eps: Epsilon of the trunk's LayerNorms (the text tower always uses 1e-5).
      vocab_size: Number of token ids; the last two are start and end.
      context_length: Token positions.
      layer_scale: Initial value of the trunk's per-channel scales.
      fan_in_init: Draw trunk kernels with variance 1 / fan_in in place of a fixed 0.02; set where
        the trunk trains from nothing.
      image_mean: Mean of RGB on the 0..255 scale.
      image_std: Standard deviation of RGB on the 0..255 scale.
    """

    depths: tuple[int, ...] = (3, 3, 27, 3)
    widths: tuple[int, ...] = (192, 384, 768, 1536)
    embed_dim: int = 768
    head: Literal["mlp", "linear"] = "mlp"
    text_width: int = 768
    text_heads: int = 12
    text_layers: int = 16
    image_size: int = 320
    norm_eps: float = 1e-6
    vocab_size: int = 49408
    context_length: int = 77
    layer_scale: float = 1e-6
    fan_in_init: bool = False
    image_mean: tuple[float, ...] = CLIP_MEAN
    image_std: tuple[float, ...] = CLIP_STD


_BASE = ClipConfig(
    widths=(128, 256, 512, 1024),
    embed_dim=640,
    head="linear",
    text_width=640,
    text_heads=10,
    text_layers=12,
    image_size=256,
)

CLIP_VARIANTS: dict[str, ClipConfig] = {
    "convnext_large_d_320": ClipConfig(),
    "convnext_large_d": ClipConfig(image_size=256),
    "convnext_base_w_320": dataclasses.replace(_BASE, image_size=320),
    "convnext_base_w": _BASE,
    "convnext_base": dataclasses.replace(
        _BASE, embed_dim=512, text_width=512, text_heads=8, image_size=224
    ),
    "convnext_tiny": dataclasses.replace(
        _BASE,
        depths=(3, 3, 9, 3),
        widths=(96, 192, 384, 768),
        embed_dim=1024,
        text_width=512,
        text_heads=8,
        image_size=224,
    ),
    "convnext_xxlarge": ClipConfig(
        depths=(3, 4, 30, 3),
        widths=(384, 768, 1536, 3072),
        embed_dim=1024,
        head="linear",
        text_width=1024,
        text_heads=16,
        text_layers=24,
        image_size=256,
        norm_eps=1e-5,
    ),
    "nano": ClipConfig(
        depths=(1, 1, 2, 1),
        widths=(32, 64, 128, 256),
        embed_dim=96,
        text_width=128,
        text_heads=4,
        text_layers=2,
        image_size=128,
        vocab_size=1024,
        context_length=32,
        layer_scale=0.5,
        fan_in_init=True,
    ),
    "test": ClipConfig(
        depths=(1, 1, 2, 1),
        widths=(16, 32, 64, 128),
        embed_dim=32,
        text_width=32,
        text_heads=4,
        text_layers=2,
        image_size=64,
        vocab_size=1024,
        context_length=32,
        layer_scale=0.5,
        fan_in_init=True,
    ),
}


@dataclasses.dataclass(frozen=True)
class AdapterConfig:
    """The multi-scale feature adapter of stage 2.

    Attributes:
      source: Which maps enter: the pixel decoder's, the CLIP trunk's, or all eight.
      mode: `dense` adapts every pixel and pools, `pooled` pools and adapts.
      rank: Width of the bottleneck.
      scale: Factor on the sum of the low-rank updates (alpha / rank).
      activation: Non-linearity between the two linear maps.
    """

    source: Literal["pixel", "clip", "both"] = "pixel"
    mode: Literal["dense", "pooled"] = "dense"
    rank: int = 8
    scale: float = 1.0
    activation: Literal["gelu", "relu"] = "gelu"


@dataclasses.dataclass(frozen=True)
class UniOVSegConfig:
    """The whole model.

    Attributes:
      clip: The frozen CLIP.
      image_size: Side of the square network input in pixels, a multiple of 32.
      dim: Hidden width of decoders; also the width of mask embeddings.
      num_heads: Attention heads everywhere outside CLIP.
      num_groups: Groups of every GroupNorm.
      encoder_layers: Deformable encoder layers.
      encoder_ffn_dim: Their feed-forward width.
      decoder_layers: Masked-attention decoder layers.
      decoder_ffn_dim: Their feed-forward width.
      position_encoding: `fourier` (fixed random matrices) or `sine` (DETR).
      input_norm: Norm after the pixel decoder's input projections.
      fpn: `last` adds only the stride-4 level (released code), `top_down` builds every level from
        stride 32 upwards (the paper's appendix A).
      embed_all_tokens: Add type and content embeddings to the mask tokens as well (paper, Eq. 2).
      quality_head: Predict a quality score per mask.
      masks_per_point: Masks of different granularity per point.
      point_box_size: Side in pixels of the box that stands for a point.
      points_per_side: Side of the point grid that proposes masks.
      pooling: How a mask weighs CLIP pixels, see `ops.pooling`.
      align_scales: Input sides whose region embeddings are averaged in stage 2.
      adapter: The stage-2 adapter; None where a model has none.
    """

    clip: ClipConfig = CLIP_VARIANTS["convnext_large_d_320"]
    image_size: int = 1024
    dim: int = 256
    num_heads: int = 8
    num_groups: int = 32
    encoder_layers: int = 6
    encoder_ffn_dim: int = 1024
    decoder_layers: int = 9
    decoder_ffn_dim: int = 2048
    position_encoding: Literal["fourier", "sine"] = "fourier"
    input_norm: Literal["ln", "gn"] = "ln"
    fpn: Literal["last", "top_down"] = "last"
    embed_all_tokens: bool = False
    quality_head: bool = True
    masks_per_point: int = 4
    point_box_size: float = 4.0
    points_per_side: int = 20
    pooling: Literal["binary", "binary_or_soft", "area"] = "binary"
    align_scales: tuple[int, ...] = (896, 1024)
    adapter: AdapterConfig | None = AdapterConfig()


PRESETS: dict[str, UniOVSegConfig] = {
    "released": UniOVSegConfig(),
    # Where the paper leaves a gap (side of the box that stands for a point, the scope of the
    # attention mask) the released value is taken.
    "paper": UniOVSegConfig(
        image_size=896,
        decoder_layers=6,
        position_encoding="sine",
        input_norm="gn",
        fpn="top_down",
        embed_all_tokens=True,
        quality_head=False,
    ),
    "nano": UniOVSegConfig(
        clip=CLIP_VARIANTS["nano"],
        image_size=256,
        dim=64,
        # Heads of 8 channels, as many as the large model has, cost a third more time on a CPU.
        num_heads=4,
        num_groups=8,
        encoder_layers=2,
        encoder_ffn_dim=256,
        decoder_layers=3,
        decoder_ffn_dim=256,
        points_per_side=10,
        pooling="area",
        align_scales=(224, 256),
        adapter=AdapterConfig(source="clip", mode="pooled", rank=128),
    ),
    "test": UniOVSegConfig(
        clip=CLIP_VARIANTS["test"],
        image_size=64,
        dim=32,
        num_heads=4,
        num_groups=8,
        encoder_layers=1,
        encoder_ffn_dim=64,
        decoder_layers=3,
        decoder_ffn_dim=64,
        points_per_side=4,
        pooling="area",
        align_scales=(64, 96),
        adapter=AdapterConfig(source="clip", mode="pooled", rank=8),
    ),
}


def get_preset(name: str) -> UniOVSegConfig:
    """Returns a preset by name.

    Raises:
      ValueError: If there is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"Unknown preset {name!r}; expected one of {', '.join(PRESETS)}.")
    return PRESETS[name]


def config_to_dict(config: UniOVSegConfig) -> dict[str, Any]:
    """Returns the configuration as plain JSON types."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return list(value) if isinstance(value, tuple) else value

    return plain(dataclasses.asdict(config))


def config_from_dict(values: dict[str, Any]) -> UniOVSegConfig:
    """Rebuilds a configuration from `config_to_dict`.

    Raises:
      ValueError: If a field is missing or unknown.
    """

    def build(cls: type, entries: Any, where: str) -> Any:
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(entries, dict) or set(entries) != names:
            found = set(entries) if isinstance(entries, dict) else set()
            raise ValueError(
                f"{where}: missing fields {sorted(names - found)}, "
                f"unknown fields {sorted(found - names)}."
            )
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in entries.items()})

    if not isinstance(values, dict):
        raise ValueError("model: expected an object of fields.")
    values = dict(values)
    values["clip"] = build(ClipConfig, values.get("clip"), "model.clip")
    if values.get("adapter") is not None:
        values["adapter"] = build(AdapterConfig, values["adapter"], "model.adapter")
    return build(UniOVSegConfig, values, "model")
