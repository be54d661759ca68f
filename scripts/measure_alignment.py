"""Measures stage 2: images per second from kept pairs and online, and the share of scipy.

python scripts/measure_alignment.py --config=configs/tinyscenes.py:stage2

Pairs of some images are kept; then steps are timed on batches of kept pairs and on batches that are
matched as images come, reading included.
"""

import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from uniovseg_jax.command_line import parse_flags

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration of a phase stage2.")
_IMAGES = flags.DEFINE_integer("images", 128, "Images whose pairs are kept.", lower_bound=8)
_BATCH = flags.DEFINE_integer("batch", 8, "Images of an online step.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 12, "Online steps that are timed.", lower_bound=1)
flags.mark_flags_as_required(["config"])


def main(_: list[str]) -> None:
    """Prints a table; a mistake ends it with one sentence."""
    logging.set_verbosity(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as folder:
            measure(_CONFIG.value, pathlib.Path(folder))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def measure(config: Any, folder: pathlib.Path) -> None:
    """Prints how fast both ways are."""
    from uniovseg_jax.train import sharding
    from uniovseg_jax.train.phases import make_phase

    if config.phase != "stage2":
        raise ValueError(f"--config is of phase {config.phase}; expected stage2.")
    config.num_devices, mesh = 1, sharding.make_mesh(1)
    stored_config = config.copy_and_resolve_references()
    store, scipy_seconds = keep_pairs(config, folder)
    stored_config.data.pairs = str(store.directory)
    counts = store.manifest["counts"]
    pairs_per_image = store.manifest["targets"] / counts["images"]

    config.data.online, config.batch_size = True, _BATCH.value
    config.evals.num_examples = _BATCH.value
    online = seconds_per_step(config, make_phase(config, folder, mesh), mesh, _STEPS.value)
    online /= _BATCH.value
    stored = seconds_per_step(stored_config, make_phase(stored_config, folder, mesh), mesh, 50)
    stored /= stored_config.batch_size / pairs_per_image
    share = 100 * scipy_seconds / online
    print(
        f"online: {1 / online:.1f} images per second; scipy takes {share:.2f} % of that\n"
        f"stored: {1 / stored:.0f} images per second ({pairs_per_image:.1f} trained pairs an "
        f"image), {online / stored:.0f} times as many"
    )


def keep_pairs(config: Any, folder: pathlib.Path) -> tuple[Any, float]:
    """Returns a store of some images, and the seconds per image that matching takes on the host."""
    import numpy as np

    from uniovseg_jax.alignment.build import build_pairs
    from uniovseg_jax.alignment.pairs import match_costs
    from uniovseg_jax.data.subset import Subset
    from uniovseg_jax.train import phase_stage2

    images, source = phase_stage2.open_images(config, folder)
    some = Subset(images, np.arange(min(_IMAGES.value, len(images))))
    pretrained = phase_stage2.load_frozen(config)
    store = build_pairs(
        pretrained, some, phase_stage2.alignment_config(config.data), folder / "pairs", source
    )
    costs = [image.regions.costs for image in store.images()]
    start = time.perf_counter()
    for some_costs in costs:
        match_costs(some_costs, config.data.topk, config.data.min_cosine)
    return store, (time.perf_counter() - start) / len(costs)


def seconds_per_step(config: Any, phase: Any, mesh: Any, count: int) -> float:
    """Returns the median over steps, reading included."""
    step, state = make_step(config, phase, mesh)
    batches = iter(phase.batches)
    state, _ = run(step, state, batches, mesh, 3)  # Compiles, and fills what is read ahead.
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        state, _ = run(step, state, batches, mesh, 1)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def make_step(config: Any, phase: Any, mesh: Any) -> Any:
    """Returns the compiled step of a phase and its first state."""
    from uniovseg_jax.train import optimizer as optimizer_lib
    from uniovseg_jax.train import sharding, state, steps

    schedule = optimizer_lib.make_schedule(config.optimizer, config.total_steps)
    trained, _ = state.split_variables(phase.variables, config.freeze)
    optimizer = optimizer_lib.make_optimizer(config.optimizer, trained, schedule)
    first = state.create_state(
        phase.variables, config.freeze, optimizer, config.seed, use_ema=False
    )
    shardings = sharding.state_shardings(first, mesh, config.sharding_rules)
    step = steps.make_train_step(phase.objective, optimizer, schedule)
    return sharding.compile_step(step, mesh, shardings), sharding.place_state(first, shardings)


def run(step: Any, state: Any, batches: Any, mesh: Any, count: int) -> Any:
    """Makes some steps and waits for them."""
    import jax

    from uniovseg_jax.train import sharding

    metrics: Any = {}
    for _ in range(count):
        state, metrics = step(state, sharding.shard_batch(next(batches), mesh))
        jax.block_until_ready(metrics)
    return state, metrics


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
