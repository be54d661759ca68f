"""Configurations of the phases at the size of the test suite, on one small rendered world."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from uniovseg_jax.alignment.store_writer import write_targets
from uniovseg_jax.models.presets import config_from_dict, get_preset
from uniovseg_jax.models.tokenizer import train_tokenizer
from uniovseg_jax.models.uniovseg import init_variables
from uniovseg_jax.prompt_templates import TEMPLATES
from uniovseg_jax.weights.store import save_pretrained

_ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="session")
def world_dir(tmp_path_factory):
    """Where the small world is rendered, part by part, when a phase first asks for it."""
    return tmp_path_factory.mktemp("world")


@pytest.fixture(scope="session")
def load_config():
    """Returns `name -> get_config` of configs/<name>.py."""

    def load(name):
        path = _ROOT / "configs" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"{name}_config", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.get_config

    return load


@pytest.fixture(scope="session")
def get_config(load_config):
    """`get_config` of configs/tinyscenes.py."""
    return load_config("tinyscenes")


@pytest.fixture(scope="session")
def clip_dir(tmp_path_factory):
    """A model directory with a random CLIP of the preset `test`."""
    directory = tmp_path_factory.mktemp("clip") / "model"
    config = get_preset("test")
    variables = init_variables(config, jax.random.key(5), ("clip",))
    tokenizer = train_tokenizer(["a red ball", "a blue boat"], config.clip.vocab_size, 32)
    save_pretrained(directory, config, variables, tokenizer, ("clip",))
    return directory


@pytest.fixture(scope="session")
def stage1_dir(get_config, tmp_path_factory):
    """A model directory with clip and masks at random."""
    directory = tmp_path_factory.mktemp("stage1") / "model"
    model = config_from_dict(get_config("stage2,preset=test").model.to_dict())
    variables = init_variables(model, jax.random.key(0), ("clip", "masks"))
    texts = [template.replace("{}", "a red ball") for template in TEMPLATES["vild14"]]
    tokenizer = train_tokenizer(texts, model.clip.vocab_size, model.clip.context_length)
    save_pretrained(directory, model, variables, tokenizer, ("clip", "masks"))
    return directory


@pytest.fixture(scope="session")
def pairs_dir(get_config, tmp_path_factory):
    """Pairs of four names, whose vectors are four directions with some noise."""
    rng = np.random.default_rng(0)
    model = config_from_dict(get_config("stage2,preset=test").model.to_dict())
    widths = dict(zip(("res2", "res3", "res4", "res5"), model.clip.widths, strict=True))
    widths["clip"] = model.clip.widths[-1]
    centres = {name: rng.normal(size=(4, width)) for name, width in widths.items()}
    rows = []
    for i in range(200):
        noisy = {k: v[i % 4] + 0.1 * rng.normal(size=v.shape[1]) for k, v in centres.items()}
        rows.append(({k: v.astype(np.float32) for k, v in noisy.items()}, f"name {i % 4}"))
    text = rng.normal(size=(4, model.clip.embed_dim)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    directory = tmp_path_factory.mktemp("pairs") / "pairs"
    write_targets(directory, {}, rows, lambda names: text[[int(name[-1]) for name in names]])
    return directory


@pytest.fixture(scope="session")
def make_config(get_config, world_dir, clip_dir):
    """Returns `(phase, **changes) -> config`; changes name fields, `__` standing for a dot."""

    def make(phase, /, **changes):
        config = get_config(f"{phase},tiny,preset=test")
        config.data.directory = str(world_dir)
        config.init = "" if phase == "clip" else str(clip_dir)
        config.num_devices = 1
        config.batch_size = 8
        config.evals.num_examples = 16
        config.optimizer.warmup_steps = 1
        config.log.every = 1
        if phase == "stage1":
            config.data.update(max_instances=4, num_boxes=2, points_per_side=2)
            config.loss.num_points = 16
        config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
        return config

    return make
