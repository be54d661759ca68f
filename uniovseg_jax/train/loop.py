"""The training loop, the same for all phases."""

import json
import math
import pathlib
import sys
import time
from typing import Any

import jax
import ml_collections
import tqdm

from uniovseg_jax.train import optimizer as optimizer_lib
from uniovseg_jax.train import sharding, steps
from uniovseg_jax.train.checkpoint import Checkpointer
from uniovseg_jax.train.metric_writer import MetricWriter
from uniovseg_jax.train.phases import Phase, make_phase
from uniovseg_jax.train.state import TrainState, create_state, merge_variables, split_variables
from uniovseg_jax.weights.store import params_sha256, save_pretrained


def train(config: ml_collections.ConfigDict, workdir: str | pathlib.Path) -> dict[str, Any]:
    """Trains one phase, or goes on with it where the last checkpoint in `workdir` was made.

    Writes to `workdir`: `config.json`, `metrics.jsonl`, `timings.jsonl`, `tensorboard/`,
    `checkpoints/`, `model/` (a model directory; with `evals.select` the best one so far) and, last
    of all, `final.json`.

    Args:
      config: As made by `configs/tinyscenes.py`.
      workdir: Made when needed.

    Returns:
      What `final.json` holds: `step` (updates made), `selected_step` (of the saved parameters),
      `metrics` (of the evaluation of these) and their `params_sha256`.

    Raises:
      ValueError: If the configuration does not fit the data or the devices, or the working
        directory was started with another one.
      FloatingPointError: If the loss stops being finite.
    """
    workdir = pathlib.Path(workdir)
    mesh = sharding.make_mesh(config.num_devices)
    sharding.check_batch_size(config.batch_size, mesh)
    workdir.mkdir(parents=True, exist_ok=True)
    _keep_config(config, workdir)

    # What differs between the phases: data, model and weights, loss, evaluation.
    phase = make_phase(config, workdir)

    schedule = optimizer_lib.make_schedule(config.optimizer, config.total_steps)
    trained, _ = split_variables(phase.variables, config.freeze)
    optimizer = optimizer_lib.make_optimizer(config.optimizer, trained, schedule)
    state = create_state(
        phase.variables, config.freeze, optimizer, config.seed, use_ema=config.ema_decay > 0
    )

    batches = iter(phase.batches)
    checkpointer = Checkpointer(workdir, config.checkpoint.keep)
    selected: dict[str, Any] = {"value": None, "stale": 0}
    if restored := checkpointer.restore(state):
        state, data_state, selected = restored
        batches.set_state(data_state)
    first_step = int(state.step)

    train_step = sharding.compile_step(
        steps.make_train_step(phase.compute_loss, optimizer, schedule, config.ema_decay), mesh
    )
    state = jax.device_put(state, sharding.replicated(mesh))
    writer = MetricWriter(workdir, first_step)
    clock = _Clock(config.batch_size)
    bar = tqdm.tqdm(
        total=config.total_steps,
        initial=first_step,
        desc=config.phase,
        mininterval=1.0 if sys.stderr.isatty() else 60.0,
    )
    step = first_step
    stop = _is_done(step, selected, config)
    while not stop:
        with clock.time("data"):
            batch = sharding.shard_batch(next(batches), mesh)
        with clock.time("step"):
            state, metrics = train_step(state, batch)
            # Also needed where nobody reads it: several steps with collectives in flight at once
            # can lock up virtual CPU devices.
            loss = float(metrics["loss"])
        step += 1
        if not math.isfinite(loss):
            raise FloatingPointError(f"The loss is {loss} at step {step} of {workdir}.")

        is_last = step == config.total_steps
        if step % config.log.every == 0 or is_last:
            writer.write_metrics(step, {k: float(v) for k, v in metrics.items()})
            timings = clock.read()
            writer.write_timings(step, timings)
            rate = timings["examples_per_second"]
            bar.set_postfix_str(f"loss {loss:.4f}, {rate:.1f}/s", refresh=False)
        bar.update()
        if step % config.evals.every == 0 or is_last:
            with clock.time("evaluation"):
                selected = _evaluate(state, phase, step, selected, config, workdir, writer)
        stop = _is_done(step, selected, config)
        if step % config.checkpoint.every == 0 or stop:
            with clock.time("checkpoint"):
                checkpointer.save(state, batches.get_state(), selected)
    bar.close()
    writer.close()
    checkpointer.close()

    final = {
        "step": step,
        "selected_step": selected["step"],
        "metrics": selected["metrics"],
        "params_sha256": selected["params_sha256"],
    }
    (workdir / "final.json").write_text(json.dumps(final, indent=2) + "\n")
    return final


