"""tinyscenes: the whole idea at a size that trains on a laptop's processor.

Phases (each ends with a model directory `<workdir>/model`):
  clip    CLIP, contrastive and by words, on object-centric pictures with raw captions
  stage1  promptable masks on image-mask data; CLIP frozen
  stage2  the feature adapter on mask-entity pairs found in captioned scenes; the rest frozen

Run:   python scripts/train.py --config=configs/tinyscenes.py:clip --workdir=runs/clip
       python scripts/train.py --config=configs/tinyscenes.py:stage1 --workdir=runs/stage1 \
           --config.init=runs/clip/model
       python scripts/train.py --config=configs/tinyscenes.py:stage2 --workdir=runs/stage2 \
           --config.init=runs/stage1/model
Tiny:  python scripts/train.py --config=configs/tinyscenes.py:stage1,tiny --workdir=runs/t
       (ends within a minute on a processor; renders its own few scenes into `<workdir>/data`)

Behind the phase, separated by commas: `tiny`, `seed=<n>` (world and training), `preset=<name>`.
Without `--config.init`, stage1 and stage2 start from the weights that come with the package.
Without `tiny`, data are rendered once into `runs/data/tinyscenes`.
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
_PHASES = ("clip", "stage1", "stage2")


def get_config(arg: str = "clip") -> ml_collections.ConfigDict:
    """Returns the configuration of a phase.

    Args:
      arg: Name of the phase, then options, such as `stage1,tiny,seed=3`.

    Raises:
      ValueError: If the phase or an option is unknown.
    """
    phase, options = parse_options(arg, _PHASES, preset="nano", flags=("tiny",))
    config = default_config(phase, options["preset"], options["seed"])
    config.data = ml_collections.ConfigDict(
        {
            "name": "tinyscenes",
            "directory": "runs/data/tinyscenes",
            "seed": options["seed"],
            "sizes": "full",
        }
    )
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "cosine"
    {"clip": _clip, "stage1": _stage1, "stage2": _stage2}[phase](config)
    if options["tiny"]:
        _make_tiny(config)
    return config


def _clip(config: ml_collections.ConfigDict) -> None:
    config.batch_size = 128
    config.total_steps = 2800
    config.ema_decay = 0.998
    config.data.scale_range = (0.875, 1.125)
    config.data.brightness = 0.15
    # Names are single phrases: half of the texts are such parts of a caption.
    config.data.phrase_rate = 0.5
    # mosaic_share: the trunk sees that many of the pictures as quarters of larger ones, because
    # regions are parts of scenes. word_weight: a second loss asks for every word of the caption,
    # because captions can mostly be told apart by their colours alone.
    config.loss = ml_collections.ConfigDict({"mosaic_share": 0.75, "word_weight": 1.0})
    config.optimizer.learning_rate = 1.5e-3
    config.optimizer.warmup_steps = 80
    config.optimizer.no_decay = (r".*/(bias|scale|gamma)", r".*/logit_scale")
    config.evals.every = 400
    config.evals.select = "retrieval"
    config.evals.patience = 3
    config.evals.group_size = 100


def _stage1(config: ml_collections.ConfigDict) -> None:
    config.batch_size = 4
    config.total_steps = 3600
    config.init = str(_ASSETS / "tinyscenes_clip")
    config.freeze = (r"clip/.*",)
    config.data.max_instances = 16
    config.data.area_range = (1e-4, 0.8)
    config.data.points_per_side = 5
    config.data.num_boxes = 16
    config.data.scale_range = (0.8, 1.2)
    config.data.max_skipped = 0.0
    config.data.colour_jitter = False  # Things are named by their colours: only brightness here.
    config.data.brightness = 0.15
    config.loss = ml_collections.ConfigDict({"num_points": 256, "match_rule": "clean"})
    config.optimizer.learning_rate = 8e-4
    config.optimizer.warmup_steps = 50
    config.optimizer.no_decay = STAGE1_NO_DECAY
    config.evals.num_examples = 128
    config.evals.every = 1200


def _stage2(config: ml_collections.ConfigDict) -> None:
    config.batch_size = 256
    config.total_steps = 1200
    config.init = str(_ASSETS / "tinyscenes_stage1")
    config.freeze = (r"(clip|pixel_decoder|prompt_encoder|mask_decoder)/.*",)
    # Half of the pairs of this world are guesses; those that were nearly others are left out. All
    # regions are kept for the paired ceiling.
    config.data.update(stage2_data(confident_share=0.5, keep="all"))
    config.data.caption = "refined"  # Or raw.
    config.loss = ml_collections.ConfigDict({"name": "cosine"})  # Or contrastive.
    config.optimizer.learning_rate = 6e-3
    config.optimizer.no_decay = (r"adapter/.*/norm/(bias|scale)",)
    config.evals.num_examples = 1024


def _make_tiny(config: ml_collections.ConfigDict) -> None:
    config.data.directory = ""  # Below the working directory.
    config.data.sizes = "tiny"
    config.total_steps = {"clip": 12, "stage1": 8, "stage2": 40}[config.phase]
    config.batch_size = {"clip": 32, "stage1": 4, "stage2": 64}[config.phase]
    config.optimizer.warmup_steps = 2
    config.checkpoint.every = config.total_steps // 2
    config.evals.every = config.total_steps
    config.evals.num_examples = 64
    config.log.every = 2
    if config.phase == "stage2":
        config.data.score_threshold = 0.0  # A few steps do not teach a model to trust its masks.
