"""The fields that every training configuration has, and the options behind a phase's name."""

from collections.abc import Collection

import ml_collections
from ml_collections.config_dict import config_dict

from uniovseg_jax.models.presets import config_to_dict, get_preset

# What does not decay in stage 1: norms and tables of embeddings (Mask2Former's rule, with the
# released channel norms counted as norms).
STAGE1_NO_DECAY = (
    r".*norm[^/]*/(bias|scale)",
    r"mask_decoder/level_embed",
    r"prompt_encoder/click_embed",
)


def default_config(phase: str, preset: str, seed: int) -> ml_collections.ConfigDict:
    """Returns a configuration to which a phase adds `batch_size`, `total_steps`, data and loss.

    Args:
      phase: `clip`, `stage1` or `stage2`.
      preset: Name of the model.
      seed: Of everything that is drawn at random.
    """
    config = ml_collections.ConfigDict()
    config.phase = phase
    config.seed = seed
    config.init = ""  # Model directories, separated by commas.
    config.freeze = ()  # Regular expressions over the paths of parameters that do not train.
    config.ema_decay = 0.0
    config.dtype = "float32"  # Or bfloat16, for CLIP and the mask decoder; the rest is float32.
    config.recompute = False  # Layers once more for the gradient: less memory, more time.
    config.num_devices = 0  # All of them.
    config.fsdp = 1  # Devices over which parameters are split, where a rule says so; 0 for all.
    # Pairs of a regular expression over parameter paths and split or replicate; the first counts.
    config.sharding_rules = ((".*", "split"),)
    config.accumulate = 1  # Parts of a batch, one after the other.
    config.loader_threads = 0  # That make batches ahead of time; 0 for one per core.
    config.max_skipped_in_row = 10  # More steps that are not finite end the run.
    config.model = ml_collections.ConfigDict(config_to_dict(get_preset(preset)))
    config.optimizer = ml_collections.ConfigDict(
        {
            "learning_rate": 1e-4,
            "schedule": "multistep",  # Or cosine, or constant.
            "warmup_steps": 0,
            "milestones": (0.85, 0.95),  # Of multistep, as fractions of the run.
            "gamma": 0.1,
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-8,
            "weight_decay": 0.05,
            "clip_norm": 1.0,
            "no_decay": (),  # Regular expressions over the paths of parameters without decay.
        }
    )
    # What happens every so many steps; 0 stands for the end of the run alone.
    config.checkpoint = ml_collections.ConfigDict({"every": 500, "keep": 2})
    config.log = ml_collections.ConfigDict({"every": 20, "pictures_every": 0})
    # `select` names the metric whose largest value decides which parameters are kept; empty: the
    # last ones.
    # With `patience`, training ends after that many evaluations without a better one.
    config.evals = ml_collections.ConfigDict(
        {"every": 500, "num_examples": 1000, "select": "", "patience": 0}
    )
    return config


def stage2_data(**fields: object) -> ml_collections.ConfigDict:
    """Returns the fields of `data` that say how stage 2 finds its pairs, some with other values."""
    return ml_collections.ConfigDict(
        {
            "pairs": "",  # A kept store of pairs; empty: they are made first.
            "online": False,  # Match as images come and keep nothing; needed for dense adapters.
            "score_threshold": 0.61904,  # Least quality of a mask.
            "nms_inside": 0.7,  # Share inside a better mask from which a mask is left out.
            "keep": "pairs",  # Masks and vectors of regions in pairs and of runners-up, or of all.
            "cost": "cosine",  # Or prob.
            "topk": 1.0,  # Share of an image's pairs that is kept, the cheapest.
            "min_cosine": config_dict.placeholder(float),  # Of a pair; none.
            "confident_share": 1.0,  # Of all pairs, those with the largest margins.
            "max_entities": 16,
            "max_skipped": 0.0,  # Largest share of images that cannot be read.
            "match_batch": 8,  # Images that are matched at a time, when pairs are kept.
            **fields,
        }
    )


def parse_options(
    arg: str, phases: Collection[str], preset: str, flags: Collection[str] = ()
) -> tuple[str, dict]:
    """Reads the name of a phase and the options behind it, such as `stage1,tiny,seed=3`.

    Args:
      arg: What stands behind the colon of `--config`.
      phases: Names that are allowed.
      preset: The model without `preset=<name>`.
      flags: Options that are on or off.

    Returns:
      The phase, and `seed`, `preset` and the flags.

    Raises:
      ValueError: If the phase or an option is unknown.
    """
    phase, *words = arg.split(",")
    if phase not in phases:
        raise ValueError(f"Unknown phase {phase!r}; expected one of {', '.join(phases)}.")
    options = {"seed": 0, "preset": preset, **dict.fromkeys(flags, False)}
    for word in words:
        key, _, value = word.partition("=")
        if key in flags and value in ("", "true", "false"):
            options[key] = value != "false"
        elif key == "seed" and value.isdecimal():
            options["seed"] = int(value)
        elif key == "preset" and value:
            options["preset"] = value
        else:
            expected = ", ".join((*flags, "seed=<number>"))
            raise ValueError(f"Unknown option {word!r}; expected {expected} or preset=<name>.")
    return phase, options
