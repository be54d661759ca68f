"""Both stages at full size, for accelerators.

Stages (the names of `configs/tinyscenes.py`):
  stage1  promptable masks on SA-1B-style data; CLIP frozen
  stage2  the feature adapter on stored mask-entity pairs; the rest frozen

Run:  python scripts/train.py --config=configs/full.py:stage1 --workdir=runs/full1 \
          --config.init=models/clip
Fits: python scripts/compile_check.py --config=configs/full.py:stage1 --topology=v5e:2x4

Behind the stage, separated by commas: `seed=<n>`, `preset=<name>` (`released` or `paper`).
Not trained here: devices needed come from compiling alone, see docs/performance.md.
"""

import ml_collections

from uniovseg_jax.models.presets import config_to_dict, get_preset

_PHASES = ("stage1", "stage2")


def get_config(arg: str = "stage1") -> ml_collections.ConfigDict:
    """Returns the configuration of a stage.

    Args:
      arg: Name of the stage, then options, such as `stage1,preset=paper`.

    Raises:
      ValueError: If the stage or an option is unknown.
    """
    phase, *words = arg.split(",")
    if phase not in _PHASES:
        raise ValueError(f"Unknown stage {phase!r}; expected one of {', '.join(_PHASES)}.")
    options = _parse_options(words)

    config = ml_collections.ConfigDict()
    config.phase = phase
    config.seed = options["seed"]
    config.num_devices = 0  # All of them.
    config.batch_size = 56
    config.total_steps = 60_000
    config.init = ""  # Model directories, separated by commas.
    config.ema_decay = 0.0
    config.dtype = "bfloat16"  # Of CLIP and the mask decoder.
    config.recompute = True  # Layers are computed again for the gradient.
    config.model = ml_collections.ConfigDict(config_to_dict(get_preset(options["preset"])))
    config.data = ml_collections.ConfigDict({"seed": options["seed"]})
    config.optimizer = ml_collections.ConfigDict(
        {
            "learning_rate": 1e-4,
            "schedule": "multistep",
            "warmup_steps": 0,
            "milestones": (0.85, 0.95),  # Fractions of the run.
            "gamma": 0.1,
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-8,
            "weight_decay": 0.05,
            "clip_norm": 1.0,
            "no_decay": (),
        }
    )
    {"stage1": _stage1, "stage2": _stage2}[phase](config)
    return config


def _stage1(config: ml_collections.ConfigDict) -> None:
    config.freeze = (r"clip/.*",)
    config.data.max_instances = 40
    config.data.area_range = (1e-4, 0.8)
    config.data.points_per_side = 10
    config.data.num_boxes = 40
    config.data.scale_range = (0.8, 1.2)
    config.loss = ml_collections.ConfigDict({"num_points": 12544})
    # Norms and tables of embeddings do not decay.
    config.optimizer.no_decay = (
        r".*norm[^/]*/(bias|scale)",
        r"mask_decoder/level_embed",
        r"prompt_encoder/click_embed",
    )


def _stage2(config: ml_collections.ConfigDict) -> None:
    # Training reads stored averages of regions, so the adapter works on these.
    config.model.adapter.mode = "pooled"
    config.freeze = (r"(clip|pixel_decoder|prompt_encoder|mask_decoder)/.*",)
    config.loss = ml_collections.ConfigDict({"name": "cosine"})
    config.optimizer.no_decay = (r"adapter/.*/norm/(bias|scale)",)


def _parse_options(words: list[str]) -> dict:
    options = {"seed": 0, "preset": "released"}
    for word in words:
        key, _, value = word.partition("=")
        if key == "seed" and value.isdecimal():
            options["seed"] = int(value)
        elif key == "preset" and value:
            options["preset"] = value
        else:
            raise ValueError(f"Unknown option {word!r}; expected seed=<number> or preset=<name>.")
    return options
