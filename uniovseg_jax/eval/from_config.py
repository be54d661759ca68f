"""What a configuration of configs/eval.py stands for."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.files import check_folder
from uniovseg_jax.inference.framing import Framing, Letterbox, ShortSide
from uniovseg_jax.inference.results import SemanticRules
from uniovseg_jax.inference.segmenter import SegmenterConfig
from uniovseg_jax.models.presets import UniOVSegConfig
from uniovseg_jax.prompt_templates import check_templates
from uniovseg_jax.proposals import ProposalConfig

# Fields that decide how a run goes and not what it gives.
_OF_THE_RUN = ("threads_per_device", "worst", "text_cache")


def check_config(config: ml_collections.ConfigDict) -> None:
    """Looks at all that can be judged without data and without a model.

    Raises:
      NotADirectoryError: If a file is where vectors of names are to be kept.
      ValueError: If a setting is impossible; it names the first.
    """
    least = {
        "limit": 0,
        "worst": 0,
        "threads_per_device": 1,
        "prompts.points_per_side": 1,
        "prompts.seed": 0,
        "input.short": 0,
        "input.longest": 0,
        "input.side": 0,
        "proposals.points_per_side": 0,
        "proposals.max_proposals": 0,
        "proposals.min_area": 0,
        "proposals.nms_iou": 0,
        "proposals.nms_inside": 0,
        "merge.max_instances": 1,
        "merge.overlap_threshold": 0,
    }
    shares = (
        "proposals.score_threshold",
        "proposals.min_stability",
        "merge.object_threshold",
        "merge.min_class_prob",
        "merge.min_share",
        "merge.contained",
    )
    for name in (*least, *shares):
        value: Any = functools.reduce(getattr, name.split("."), config)
        if value < least.get(name, 0):
            raise ValueError(f"config.{name} is {value}; expected {least.get(name, 0)} or more.")
        if name in shares and value > 1:
            raise ValueError(f"config.{name} is {value}; expected a number from 0 to 1.")
    stable = tuple(config.proposals.stable_logits)
    if len(stable) != 2 or stable[0] > stable[1]:
        raise ValueError(
            f"config.proposals.stable_logits is {stable}; expected two numbers, the lower first."
        )
    check_templates(config.templates)
    if config.text_cache:
        check_folder(pathlib.Path(config.text_cache))
    if not config.scales or min(config.scales) <= 0:
        raise ValueError(
            f"config.scales is {tuple(config.scales)}; expected positive numbers, at least one."
        )
    kinds = ("short_side", "letterbox")
    if config.input.kind not in kinds:
        raise ValueError(f"input.kind is {config.input.kind!r}; expected {' or '.join(kinds)}.")
    if config.input.kind == "letterbox" and config.input.side:
        Letterbox(config.input.side)


def check_framing(config: ml_collections.ConfigDict, benchmark: Benchmark) -> None:
    """Raises a ValueError if the images of a benchmark cannot be brought to the sizes asked for."""
    if config.input.kind == "short_side":
        _short_side(config, benchmark, ())


def make_framing(
    config: ml_collections.ConfigDict, benchmark: Benchmark, model: UniOVSegConfig
) -> Framing:
    """Returns how images get into the network.

    Args:
      config: As `check_config` found it well.
      benchmark: Whose sizes stand where the configuration has none.
      model: Whose.

    Raises:
      ValueError: If a size is impossible.
    """
    options = config.input
    if options.kind == "letterbox":
        return Letterbox(options.side or model.image_size)
    return _short_side(config, benchmark, model.clip.image_mean)


def make_segmenter_config(config: ml_collections.ConfigDict, framing: Framing) -> SegmenterConfig:
    """Returns how proposals are made and merged."""
    proposals, merge = config.proposals, config.merge
    return SegmenterConfig(
        proposals=ProposalConfig(
            points_per_side=proposals.points_per_side or None,
            score_threshold=proposals.score_threshold,
            mask_logit=proposals.mask_logit,
            stable_logits=tuple(proposals.stable_logits),
            min_stability=proposals.min_stability,
            min_area=proposals.min_area,
            nms_iou=proposals.nms_iou,
            nms_inside=proposals.nms_inside,
            max_proposals=proposals.max_proposals or None,
        ),
        framing=framing,
        object_threshold=merge.object_threshold,
        overlap_threshold=merge.overlap_threshold,
        max_instances=merge.max_instances,
        templates=config.templates,
        min_class_prob=merge.min_class_prob,
        semantic=SemanticRules(merge.fill, merge.weigh_by_quality, merge.min_share),
        contained=merge.contained or None,
        scales=tuple(config.scales),
        flip=config.flip,
    )


def _short_side(
    config: ml_collections.ConfigDict, benchmark: Benchmark, mean: tuple[float, ...]
) -> ShortSide:
    options, (short, longest) = config.input, benchmark.resize
    return ShortSide(options.short or short, options.longest or longest, options.pad_to, mean)


def default_output(config: ml_collections.ConfigDict, model: str) -> pathlib.Path:
    """Returns where results go unless they are told to; every model has a folder of its own."""
    words = config.benchmark.replace("/", "-"), config.protocol, model_name(os.path.abspath(model))
    return pathlib.Path("runs", "eval", "-".join(words))


def model_name(directory: str) -> str:
    """Returns what a model is called: its folder, or its run where training called that `model`."""
    folder = pathlib.PurePath(directory)
    return folder.parent.name or folder.name if folder.name == "model" else folder.name


def split_lists(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Returns the configuration with tasks and modes one by one: a flag gives `a,b` as one word."""
    config = config.copy_and_resolve_references()
    for owner, name in ((config, "tasks"), (config.prompts, "modes")):
        with owner.unlocked():
            owner[name] = tuple(
                word.strip() for words in owner[name] for word in words.split(",") if word.strip()
            )
    return config


def deciding_settings(config: ml_collections.ConfigDict) -> dict:
    """Returns the fields that decide a result."""
    return {name: value for name, value in config.to_dict().items() if name not in _OF_THE_RUN}


def restored_config(
    settings: Mapping[str, Any], known: Mapping[str, Any]
) -> ml_collections.ConfigDict:
    """Returns the configuration of a finished run; it leaves neither pictures nor files.

    Args:
      settings: Of `deciding_settings`, as they come back from a file.
      known: Those of a configuration of now.

    Raises:
      ValueError: If one has a field that the other has not; it names the first.
    """
    own, fields = flat_settings(settings), flat_settings(known)
    if missing := [name for name in fields if name not in own]:
        raise ValueError(f"another version made it: it has no setting config.{missing[0]}.")
    if unknown := [name for name in own if name not in fields]:
        raise ValueError(f"another version made it: its setting config.{unknown[0]} is unknown.")
    of_the_run = {"threads_per_device": 1, "worst": 0, "text_cache": "", "save_predictions": False}
    return ml_collections.ConfigDict({**settings, **of_the_run})


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns settings in groups by dotted names, such as `merge.fill`."""
    flat = {}
    for name, value in settings.items():
        inner = isinstance(value, Mapping)
        flat |= flat_settings(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return flat


def grid_side(config: ml_collections.ConfigDict, model: UniOVSegConfig, prompted: bool) -> int:
    """Returns the points along each side of the grid that asks for masks."""
    if prompted:
        return config.prompts.points_per_side
    return config.proposals.points_per_side or model.points_per_side


def framing_settings(framing: Framing) -> dict:
    """Returns the numbers of a framing, those of the benchmark and the model put in."""
    assert dataclasses.is_dataclass(framing) and not isinstance(framing, type)
    return {"kind": type(framing).__name__, **dataclasses.asdict(framing)}
