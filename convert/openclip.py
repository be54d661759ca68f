"""An OpenCLIP state dict to a model directory."""

import os
import pathlib
import zlib
from collections.abc import Sequence
from typing import Any, Literal

from flax import traverse_util

from convert.checkpoints import read_checkpoint
from convert.openclip_models import config_from_state, open_clip_folder
from convert.openclip_rules import OPENCLIP_RULES
from convert.openclip_torch import import_open_clip
from convert.parity import Parity
from convert.verification import Verification
from uniovseg_jax.models.presets import ClipConfig, UniOVSegConfig
from uniovseg_jax.models.tokenizer import Tokenizer
from uniovseg_jax.models.uniovseg import abstract_variables
from uniovseg_jax.weights.engine import convert
from uniovseg_jax.weights.store import (
    check_replaceable,
    flatten_variables,
    load_pretrained,
    save_pretrained,
)

_HUB_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_HUB_CONFIG = "open_clip_config.json"


def convert_openclip(
    checkpoint: str | os.PathLike[str],
    config: ClipConfig,
    tokenizer: Tokenizer,
    output: pathlib.Path,
    dtype: Literal["float32", "float16"] = "float32",
    verify: Verification | None = None,
) -> Parity | None:
    """Converts a checkpoint file; with `verify` it writes the parity report beside the weights.

    Args:
      checkpoint: Of OpenCLIP, as `read_checkpoint` takes it.
      config: Sizes of the model.
      tokenizer: That its text tower was trained with.
      output: The model directory to write, part `clip`.
      dtype: How weights are stored.
      verify: How to check, if at all.

    Returns:
      The parity with the original where it was asked for; the model directory is there either way.

    Raises:
      FileNotFoundError: If there is no such file.
      ImportError: If OpenCLIP is missing and needed.
      ValueError: If the file is damaged, its tensors do not fit the sizes (all of them at once), or
        the output holds something else.
    """
    check_replaceable(output)
    if verify is not None:
        import_open_clip()  # What is quickly wrong is found before anything is read.
    state = read_checkpoint(checkpoint)
    _compare_sizes(config_from_state(state), config)
    model = UniOVSegConfig(clip=config)
    expected = flatten_variables(abstract_variables(model, ("clip",)))
    flat = convert(state, OPENCLIP_RULES, expected)
    variables = traverse_util.unflatten_dict(flat, sep="/")
    metadata = {"source": os.path.basename(checkpoint), "tensors": len(state)}
    save_pretrained(output, model, variables, tokenizer, ("clip",), dtype, metadata)
    if verify is None:
        return None
    from convert.verify_openclip import verify_openclip

    del flat, variables
    # What was stored, as a user will read it.
    parity = verify_openclip(config, load_pretrained(output).variables, tokenizer, state, verify)
    parity.write(output)
    return parity


def _compare_sizes(found: ClipConfig, expected: ClipConfig) -> None:
    """Tells another model in one sentence, before hundreds of tensors do not fit."""
    sizes = (
        "depths", "widths", "embed_dim", "head", "text_width", "text_layers", "vocab_size",
        "context_length",
    )  # fmt: skip
    other = [
        f"{name} {getattr(found, name)}, expected {getattr(expected, name)}"
        for name in sizes
        if getattr(found, name) != getattr(expected, name)
    ]
    if other:
        raise ValueError(
            f"The checkpoint is another model than the one that was named: {'; '.join(other)}."
        )


def download(repository: str) -> tuple[str, str]:
    """Fetches weights and configuration of a hub repository; returns their files.

    Raises:
      ImportError: If `huggingface_hub` is missing.
      ValueError: If the hub cannot be reached or holds no such files.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            "A hub name needs huggingface_hub; install it, or download the file and name it."
        ) from error

    # The small file first: without it the large one is of no use.
    config = _fetch(huggingface_hub, repository, (_HUB_CONFIG,))
    return _fetch(huggingface_hub, repository, _HUB_WEIGHTS), config


def _fetch(hub: Any, repository: str, names: Sequence[str]) -> str:
    """Returns the first of these files that the repository has."""
    problems: list[str] = []
    for name in names:
        try:
            return hub.hf_hub_download(repository, name)
        except Exception as error:  # The library has dozens of its own and its transport's.
            problems.append(f"{name}: {type(error).__name__}")
    raise ValueError(
        f"The hub gave no file of {repository} ({', '.join(problems)}); expected a reachable "
        "repository with OpenCLIP files."
    )


def clip_tokenizer(merges: str | None, config: ClipConfig) -> Tokenizer:
    """Returns CLIP's tokenizer, from a file of merges or from the one that OpenCLIP brings along.

    Raises:
      FileNotFoundError: If there is no such file.
      ImportError: If none is named and open_clip_torch is missing.
      ValueError: If the model's text tower has another vocabulary.
    """
    if merges is None:
        folder = open_clip_folder()
        if folder is None:
            raise ImportError(
                "CLIP's vocabulary comes with open_clip_torch, which is not installed; expected "
                "pip install 'uniovseg_jax[convert]', or --merges=bpe_simple_vocab_16e6.txt.gz."
            )
        merges = str(folder / "bpe_simple_vocab_16e6.txt.gz")
    if not os.path.isfile(merges):
        raise FileNotFoundError(f"{merges}: no such file; expected bpe_simple_vocab_16e6.txt.gz.")
    try:
        tokenizer = Tokenizer.from_clip_merges(merges, config.context_length)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(
            f"{merges} is no bpe_simple_vocab_16e6.txt.gz of CLIP: {error or type(error).__name__}."
        ) from error
    if tokenizer.vocab_size != config.vocab_size:
        raise ValueError(
            f"The model has {config.vocab_size} token ids, CLIP's vocabulary "
            f"{tokenizer.vocab_size}; expected a model that was trained with CLIP's tokenizer."
        )
    return tokenizer
