"""What a configuration of configs/eval.py stands for."""

import dataclasses

import ml_collections

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.inference.framing import Framing, Letterbox, ShortSide
from uniovseg_jax.inference.results import SemanticRules
from uniovseg_jax.inference.segmenter import SegmenterConfig
from uniovseg_jax.models.presets import UniOVSegConfig
from uniovseg_jax.proposals import ProposalConfig

# Fields that decide how a run goes and not what it gives.
_OF_THE_RUN = ("threads_per_device", "worst", "text_cache")


def make_framing(
    config: ml_collections.ConfigDict, benchmark: Benchmark, model: UniOVSegConfig
) -> Framing:
    """Returns how images get into the network.

    Raises:
      ValueError: If the kind or a size is impossible.
    """
    options = config.input
    if options.kind == "letterbox":
        return Letterbox(options.side or model.image_size)
    if options.kind != "short_side":
        raise ValueError(f"input.kind is {options.kind!r}; expected short_side or letterbox.")
    short, longest = benchmark.resize
    return ShortSide(
        options.short or short, options.longest or longest, options.pad_to, model.clip.image_mean
    )


def make_segmenter_config(config: ml_collections.ConfigDict, framing: Framing) -> SegmenterConfig:
    """Returns how proposals are made and merged."""
    proposals, merge = config.proposals, config.merge
    return SegmenterConfig(
        proposals=ProposalConfig(
            points_per_side=proposals.points_per_side or None,
            score_threshold=proposals.score_threshold,
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


def deciding_settings(config: ml_collections.ConfigDict) -> dict:
    """Returns the fields that decide a result."""
    return {name: value for name, value in config.to_dict().items() if name not in _OF_THE_RUN}


def framing_settings(framing: Framing) -> dict:
    """Returns the numbers of a framing, those of the benchmark and the model put in."""
    assert dataclasses.is_dataclass(framing) and not isinstance(framing, type)
    return {"kind": type(framing).__name__, **dataclasses.asdict(framing)}