def _keep_config(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Writes `config.json`, unless the directory holds the work of another configuration."""
    path = workdir / "config.json"
    text = config.to_json_best_effort(indent=2) + "\n"
    if path.exists() and (workdir / "checkpoints").exists():
        before, now = (_decisive(json.loads(version)) for version in (path.read_text(), text))
        if before != now:
            names = sorted(k for k in before | now if before.get(k) != now.get(k))
            raise ValueError(
                f"{workdir} was started with another {', '.join(names)}; expected the same "
                "configuration, or another working directory."
            )
    path.write_text(text)


def _decisive(config: dict[str, Any]) -> dict[str, Any]:
    """Returns the entries that decide what a run computes."""
    return {k: v for k, v in config.items() if k not in ("log", "checkpoint", "num_devices")}


def _evaluate(
    state: TrainState,
    phase: Phase,
    step: int,
    selected: dict[str, Any],
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    writer: MetricWriter,
) -> dict[str, Any]:
    """Evaluates, saves the model unless an earlier one was better, and returns the best so far."""
    variables = merge_variables(state.saved_params, state.frozen)
    for name in phase.loss_heads:
        del variables["params"][name]
    metrics = phase.evaluate(variables)
    writer.write_metrics(step, metrics)
    value = metrics[config.evals.select] if config.evals.select else None
    best = selected["value"]
    if value is not None and best is not None and value <= best:
        return selected | {"stale": selected["stale"] + 1}
    save_pretrained(
        workdir / "model",
        phase.model_config,
        variables,
        phase.tokenizer,
        phase.parts,
        metadata={"phase": config.phase, "seed": config.seed, "step": step, "metrics": metrics},
    )
    return {
        "value": value,
        "stale": 0,
        "step": step,
        "metrics": metrics,
        "params_sha256": params_sha256(variables),
    }


def _is_done(step: int, selected: dict[str, Any], config: ml_collections.ConfigDict) -> bool:
    patience = config.evals.patience
    return step >= config.total_steps or (patience > 0 and selected["stale"] >= patience)


class _Clock:
    """Adds up seconds by activity between two readings."""

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._seconds: dict[str, float] = {}
        self._steps = 0

    def time(self, activity: str) -> "_Stopwatch":
        self._steps += activity == "step"
        return _Stopwatch(self._seconds, activity)

    def read(self) -> dict[str, float]:
        """Returns rate and seconds per activity since the last reading, and starts anew."""
        seconds, steps = self._seconds, self._steps
        self._seconds, self._steps = {}, 0
        working = seconds.get("data", 0.0) + seconds.get("step", 0.0)
        rate = self._batch_size * steps / max(working, 1e-9)
        return {"examples_per_second": rate, **{f"{k}_seconds": v for k, v in seconds.items()}}


class _Stopwatch:
    def __init__(self, seconds: dict[str, float], activity: str):
        self._seconds, self._activity = seconds, activity

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *exc_info: object) -> None:
        elapsed = time.perf_counter() - self._start
        self._seconds[self._activity] = self._seconds.get(self._activity, 0.0) + elapsed
