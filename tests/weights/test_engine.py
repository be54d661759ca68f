import jax
import numpy as np
import pytest
from flax import traverse_util

from convert.openclip_rules import OPENCLIP_RULES
from convert.uniovseg_rules import (
    CLIP_PREFIX,
    PIXEL_DECODER_PREFIX,
    PREDICTOR_PREFIX,
    UNIOVSEG_RULES,
    uniovseg_rules,
)
from uniovseg_jax.models import presets
from uniovseg_jax.models.uniovseg import abstract_variables
from uniovseg_jax.weights import engine
from uniovseg_jax.weights.rules import CONV, DENSE, KEEP, attention_rules, drop_leading, rule


def shapes_of(config, parts):
    return traverse_util.flatten_dict(abstract_variables(config, parts), sep="/")


def random_state(shapes, rules, seed=0):
    """A checkpoint with the published names and shapes."""
    rng = np.random.default_rng(seed)
    values = {path: rng.standard_normal(x.shape).astype(np.float32) for path, x in shapes.items()}
    return engine.invert(values, rules)


def test_the_released_checkpoint_has_901_tensors_of_the_published_sizes():
    shapes = shapes_of(presets.get_preset("released"), ("clip", "masks"))
    # One number repeated by strides, so that 374 million numbers take no memory.
    values = {path: np.broadcast_to(np.float32(0), x.shape) for path, x in shapes.items()}
    state = engine.invert(values, UNIOVSEG_RULES)
    assert len(state) == 901
    counts = engine.count_by_prefix(state, depth=2)
    assert counts[PIXEL_DECODER_PREFIX][1] == 5_790_400
    assert counts[PREDICTOR_PREFIX][1] == 16_188_933
    assert sum(numbers for _, numbers in counts.values()) == 373_751_942
    assert set(counts) == {PIXEL_DECODER_PREFIX, PREDICTOR_PREFIX, CLIP_PREFIX.rstrip(".")}

    expected = {
        "backbone.clip_model.visual.trunk.stem.0.weight": (192, 3, 4, 4),
        "backbone.clip_model.visual.trunk.stages.3.downsample.1.weight": (1536, 768, 2, 2),
        "backbone.clip_model.visual.trunk.stages.2.blocks.26.conv_dw.weight": (768, 1, 7, 7),
        "backbone.clip_model.visual.trunk.stages.0.blocks.0.gamma": (192,),
        "backbone.clip_model.visual.head.mlp.fc2.weight": (768, 1536),
        "backbone.clip_model.transformer.resblocks.15.attn.in_proj_weight": (2304, 768),
        "backbone.clip_model.transformer.resblocks.0.mlp.c_fc.weight": (3072, 768),
        "backbone.clip_model.text_projection": (768, 768),
        "backbone.clip_model.logit_scale": (),
        "sem_seg_head.pixel_decoder.input_proj.0.0.weight": (256, 1536, 1, 1),
        "sem_seg_head.pixel_decoder.input_proj.2.1.bias": (256,),
        "sem_seg_head.pixel_decoder.transformer.level_embed": (3, 256),
        "sem_seg_head.pixel_decoder.transformer.encoder.layers.5.self_attn.sampling_offsets.weight":
            (192, 256),
        "sem_seg_head.pixel_decoder.transformer.encoder.layers.0.linear2.weight": (256, 1024),
        "sem_seg_head.pixel_decoder.pe_layer.positional_encoding_gaussian_matrix": (2, 128),
        "sem_seg_head.pixel_decoder.adapter_1.weight": (256, 192, 1, 1),
        "sem_seg_head.pixel_decoder.layer_1.weight": (256, 256, 3, 3),
        "sem_seg_head.predictor.level_embed.weight": (3, 256),
        "sem_seg_head.predictor.extra_self_attention_layer.self_attn.in_proj_bias": (768,),
        "sem_seg_head.predictor.transformer_cross_attention_layers.8.multihead_attn.out_proj.weight":
            (256, 256),
        "sem_seg_head.predictor.transformer_self_attention_layers.8.norm.weight": (256,),
        "sem_seg_head.predictor.transformer_ffn_layers.8.linear1.weight": (2048, 256),
        "sem_seg_head.predictor.mask_embed.4.layers.2.weight": (256, 256),
        "sem_seg_head.predictor.iou_embed.0.layers.2.weight": (1, 256),
        "sem_seg_head.predictor.prompt_encoder.corner_emb": (1, 2, 256),
        "sem_seg_head.predictor.prompt_encoder.point_emb": (1, 1, 256),
        "sem_seg_head.predictor.prompt_encoder.mask_emb": (1, 5, 256),
        "sem_seg_head.predictor.prompt_encoder.attr_emb.weight": (2, 256),
    }  # fmt: skip
    assert {name: state[name].shape for name in expected} == expected


@pytest.mark.parametrize("name", ["test", "nano"])
def test_conversion_and_its_inverse_return_every_number(name):
    shapes = shapes_of(presets.get_preset(name), ("clip", "masks"))
    state = random_state(shapes, UNIOVSEG_RULES)
    flat = engine.convert(state, UNIOVSEG_RULES, shapes)
    assert set(flat) == set(shapes)
    back = engine.invert(flat, UNIOVSEG_RULES)
    assert set(back) == set(state)
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value)


def test_a_small_trunk_inside_goes_back_to_convolutions():
    shapes = shapes_of(presets.get_preset("test"), ("clip", "masks"))
    state = random_state(shapes, uniovseg_rules(conv_mlp=True))
    name = f"{CLIP_PREFIX}visual.trunk.stages.0.blocks.0.mlp.fc1.weight"
    assert state[name].ndim == 4 and state[name].shape[2:] == (1, 1)
    flat = engine.convert(state, UNIOVSEG_RULES, shapes)
    back = engine.invert(flat, uniovseg_rules(conv_mlp=True))
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value)


