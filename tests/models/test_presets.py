import dataclasses
import json

import pytest

from uniovseg_jax.models import presets


@pytest.mark.parametrize("name", list(presets.PRESETS))
def test_a_preset_survives_json(name):
    config = presets.get_preset(name)
    text = json.dumps(presets.config_to_dict(config))
    assert presets.config_from_dict(json.loads(text)) == config


def test_a_model_without_an_adapter_survives_json():
    config = dataclasses.replace(presets.get_preset("test"), adapter=None)
    assert presets.config_from_dict(presets.config_to_dict(config)) == config


def test_presets_hold_together():
    for name, config in presets.PRESETS.items():
        assert config.image_size % 32 == 0, name
        assert config.dim % config.num_heads == 0 and config.dim % config.num_groups == 0, name
        assert all(scale % 32 == 0 for scale in config.align_scales), name
        assert config.image_size in config.align_scales or name == "paper", name
    assert presets.get_preset("paper").image_size in presets.get_preset("paper").align_scales


def test_published_sizes():
    released, paper = presets.get_preset("released"), presets.get_preset("paper")
    assert released.clip == paper.clip == presets.CLIP_VARIANTS["convnext_large_d_320"]
    assert (released.image_size, paper.image_size) == (1024, 896)
    assert (released.decoder_layers, paper.decoder_layers) == (9, 6)
    assert (released.quality_head, paper.quality_head) == (True, False)
    assert released.masks_per_point == paper.masks_per_point == 4


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(ValueError, match="released, paper, nano, test"):
        presets.get_preset("relaesed")


@pytest.mark.parametrize("where", ["dim", "clip.depths", "adapter.rank"])
def test_missing_and_unknown_fields_are_named(where):
    values = presets.config_to_dict(presets.get_preset("test"))
    *parents, field = where.split(".")
    owner = values
    for parent in parents:
        owner = owner[parent]
    del owner[field]
    owner["invented"] = 1
    with pytest.raises(ValueError, match=f"{field}.*invented"):
        presets.config_from_dict(values)


def test_something_that_is_no_object_is_refused():
    values = presets.config_to_dict(presets.get_preset("test"))
    with pytest.raises(ValueError, match="model.clip"):
        presets.config_from_dict({**values, "clip": [1, 2]})
