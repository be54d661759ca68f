"""A model directory of the `test` preset with random weights, and how a benchmark is scored."""

import dataclasses
import pathlib

import jax

from configs.eval import get_config
from uniovseg_jax.models.presets import get_preset
from uniovseg_jax.models.tokenizer import train_tokenizer
from uniovseg_jax.models.uniovseg import init_variables
from uniovseg_jax.weights.store import PARTS, save_pretrained

# For images of 8 x 10 pixels. Random weights have no idea of quality: nothing is filtered by it.
QUICK = {
    "templates": "single",
    "input.short": 32,
    "input.longest": 64,
    "input.pad_to": 32,
    "proposals.score_threshold": 0.0,
    "prompts.points_per_side": 3,
}


def save_model(directory: pathlib.Path, seed: int = 0) -> pathlib.Path:
    """Returns the directory."""
    # Compiling takes most of the time here.
    config = dataclasses.replace(get_preset("test"), decoder_layers=1)
    # The tokenizer knows no word: every letter is a token.
    clip = dataclasses.replace(config.clip, context_length=77)
    config = dataclasses.replace(config, clip=clip)
    variables = init_variables(config, jax.random.key(seed), PARTS)
    tokenizer = train_tokenizer(["a"], clip.vocab_size, clip.context_length)
    save_pretrained(directory, config, variables, tokenizer, PARTS)
    return directory


def quick_config(name, **changes):
    """Returns the configuration of a benchmark that takes seconds; `__` stands for a dot."""
    config = get_config(name)
    config.update_from_flattened_dict(
        QUICK | {key.replace("__", "."): value for key, value in changes.items()}
    )
    return config