def test_a_linear_head_has_its_own_name():
    config = presets.get_preset("released")
    clip = presets.CLIP_VARIANTS["convnext_base_w"]
    shapes = shapes_of(presets.UniOVSegConfig(clip=clip, adapter=config.adapter), ("clip",))
    values = {path: np.broadcast_to(np.float32(0), x.shape) for path, x in shapes.items()}
    state = engine.invert(values, OPENCLIP_RULES)
    assert state["visual.head.proj.weight"].shape == (640, 1024)
    assert "visual.head.mlp.fc1.weight" not in state


def test_fused_attention_rows_belong_to_query_key_value_and_their_heads():
    rules = attention_rules("layer.{i}.attn", "params/layer_{i}/attn")
    targets = {
        f"params/layer_7/attn/{name}/{kind}": jax.ShapeDtypeStruct(shape, np.float32)
        for name in ("query", "key", "value")
        for kind, shape in (("kernel", (6, 2, 3)), ("bias", (2, 3)))
    }
    targets["params/layer_7/attn/out/kernel"] = jax.ShapeDtypeStruct((2, 3, 6), np.float32)
    targets["params/layer_7/attn/out/bias"] = jax.ShapeDtypeStruct((6,), np.float32)
    rng = np.random.default_rng(0)
    fused, out = rng.standard_normal((18, 6)), rng.standard_normal((6, 6))
    state = {
        "layer.7.attn.in_proj_weight": fused,
        "layer.7.attn.in_proj_bias": fused[:, 0],
        "layer.7.attn.out_proj.weight": out,
        "layer.7.attn.out_proj.bias": out[0],
    }
    flat = engine.convert(state, rules, targets)
    x = rng.standard_normal(6)
    for block, name in enumerate(("query", "key", "value")):
        rows = (fused @ x)[6 * block : 6 * block + 6]
        ours = np.einsum("d,dhc->hc", x, flat[f"params/layer_7/attn/{name}/kernel"])
        np.testing.assert_allclose(ours, rows.reshape(2, 3))
        bias = flat[f"params/layer_7/attn/{name}/bias"]
        np.testing.assert_array_equal(bias.ravel(), fused[6 * block : 6 * block + 6, 0])
    heads = x.reshape(2, 3)
    ours = np.einsum("hc,hcd->d", heads, flat["params/layer_7/attn/out/kernel"])
    np.testing.assert_allclose(ours, out @ x)


def test_dense_layers_kept_as_convolutions_are_taken_too():
    rules = [rule("fc1.weight", "params/fc1/kernel", DENSE)]
    targets = {"params/fc1/kernel": np.zeros((3, 5))}
    weight = np.arange(15.0).reshape(5, 3)
    for source in (weight, weight[:, :, None, None]):
        flat = engine.convert({"fc1.weight": source}, rules, targets)
        np.testing.assert_array_equal(flat["params/fc1/kernel"], weight.T)


def test_all_complaints_come_at_once_and_name_their_tensors():
    rules = [
        rule("a.{i}.weight", "params/a_{i}/kernel", DENSE),
        rule("b.weight", "params/b/kernel", CONV),
        rule("c", "params/c", drop_leading(1)),
        rule("old_d", "params/d", KEEP),
        rule("new_d", "params/d", KEEP),
    ]
    targets = {
        "params/a_0/kernel": np.zeros((2, 3)),
        "params/a_1/kernel": np.zeros((2, 3)),
        "params/b/kernel": np.zeros((1, 1, 2, 2)),
        "params/c": np.zeros(4),
        "params/d": np.zeros(1),
    }
    state = {
        "a.0.weight": np.zeros((2, 3)),  # Not transposed.
        "a.2.weight": np.zeros((3, 2)),  # A layer too many; layer 1 is missing.
        "b.weight": np.zeros((2, 2)),  # No convolution.
        "c": np.zeros((2, 4)),
        "old_d": np.zeros(1),
        "new_d": np.zeros(1),
        "extra": np.zeros(1),
    }
    with pytest.raises(ValueError) as caught:
        engine.convert(state, rules, targets)
    message = str(caught.value)
    for expected in (
        "shape: params/a_0/kernel expects (2, 3), a.0.weight gives (3, 2)",
        "unused: a.2.weight (3, 2): the model has no params/a_2/kernel",
        "missing: params/a_1/kernel (2, 3)",
        "shape: b.weight: expected 4 axes",
        "shape: c: expected 1 leading axes of length 1",
        "twice: params/d is filled again by new_d",
        "unused: extra (1,): no rule names it",
    ):
        assert expected in message
    assert message.startswith("7 mismatches")


def test_inverse_names_parameters_that_no_rule_or_no_tensor_covers():
    rules = attention_rules("attn", "params/attn")
    values = {"params/attn/query/bias": np.zeros((2, 3)), "params/other": np.zeros(1)}
    with pytest.raises(ValueError) as caught:
        engine.invert(values, rules)
    assert "params/attn/key/bias" in str(caught.value)
    assert "unused: params/other" in str(caught.value)


def test_placeholders_are_numbers_only():
    assert rule("a.{i}", "b_{i}", KEEP).match_source("a.12") == ("b_12",)
    assert rule("a.{i}", "b_{i}", KEEP).match_source("a.x") is None
    # A dot in a name is a dot, not any character.
    assert rule("a.{i}", "b_{i}", KEEP).match_source("ab1") is None
