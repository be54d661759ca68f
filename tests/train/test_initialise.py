"""Variables come from the directories named, and from chance otherwise."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import traverse_util

from uniovseg_jax.models.presets import get_preset
from uniovseg_jax.models.uniovseg import init_variables
from uniovseg_jax.train.initialise import initial_variables
from uniovseg_jax.weights.store import params_sha256, save_pretrained

CONFIG = get_preset("test")


def test_parts_are_taken_over_and_missing_ones_are_drawn(clip_dir):
    variables, tokenizer = initial_variables(
        CONFIG, ("clip", "adapter"), str(clip_dir), seed=0, trained="adapter"
    )
    clip = init_variables(CONFIG, jax.random.key(5), ("clip",))
    jax.tree.map(np.testing.assert_array_equal, variables["params"]["clip"], clip["params"]["clip"])
    drawn = init_variables(CONFIG, jax.random.key(0), ("adapter",))["params"]["adapter"]
    jax.tree.map(np.testing.assert_array_equal, variables["params"]["adapter"], drawn)
    assert tokenizer is not None and tokenizer.count("a red ball") > 2


def test_without_directories_everything_is_drawn_by_the_seed():
    digests = [
        params_sha256(initial_variables(CONFIG, ("adapter",), "", seed, "adapter")[0])
        for seed in (0, 0, 1)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_another_clip_is_refused(clip_dir):
    other = dataclasses.replace(CONFIG, clip=dataclasses.replace(CONFIG.clip, norm_eps=1e-5))
    with pytest.raises(ValueError, match="the clip of .*model is not the one of config.model"):
        initial_variables(other, ("clip",), str(clip_dir), seed=0, trained="clip")


def test_another_size_is_refused_by_name(tmp_path):
    variables = init_variables(CONFIG, jax.random.key(0), ("adapter",))
    save_pretrained(tmp_path / "m", CONFIG, variables, None, ("adapter",))
    wider = dataclasses.replace(CONFIG, adapter=dataclasses.replace(CONFIG.adapter, rank=9))
    with pytest.raises(
        ValueError, match="the adapter of .* is not the one of config.model.*rank=9"
    ):
        initial_variables(wider, ("adapter",), str(tmp_path / "m"), seed=0, trained="adapter")


def test_a_missing_directory_is_named():
    with pytest.raises(FileNotFoundError, match="no/such"):
        initial_variables(CONFIG, ("clip",), "no/such", seed=0, trained="clip")


def test_a_frozen_part_is_never_drawn(clip_dir):
    with pytest.raises(ValueError, match="holds no masks; expected"):
        parts = ("clip", "masks", "adapter")
        initial_variables(CONFIG, parts, str(clip_dir), seed=0, trained="adapter")


def test_the_later_of_two_directories_counts(clip_dir, tmp_path):
    for seed in (1, 2):
        variables = init_variables(CONFIG, jax.random.key(seed), ("adapter",))
        save_pretrained(tmp_path / str(seed), CONFIG, variables, None, ("adapter",))
    both = f"{tmp_path / '1'}, {tmp_path / '2'}"
    found, _ = initial_variables(CONFIG, ("adapter",), both, seed=0, trained="adapter")
    flat = traverse_util.flatten_dict(found["params"], sep="/")
    second = traverse_util.flatten_dict(variables["params"], sep="/")
    assert all((flat[path] == second[path]).all() for path in second)
