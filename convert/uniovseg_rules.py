"""Names of the released Uni-OVSeg stage-1 checkpoint (901 tensors for the `released` preset).

Source: the published checkpoint's names and shapes; list order is irrelevant here, every name
matches one rule.
"""

from convert.openclip_rules import openclip_rules
from uniovseg_jax.weights.rules import (
    CONV,
    CONV_1X1,
    KEEP,
    Rule,
    attention_rules,
    drop_leading,
    linear_rules,
    norm_rules,
    rule,
)

CLIP_PREFIX = "backbone.clip_model."
PIXEL_DECODER_PREFIX = "sem_seg_head.pixel_decoder"
PREDICTOR_PREFIX = "sem_seg_head.predictor"


def _fourier_rule(source: str, target: str) -> Rule:
    return rule(
        f"{source}.positional_encoding_gaussian_matrix",
        f"fixed/{target}/position_encoding/fourier_matrix",
        KEEP,
    )


def _pixel_decoder_rules() -> list[Rule]:
    source, target = PIXEL_DECODER_PREFIX, "params/pixel_decoder"
    layer, encoder = f"{source}.transformer.encoder.layers.{{i}}", f"{target}/encoder_{{i}}"
    rules = [
        *linear_rules(f"{source}.input_proj.{{i}}.0", f"{target}/input_proj_{{i}}", CONV_1X1),
        # LayerNorm or GroupNorm: the same two vectors.
        *norm_rules(f"{source}.input_proj.{{i}}.1", f"{target}/input_norm_{{i}}"),
        rule(f"{source}.transformer.level_embed", f"{target}/level_embed", KEEP),
        _fourier_rule(f"{source}.pe_layer", "pixel_decoder"),
    ]
    for name in ("sampling_offsets", "attention_weights", "value_proj", "output_proj"):
        rules += linear_rules(f"{layer}.self_attn.{name}", f"{encoder}/self_attn/{name}")
    return [
        *rules,
        *norm_rules(f"{layer}.norm1", f"{encoder}/norm1"),
        *norm_rules(f"{layer}.norm2", f"{encoder}/norm2"),
        *linear_rules(f"{layer}.linear1", f"{encoder}/ffn/fc1"),
        *linear_rules(f"{layer}.linear2", f"{encoder}/ffn/fc2"),
        rule(f"{source}.adapter_1.weight", f"{target}/lateral_res2/kernel", CONV_1X1),
        *norm_rules(f"{source}.adapter_1.norm", f"{target}/lateral_norm_res2"),
        rule(f"{source}.layer_1.weight", f"{target}/output_res2/kernel", CONV),
        *norm_rules(f"{source}.layer_1.norm", f"{target}/output_norm_res2"),
        *linear_rules(f"{source}.mask_features", f"{target}/mask_features", CONV_1X1),
    ]


def _prompt_encoder_rules() -> list[Rule]:
    source, target = f"{PREDICTOR_PREFIX}.prompt_encoder", "params/prompt_encoder"
    return [
        rule(f"{source}.corner_emb", f"{target}/corner_embed", drop_leading(1)),
        rule(f"{source}.point_emb", f"{target}/point_embed", drop_leading(2)),
        rule(f"{source}.box_emb", f"{target}/box_embed", drop_leading(2)),
        rule(f"{source}.mask_emb", f"{target}/mask_embed", drop_leading(1)),
        rule(f"{source}.attr_emb.weight", f"{target}/click_embed", KEEP),
        _fourier_rule(f"{source}.pos_emb", "prompt_encoder"),
    ]


def _mask_decoder_rules() -> list[Rule]:
    source, target = PREDICTOR_PREFIX, "params/mask_decoder"
    extra = f"{source}.extra_self_attention_layer"
    self_attn = f"{source}.transformer_self_attention_layers.{{i}}"
    cross_attn = f"{source}.transformer_cross_attention_layers.{{i}}"
    ffn = f"{source}.transformer_ffn_layers.{{i}}"
    return [
        _fourier_rule(f"{source}.pe_layer", "mask_decoder"),
        rule(f"{source}.level_embed.weight", f"{target}/level_embed", KEEP),
        *attention_rules(f"{extra}.self_attn", f"{target}/extra_self_attn"),
        *norm_rules(f"{extra}.norm", f"{target}/extra_norm"),
        *attention_rules(f"{cross_attn}.multihead_attn", f"{target}/cross_attn_{{i}}"),
        *norm_rules(f"{cross_attn}.norm", f"{target}/cross_norm_{{i}}"),
        *attention_rules(f"{self_attn}.self_attn", f"{target}/self_attn_{{i}}"),
        *norm_rules(f"{self_attn}.norm", f"{target}/self_norm_{{i}}"),
        *linear_rules(f"{ffn}.linear1", f"{target}/ffn_{{i}}/fc1"),
        *linear_rules(f"{ffn}.linear2", f"{target}/ffn_{{i}}/fc2"),
        *norm_rules(f"{ffn}.norm", f"{target}/ffn_norm_{{i}}"),
        *norm_rules(f"{source}.decoder_norm", f"{target}/decoder_norm"),
        *linear_rules(f"{source}.feat_embed", f"{target}/feat_embed", CONV_1X1),
        *linear_rules(
            f"{source}.mask_embed.{{k}}.layers.{{j}}", f"{target}/mask_embed_{{k}}/layers_{{j}}"
        ),
        *linear_rules(
            f"{source}.iou_embed.{{k}}.layers.{{j}}", f"{target}/iou_embed_{{k}}/layers_{{j}}"
        ),
    ]


# Only the three parts that stage 1 trains.
MASK_RULES: tuple[Rule, ...] = (
    *_pixel_decoder_rules(),
    *_prompt_encoder_rules(),
    *_mask_decoder_rules(),
)


def uniovseg_rules(conv_mlp: bool) -> tuple[Rule, ...]:
    """Returns the table of a complete checkpoint; `conv_mlp` as for `openclip_rules`."""
    return (*(r.with_source_prefix(CLIP_PREFIX) for r in openclip_rules(conv_mlp)), *MASK_RULES)


UNIOVSEG_RULES = uniovseg_rules(conv_mlp=False)
