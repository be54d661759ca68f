"""Both stages at full size, for accelerators.

Stages (the names of `configs/tinyscenes.py`):
  stage1  promptable masks on SA-1B; CLIP frozen
  stage2  the feature adapter on stored mask-entity pairs; the rest frozen

Run:  python scripts/prepare_data.py --source=sa1b --input=<folder of tars> --share=0.3 \
          --output=data/sa1b30
      python scripts/train.py --config=configs/full.py:stage1 --workdir=runs/stage1 \
          --config.init=models/clip --config.data.train=data/sa1b30
      on several hosts the same on each, with --distributed=auto
      python scripts/train.py --config=configs/full.py:stage2 --workdir=runs/stage2 \
          --config.init=runs/stage1/model --config.data.train=data/captions
Fits: python scripts/compile_check.py --config=configs/full.py:stage1 --topology=v5e:2x4

Behind the stage, separated by commas: `seed=<n>`, `preset=<name>`: `released` (1024 px, the
default) or `paper` (896 px, six decoder layers, no quality head). Both train for the paper's 60,000
steps of 56 images, which see 30 % of SA-1B once; the released configuration has 110,000. In stage 2
a batch of kept pairs is 56 regions; with `data.online` it is 56 images and all of their pairs.

Hours and memory: not measured yet, nobody has trained this. By arithmetic (2.8 TFLOP per image of
stage 1) a quarter of the peak of eight H100 makes it 1.6 hours, of one H200 13, which
takes 570 and 71 images a second from the loader: 23 and 3 cores. What the compiler says of memory
on TPUs, and how the loader was measured, stands in docs/performance.md.
"""

import ml_collections

from uniovseg_jax.train.default_config import (
    STAGE1_NO_DECAY,
    default_config,
    parse_options,
    stage2_data,
)

_PHASES = ("stage1", "stage2")


def get_config(arg: str = "stage1") -> ml_collections.ConfigDict:
    """Returns the configuration of a stage.

    Args:
      arg: Name of the stage, then options, such as `stage1,preset=paper`.

    Raises:
      ValueError: If the stage or an option is unknown.
    """
    phase, options = parse_options(arg, _PHASES, preset="released")
    config = default_config(phase, options["preset"], options["seed"])
    config.batch_size = 56
    config.total_steps = 60_000
    config.dtype = "bfloat16"
    config.recompute = True
    config.checkpoint.every = 500
    config.checkpoint.keep = 3
    config.evals.every = 5000
    {"stage1": _stage1, "stage2": _stage2}[phase](config)
    return config


def _stage1(config: ml_collections.ConfigDict) -> None:
    config.freeze = (r"clip/.*",)
    config.data = ml_collections.ConfigDict(
        {
            "name": "records",
            "train": "",  # A folder made by scripts/prepare_data.py, or tfds' segment_anything.
            "val": "",  # The same; empty: a few records of `train` are set aside.
            "verify": True,  # Compare the digests of all shards before the first step.
            "max_instances": 40,
            "area_range": (1e-4, 0.8),
            "points_per_side": 10,
            "num_boxes": 40,
            "scale_range": (0.8, 1.2),
            "colour_jitter": True,
            "max_skipped": 0.001,
            "brightness": 0.0,
        }
    )
    config.loss = ml_collections.ConfigDict({"num_points": 12544, "match_rule": "clean"})
    config.optimizer.no_decay = STAGE1_NO_DECAY
    config.evals.num_examples = 112
    config.log.pictures_every = 1000


def _stage2(config: ml_collections.ConfigDict) -> None:
    # Training reads stored averages of regions, so the adapter works on these.
    config.model.adapter.mode = "pooled"
    config.freeze = (r"(clip|pixel_decoder|prompt_encoder|mask_decoder)/.*",)
    config.data = stage2_data(max_skipped=0.001)
    config.data.name = "captions"
    config.data.train = ""  # A folder made by scripts/prepare_captions.py.
    config.data.verify = True  # Compare the digests of all shards first.
    config.loss = ml_collections.ConfigDict({"name": "cosine"})
    config.optimizer.no_decay = (r"adapter/.*/norm/(bias|scale)",)
