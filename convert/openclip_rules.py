"""Names of OpenCLIP's ConvNeXt CLIPs (plain layout, text tower without a prefix).

Source: state dicts of `open_clip.create_model("convnext_*")`.
"""

from uniovseg_jax.weights.rules import (
    CONV,
    CONV_1X1,
    DENSE,
    KEEP,
    Rule,
    attention_rules,
    linear_rules,
    norm_rules,
    rule,
)


def _visual_rules(conv_mlp: bool) -> list[Rule]:
    source, target = "visual.trunk", "params/clip/visual"
    block = "visual.trunk.stages.{s}.blocks.{b}"
    block_target = f"{target}/stage_{{s}}/block_{{b}}"
    # Read in either layout; this is how it is written back.
    mlp = CONV_1X1 if conv_mlp else DENSE
    down, down_target = "visual.trunk.stages.{s}.downsample", f"{target}/stage_{{s}}/downsample"
    return [
        *linear_rules(f"{source}.stem.0", f"{target}/stem/conv", CONV),
        *norm_rules(f"{source}.stem.1", f"{target}/stem/norm"),
        *norm_rules(f"{down}.0", f"{down_target}/norm"),
        *linear_rules(f"{down}.1", f"{down_target}/conv", CONV),
        *linear_rules(f"{block}.conv_dw", f"{block_target}/conv_dw", CONV),
        *norm_rules(f"{block}.norm", f"{block_target}/norm"),
        *linear_rules(f"{block}.mlp.fc1", f"{block_target}/fc1", mlp),
        *linear_rules(f"{block}.mlp.fc2", f"{block_target}/fc2", mlp),
        rule(f"{block}.gamma", f"{block_target}/gamma", KEEP),
    ]


def _head_rules() -> list[Rule]:
    return [
        *norm_rules("visual.trunk.head.norm", "params/clip/head/norm"),
        *linear_rules("visual.head.mlp.fc1", "params/clip/head/fc1"),
        rule("visual.head.mlp.fc2.weight", "params/clip/head/fc2/kernel", DENSE),
        # Models with a linear head.
        rule("visual.head.proj.weight", "params/clip/head/proj/kernel", DENSE),
    ]


def _text_rules() -> list[Rule]:
    layer, target = "transformer.resblocks.{l}", "params/clip/text"
    layer_target = f"{target}/layer_{{l}}"
    return [
        rule("token_embedding.weight", f"{target}/token_embedding", KEEP),
        rule("positional_embedding", f"{target}/positional_embedding", KEEP),
        *norm_rules(f"{layer}.ln_1", f"{layer_target}/ln_1"),
        *attention_rules(f"{layer}.attn", f"{layer_target}/attn"),
        *norm_rules(f"{layer}.ln_2", f"{layer_target}/ln_2"),
        *linear_rules(f"{layer}.mlp.c_fc", f"{layer_target}/fc1"),
        *linear_rules(f"{layer}.mlp.c_proj", f"{layer_target}/fc2"),
        *norm_rules("ln_final", f"{target}/ln_final"),
        # Published as (input, output) already.
        rule("text_projection", f"{target}/text_projection", KEEP),
        rule("logit_scale", "params/clip/logit_scale", KEEP),
    ]


def openclip_rules(conv_mlp: bool) -> tuple[Rule, ...]:
    """Returns the table; small trunks keep the dense layers of a block as 1x1 convolutions."""
    return (*_visual_rules(conv_mlp), *_head_rules(), *_text_rules())


OPENCLIP_RULES = openclip_rules(conv_mlp=False)
