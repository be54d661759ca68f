"""What a pair store was made with, beside what is asked for now."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import logging

from uniovseg_jax.alignment.pairs import match_costs
from uniovseg_jax.alignment.regions import AlignmentConfig
from uniovseg_jax.alignment.store import PairStore
from uniovseg_jax.models.adapter import source_names
from uniovseg_jax.models.presets import config_to_dict
from uniovseg_jax.settings import as_json, first_difference
from uniovseg_jax.weights.store import Pretrained, params_sha256

# Fields of `AlignmentConfig` that choose among pairs whose costs are known.
_SELECTION = ("topk", "min_cosine", "confident_share")


def describe_model(pretrained: Pretrained) -> dict[str, Any]:
    """Returns JSON values that identify all of a model that finds regions: not its adapter."""
    frozen = {name: pretrained.variables[name] for name in ("params", "fixed")}
    frozen["params"] = {k: v for k, v in frozen["params"].items() if k != "adapter"}
    config = config_to_dict(pretrained.config)
    adapter = pretrained.config.adapter
    pooled = adapter is not None and adapter.mode == "pooled"
    return {
        "config": {key: value for key, value in config.items() if key != "adapter"},
        "dtype": str(jnp.dtype(pretrained.model.dtype)),
        "vectors": list(source_names(adapter)) if adapter is not None and pooled else [],
        "params_sha256": params_sha256(frozen),
    }


def check_store(store: PairStore, pretrained: Pretrained, config: AlignmentConfig) -> None:
    """Compares what a store was made with and what is to learn from it.

    Stores of targets alone hold no pairs that were chosen; of them only the model is compared.

    Args:
      store: That is there.
      pretrained: The model.
      config: How its pairs should have been found.

    Raises:
      ValueError: If another model made the store, or its pairs were found in another way.
    """
    if "config" in store.settings:
        made = _data_fields(store.settings["config"])
        if other := first_difference(made, _data_fields(dataclasses.asdict(config)), "data"):
            raise ValueError(
                f"{store.directory} holds pairs that were found in another way: {other}; expected "
                "the same, or no data.pairs."
            )
    settings = store.settings
    while "of" in settings:  # Made from another store.
        settings = settings["of"]
    if "model" not in settings:
        return
    made, given = settings["model"], as_json(describe_model(pretrained))
    names = {"params_sha256": "weights", "vectors": "adapter sources"}
    for key, name in names.items():
        if made[key] != given[key]:
            raise ValueError(
                f"{store.directory} was made by a model with other {name}; expected a store of "
                "the model that stage 2 starts from."
            )


def find_earlier(
    directory: str | os.PathLike[str], settings: Mapping[str, Any], config: AlignmentConfig
) -> PairStore | None:
    """Returns the store of a directory if the pairs of other settings can be chosen from it.

    They can where the same regions were found, and all those are kept that are in pairs now. A line
    of the log says what is different, also where everything is to be found anew.

    Args:
      directory: That holds no store of these settings.
      settings: JSON values, those that the directory's store should have.
      config: The part of them that says how pairs are found.
    """
    try:
        store = PairStore(directory)
    except FileNotFoundError:
        return None
    except ValueError as error:
        logging.warning("%s That is done now.", error)
        return None
    made, wanted = store.settings, as_json(dict(settings))
    other = first_difference(made, wanted)
    if _without_selection(made) == _without_selection(wanted) and _keeps_pairs(store, config):
        logging.warning("%s: pairs are chosen anew from kept costs: %s.", directory, other)
        return store
    logging.warning("%s is replaced, everything is found anew: %s.", directory, other)
    return None


def _keeps_pairs(store: PairStore, config: AlignmentConfig) -> bool:
    """Tells whether the regions that would be in pairs were all kept."""
    for image in store.images():
        pairs = match_costs(image.regions.costs, config.topk, config.min_cosine)
        if not np.isin(pairs[:, 0], image.regions.kept).all():
            return False
    return True


def _data_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what decides over pairs, named as in a training configuration's `data`."""
    fields = {name: config[name] for name in ("cost", *_SELECTION)}
    return fields | {name: config["proposals"][name] for name in ("score_threshold", "nms_inside")}


def _without_selection(settings: Mapping[str, Any]) -> dict[str, Any]:
    config = settings.get("config", {})
    return {**settings, "config": {k: v for k, v in config.items() if k not in _SELECTION}}
