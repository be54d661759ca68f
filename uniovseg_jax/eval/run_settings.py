"""The settings of a finished run: in words, and in what they are not those of its protocol."""

from collections.abc import Callable, Mapping
from typing import Any

import ml_collections

from uniovseg_jax.eval.from_config import deciding_settings, flat_settings
from uniovseg_jax.settings import as_json

# What configs/eval.py has: from a benchmark and its options to a configuration.
GetConfig = Callable[[str], ml_collections.ConfigDict]

# What is scored, of which images; all else is how.
_OF_THE_SET = ("benchmark", "protocol", "split", "tasks", "limit", "save_predictions")
# What has no part in masks for prompts, and in results with words.
_OF_WORDS = ("templates", "synonyms", "scales", "flip", "proposals", "merge")
_OF_PROMPTS = ("prompts",)
# What does not count, by how images get into the network.
_OF_OTHER_INPUT = {
    "short_side": ("input.side",),
    "letterbox": ("input.short", "input.longest", "input.pad_to"),
}
# What some values stand for.
_WORDS = {
    ("input.short", 0): "the benchmark's",
    ("input.longest", 0): "the benchmark's",
    ("input.side", 0): "the model's",
    ("proposals.points_per_side", 0): "the model's",
    ("proposals.max_proposals", 0): "all",
    ("synonyms", True): "of a file",
    ("synonyms", False): "official",
}


def known_settings(config: Mapping[str, Any], get_config: GetConfig) -> dict[str, Any]:
    """Returns what decides a result where nothing is changed, as it comes back from a file.

    Args:
      config: Settings of a run with its benchmark and protocol.
      get_config: Of configs/eval.py.

    Raises:
      ValueError: If there is no such benchmark or protocol.
    """
    name = f"{config.get('benchmark')},protocol={config.get('protocol')}"
    return as_json(deciding_settings(get_config(name)))


def changed_settings(document: Mapping[str, Any], get_config: GetConfig) -> str:
    """Returns in words what of a run is not as its protocol has it; empty if nothing is.

    Only settings that count for its scores are looked at, and not which images were scored. Files
    of names are all alike, since every benchmark needs its own.

    Args:
      document: Of `results.json`.
      get_config: Of configs/eval.py.
    """
    config = document["settings"]["config"]
    try:
        known = known_settings(config, get_config)
    except ValueError:
        return "a protocol or a benchmark of another version"
    prompted = "promptable" in document["scores"]
    own, usual = _counting(config, prompted), _counting(known, prompted)
    others = _OF_OTHER_INPUT.get(own.get("input.kind", ""), ())
    return ", ".join(
        f"{name} {_word(name, own)} (not {_word(name, usual)})"
        for name in {**usual, **own}
        if name not in others and own.get(name) != usual.get(name)
    )


def settings_in_words(document: Mapping[str, Any]) -> str:
    """Returns what decides what is proposed, named and merged, or what is prompted, in one line."""
    settings = document["settings"]
    config, words = settings["config"], []
    if "input" in settings:
        kind, *sizes = (
            _plain(value) if name == "kind" else f"{name} {_plain(value)}"
            for name, value in settings["input"].items()
            if name != "mean"
        )
        words.append(f"input {kind} ({', '.join(sizes)})")
    if "points_per_side" in settings:
        words.append(f"grid {settings['points_per_side']} x {settings['points_per_side']}")
    if "promptable" in document["scores"]:
        groups = _OF_PROMPTS
    else:
        groups = ("proposals", "merge")
        names = f"{settings['names']['count']} names {config['synonyms'] or '(official)'}"
        words += [f"templates {config['templates']}", names]
        words += [f"{name} {_plain(config[name])}" for name in ("scales", "flip")]
    words += [
        f"{name} {_plain(value)}"
        for group in groups
        for name, value in config[group].items()
        if name != "points_per_side"
    ]
    return ", ".join(words)


def _counting(config: Mapping[str, Any], prompted: bool) -> dict[str, Any]:
    """Returns the settings that count for the scores, by dotted names."""
    left_out = (*_OF_THE_SET, *(_OF_WORDS if prompted else _OF_PROMPTS))
    flat = flat_settings({name: value for name, value in config.items() if name not in left_out})
    # Every mode has a column of its own.
    flat.pop("prompts.modes", None)
    if "synonyms" in flat:
        flat["synonyms"] = bool(flat["synonyms"])
    return flat


def _word(name: str, settings: Mapping[str, Any]) -> str:
    if name not in settings:
        return "unknown"
    value = settings[name]
    # Lists are no keys.
    return _WORDS.get((name, value), _plain(value)) if _is_scalar(value) else _plain(value)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, bool | int | float | str)


def _plain(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
