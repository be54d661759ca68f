"""Scoring a model on a benchmark of the paper, docs/benchmarks.md.

Run:  python scripts/evaluate.py --config=configs/eval.py:ade20k_150 --model=<dir> \
          --data_dir=<root> --output=runs/eval/ade20k_150

Behind the benchmark, after a comma, `protocol=<name>`:
  fcclip    (default) images and merging as FC-CLIP tests, since the published numbers are scored
            so; repeated masks of the point grid are removed first
  released  images and merging of the released Uni-OVSeg code

No threshold was tuned on a benchmark; every one is here and goes into the results.
"""

import ml_collections

from uniovseg_jax.benchmarks.registry import check_name

_PROTOCOLS = ("fcclip", "released")


def get_config(arg: str = "ade20k_150") -> ml_collections.ConfigDict:
    """Returns the configuration.

    Args:
      arg: Name of a benchmark (`uniovseg_jax/benchmarks/registry.py`), and the protocol.

    Raises:
      ValueError: If the benchmark, an option or the protocol is unknown.
    """
    benchmark, *words = arg.split(",")
    check_name(benchmark)
    options = {"protocol": "fcclip"}
    for word in words:
        key, _, value = word.partition("=")
        if key not in options or value not in _PROTOCOLS:
            raise ValueError(
                f"Unknown option {word!r}; expected protocol={' or protocol='.join(_PROTOCOLS)}."
            )
        options[key] = value
    config = ml_collections.ConfigDict()
    config.benchmark = benchmark
    config.protocol = options["protocol"]
    config.split = ""  # The usual one.
    config.tasks = ()  # All of them; or some of semantic, panoptic, instance, promptable.
    config.save_predictions = False  # Whether to write them as files, for tasks with words.
    config.limit = 0  # Only the first images; 0 for all.
    config.synonyms = ""  # File with names, docs/benchmarks.md; the official names else.
    config.templates = "vild14"  # Or single, vild63, imagenet80.
    config.scales = (1.0,)  # Of the input at which regions are named; cosines are averaged.
    config.flip = False  # Whether they are named in the mirror as well.
    config.prompts = ml_collections.ConfigDict(
        {
            "modes": ("grid_any", "center", "box"),
            "points_per_side": 20,
            "seed": 0,  # Of points at random, and of the sample of large sets.
        }
    )
    config.input = ml_collections.ConfigDict(
        {
            "kind": "short_side",  # Or letterbox.
            # For short_side. 0 stands for the size of the benchmark, 800 and 1333 for most.
            "short": 0,
            "longest": 0,
            "pad_to": 160,  # 32 pads least and compiles a program for almost every shape.
            "side": 0,  # For letterbox; 0 stands for that of the model.
        }
    )
    {"fcclip": _fcclip, "released": _released}[options["protocol"]](config)
    if benchmark == "pascal_voc21_threshold":
        # The best class has to outweigh all others together. Not tuned; who published this form
        # tuned a number of their own on the dataset.
        config.merge.min_share = 0.5
    # What decides no result.
    config.threads_per_device = 2
    config.worst = 20  # Images of which pictures are made.
    config.text_cache = ""  # Folder in which vectors of names are kept.
    return config


def _fcclip(config: ml_collections.ConfigDict) -> None:
    config.proposals = ml_collections.ConfigDict(
        {
            "points_per_side": 0,  # That of the model.
            "score_threshold": 0.5,
            "mask_logit": 0.0,  # Above which a pixel belongs to a mask, where masks are compared.
            "stable_logits": (-1.0, 1.0),  # The two between which a mask should change little.
            "min_stability": 0.0,  # Least share of the pixels above the one that the other leaves.
            "min_area": 0.0,  # Least pixels of the network's input.
            "nms_iou": 0.7,
            "nms_inside": 2.0,  # Parts of other masks stay.
            "max_proposals": 250,
        }
    )
    config.merge = ml_collections.ConfigDict(
        {
            "object_threshold": 0.0,  # Least quality in panoptic results.
            "overlap_threshold": 0.8,
            "min_class_prob": 0.0,
            "max_instances": 100,
            "fill": True,  # Every pixel gets a class.
            "weigh_by_quality": True,
            "min_share": 0.0,  # Least share of a pixel's class in the sums of all; void below.
            "contained": 0.0,  # Drops parts of masks of their class from this share on; 0 none.
        }
    )


def _released(config: ml_collections.ConfigDict) -> None:
    config.input.kind = "letterbox"
    config.proposals = ml_collections.ConfigDict(
        {
            "points_per_side": 0,
            "score_threshold": 0.61904,
            "mask_logit": 0.5,
            "stable_logits": (0.4, 0.6),
            "min_stability": 0.0,
            "min_area": 0.0,
            "nms_iou": 0.5,
            "nms_inside": 0.7,
            "max_proposals": 100,
        }
    )
    config.merge = ml_collections.ConfigDict(
        {
            "object_threshold": 0.7,
            "overlap_threshold": 0.4,
            "min_class_prob": 0.0,
            "max_instances": 100,
            "fill": False,
            "weigh_by_quality": False,
            "min_share": 0.0,
            "contained": 0.0,
        }
    )
