"""Sizes by name, from OpenCLIP's own JSON files, and from tensors."""

import dataclasses
import importlib.util
import json
import pathlib

import numpy as np
import pytest

from convert.openclip_models import (
    config_by_name,
    config_from_json,
    config_from_state,
    trunk_name,
)
from convert.openclip_rules import OPENCLIP_RULES
from convert.random_weights import random_variables
from uniovseg_jax.models.presets import CLIP_VARIANTS, UniOVSegConfig, get_preset
from uniovseg_jax.models.uniovseg import abstract_variables
from uniovseg_jax.weights.engine import invert

JSON = {
    "embed_dim": 96,
    "vision_cfg": {
        "timm_model_name": "convnext_atto",
        "timm_pool": "",
        "timm_proj": "mlp",
        "image_size": 128,
    },
    "text_cfg": {"context_length": 32, "vocab_size": 600, "width": 128, "heads": 2, "layers": 3},
}


def write(tmp_path, document):
    path = tmp_path / "model.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_a_bare_json_gives_all_sizes(tmp_path):
    config = config_from_json(write(tmp_path, JSON))
    assert config.depths == (2, 2, 6, 2) and config.widths == (40, 80, 160, 320)
    assert (config.embed_dim, config.head, config.image_size) == (96, "mlp", 128)
    assert (config.text_width, config.text_heads, config.text_layers) == (128, 2, 3)
    assert (config.vocab_size, config.context_length) == (600, 32)
    assert trunk_name(config) == "convnext_atto"


def test_a_hub_json_brings_mean_and_deviation(tmp_path):
    preprocess = {"mean": [0.5, 0.25, 0.1], "std": [0.2, 0.2, 0.4]}
    config = config_from_json(write(tmp_path, {"model_cfg": JSON, "preprocess_cfg": preprocess}))
    assert config.image_mean == pytest.approx((127.5, 63.75, 25.5))
    assert config.image_std == pytest.approx((51, 51, 102))
    # CLIP's own constants come out as the published ones, to the last digit.
    clip = {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
    }
    config = config_from_json(write(tmp_path, {"model_cfg": JSON, "preprocess_cfg": clip}))
    assert config.image_mean == CLIP_VARIANTS["convnext_base"].image_mean


def _open_clip_jsons():
    spec = importlib.util.find_spec("open_clip")
    if spec is None:
        return []
    folder = pathlib.Path(spec.submodule_search_locations[0]) / "model_configs"
    return sorted(folder.glob("convnext_*.json"))


def test_every_variant_is_what_open_clip_says():
    files = {path.stem: path for path in _open_clip_jsons()}
    if not files:
        pytest.skip("open_clip_torch is not installed (extra: convert)")
    variants = [name for name in CLIP_VARIANTS if name.startswith("convnext")]
    assert set(variants) <= set(files)
    for name in variants:
        assert config_from_json(files[name]) == config_by_name(name), name
    # And those without a variant can be read as well.
    for name in set(files) - set(variants):
        assert trunk_name(config_from_json(files[name])) == name.removesuffix("_320")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timm_model_name": "vit_base"}, "timm_model_name is 'vit_base'; expected one of"),
        ({"timm_pool": "avg"}, "vision_cfg.timm_pool is 'avg'; expected ''"),
        ({"timm_proj": "gated"}, "timm_proj is 'gated'; expected mlp or linear"),
        ({"image_size": [64, 96]}, "image_size is .64, 96.; expected a square"),
    ],
)
def test_another_image_tower_is_refused(tmp_path, change, message):
    document = {**JSON, "vision_cfg": JSON["vision_cfg"] | change}
    with pytest.raises(ValueError, match=message):
        config_from_json(write(tmp_path, document))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hf_model_name": "roberta"}, "text_cfg.hf_model_name is 'roberta'; expected None"),
        ({"no_causal_mask": True}, "text_cfg.no_causal_mask is True; expected False"),
    ],
)
def test_another_text_tower_is_refused(tmp_path, change, message):
    document = {**JSON, "text_cfg": JSON["text_cfg"] | change}
    with pytest.raises(ValueError, match=message):
        config_from_json(write(tmp_path, document))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embed_dim": None}, "embed_dim is None; expected a positive whole number"),
        ({"embed_dim": -5}, "embed_dim is -5; expected"),
        ({"vision_cfg": JSON["vision_cfg"] | {"image_size": None}}, "image_size is None"),
        ({"vision_cfg": JSON["vision_cfg"] | {"image_size": [[64]]}}, "image_size is"),
        ({"vision_cfg": JSON["vision_cfg"] | {"timm_model_name": ["x"]}}, ""),
        ({"text_cfg": "x"}, ""),
        ({"text_cfg": JSON["text_cfg"] | {"width": "abc"}}, "width is 'abc'"),
    ],
)
def test_sizes_that_are_no_sizes_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=rf"model.json.*{message}"):
        config_from_json(write(tmp_path, JSON | change))


@pytest.mark.parametrize("values", ["0.5", [0.5], ["a", "b", "c"], [None, 1, 1]])
def test_means_that_are_no_means_are_named(tmp_path, values):
    with pytest.raises(ValueError, match="model.json"):
        config_from_json(write(tmp_path, {"model_cfg": JSON, "preprocess_cfg": {"mean": values}}))


def test_sizes_are_read_from_tensors():
    config = get_preset("test").clip
    config = dataclasses.replace(config, text_width=128, text_heads=2)
    shapes = abstract_variables(UniOVSegConfig(clip=config), ("clip",))
    state = invert(random_variables(shapes, 0), OPENCLIP_RULES)
    found = config_from_state(state)
    for name in ("depths", "widths", "embed_dim", "head", "text_width", "text_heads",
                 "text_layers", "vocab_size", "context_length"):  # fmt: skip
        assert getattr(found, name) == getattr(config, name), name
    with pytest.raises(ValueError, match="no ConvNeXt CLIP of OpenCLIP: text_projection is miss"):
        config_from_state({k: x for k, x in state.items() if k != "text_projection"})
    with pytest.raises(ValueError, match=r"text_projection has shape \(3,\), expected 2 axes"):
        config_from_state(state | {"text_projection": np.zeros(3)})


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"model_cfg": {}}', '{"vision_cfg": 3}'])
def test_what_is_no_model_json_is_named(tmp_path, content):
    with pytest.raises(ValueError, match="model.json is no OpenCLIP model JSON"):
        config_from_json(write(tmp_path, content))


def test_unknown_names_and_missing_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="Unknown model_name 'resnet'; expected one of convnext_"):
        config_by_name("resnet")
    with pytest.raises(FileNotFoundError, match="no such file"):
        config_from_json(tmp_path / "nothing.json")
