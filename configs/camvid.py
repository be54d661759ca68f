"""Stage 1 on street photographs, on a processor: what real pictures do to a small model.

Data: CamVid's train drives as records of regions, see docs/camvid.md
Run:  python scripts/train.py --config=configs/camvid.py:stage1 --workdir=runs/camvid \
          --config.data.train=runs/data/camvid/train

It starts from the weights of tinyscenes that come with the package and trains the trunk as well:
that trunk has seen nothing but rendered scenes. CLIP's text tower and projections stay as they are;
they no longer fit the trunk, so the model finds masks and does not name them.
"""

import pathlib

import ml_collections

from uniovseg_jax.train.default_config import STAGE1_NO_DECAY, default_config, parse_options

_ASSETS = pathlib.Path(__file__).resolve().parent.parent / "uniovseg_jax" / "assets"


def get_config(arg: str = "stage1") -> ml_collections.ConfigDict:
    """Returns the configuration.

    Args:
      arg: `stage1`, then options, such as `stage1,seed=3`.

    Raises:
      ValueError: If the stage or an option is unknown.
    """
    phase, options = parse_options(arg, ("stage1",), preset="nano")
    config = default_config(phase, options["preset"], options["seed"])
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
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 50
    config.optimizer.no_decay = (*STAGE1_NO_DECAY, r"clip/visual/.*/(bias|scale|gamma)")
    config.evals.every = 500
    config.evals.num_examples = 32
    config.log.pictures_every = 500
    return config
