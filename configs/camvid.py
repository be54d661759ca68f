"""Street photographs on a processor: what real pictures do to a small model, docs/camvid.md.

  stage1        masks from records of regions; starts from the weights of tinyscenes that come
                with the package and trains the trunk as well, which has seen nothing but rendered
                scenes. CLIP's text tower and projections stay as they are; they no longer fit the
                trunk, so that model finds masks and does not name them
  clip          everything from nothing: words of some photographs,
  stage1,words  class-free masks of others,
  stage2        and again the words, for the adapter

Run:  python scripts/train.py --config=configs/camvid.py:stage1 --workdir=runs/camvid \
          --config.data.train=runs/data/camvid/train
"""

import pathlib

import ml_collections

from uniovseg_jax.train.default_config import (
    STAGE1_NO_DECAY,
    default_config,
    parse_options,
    stage2_data,
)

_ASSETS = pathlib.Path(__file__).resolve().parent.parent / "uniovseg_jax" / "assets"


def get_config(arg: str = "stage1") -> ml_collections.ConfigDict:
    """Returns the configuration.

    Args:
      arg: `stage1`, `clip` or `stage2`, then options, such as `stage1,words,seed=3`.

    Raises:
      ValueError: If the stage or an option is unknown.
    """
    phase, options = parse_options(
        arg, ("clip", "stage1", "stage2"), preset="nano", flags=("words",)
    )
    config = default_config(phase, options["preset"], options["seed"])
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 50
    if phase == "stage1":
        _stage1(config)
        if options["words"]:
            _class_free_masks(config)
    else:
        {"clip": _clip, "stage2": _stage2}[phase](config)
    return config


def _stage1(config: ml_collections.ConfigDict) -> None:
    config.init = str(_ASSETS / "tinyscenes_stage1")
    config.freeze = (r"clip/(text|head)/.*", r"clip/logit_scale")
    config.model.image_size = 480
    config.batch_size = 2
    config.total_steps = 2600
    config.data = ml_collections.ConfigDict(
        {
            "name": "records",
            "train": "",
            "val": "",
            "verify": True,
            "max_instances": 40,
            "area_range": (1e-3, 0.8),
            "points_per_side": 8,
            "num_boxes": 30,
            "scale_range": (0.8, 1.6),
            "colour_jitter": True,
            "max_skipped": 0.001,
            "brightness": 0.0,
        }
    )
    config.loss = ml_collections.ConfigDict({"num_points": 512, "match_rule": "clean"})
    config.optimizer.learning_rate = 5e-4
    config.optimizer.no_decay = (*STAGE1_NO_DECAY, r"clip/visual/.*/(bias|scale|gamma)")
    config.evals.every = 500
    config.evals.num_examples = 32
    config.log.pictures_every = 500


def _clip(config: ml_collections.ConfigDict) -> None:
    config.batch_size = 64
    config.total_steps = 1000
    config.ema_decay = 0.998
    config.data = ml_collections.ConfigDict(
        {
            "name": "captions",
            "train": "",
            "val": "",
            "verify": True,
            "side": 256,  # Of a quarter of a photograph, letterboxed.
            "scale_range": (0.8, 1.4),
            "brightness": 0.4,
            "phrase_rate": 0.0,  # Equal sets of words are positives of each other.
        }
    )
    # Every word is asked for: pictures of streets differ by little else than their words.
    config.loss = ml_collections.ConfigDict({"mosaic_share": 0.0, "word_weight": 1.0})
    config.optimizer.learning_rate = 1.5e-3
    config.optimizer.no_decay = (r".*/(bias|scale|gamma)", r".*/logit_scale")
    config.evals.every = 100
    config.evals.select = "retrieval"
    config.evals.group_size = 100


def _class_free_masks(config: ml_collections.ConfigDict) -> None:
    """Turns stage 1 into that of the experiment from nothing: quarters, and a trunk that names."""
    config.init = ""
    config.freeze = (r"clip/.*",)
    config.model.image_size = 256
    config.batch_size = 4
    config.total_steps = 2000
    config.data.update(max_instances=24, points_per_side=6, num_boxes=16, scale_range=(0.8, 1.4))
    config.loss.num_points = 256
    config.optimizer.learning_rate = 8e-4
    config.optimizer.no_decay = STAGE1_NO_DECAY
    config.evals.every = 1200


def _stage2(config: ml_collections.ConfigDict) -> None:
    config.batch_size = 256
    config.total_steps = 1200
    config.freeze = (r"(clip|pixel_decoder|prompt_encoder|mask_decoder)/.*",)
    config.data = stage2_data(confident_share=0.5, keep="all")
    config.data.name = "captions"
    config.data.train = ""
    config.data.verify = True
    config.loss = ml_collections.ConfigDict({"name": "cosine"})  # Or contrastive.
    config.optimizer.learning_rate = 6e-3
    config.optimizer.no_decay = (r"adapter/.*/norm/(bias|scale)",)
    config.evals.num_examples = 256
