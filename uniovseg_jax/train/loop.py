"""The training loop, the same for all phases."""

import contextlib
import json
import pathlib
import sys
from typing import Any

import jax
import ml_collections
import tqdm
from PIL import Image

from uniovseg_jax.files import write_text_whole, write_whole
from uniovseg_jax.locks import held_alone
from uniovseg_jax.train import optimizer as optimizer_lib
from uniovseg_jax.train import sharding, steps
from uniovseg_jax.train.checkpoint import Checkpointer
from uniovseg_jax.train.clock import Clock
from uniovseg_jax.train.interruption import Interrupted, Interruption
from uniovseg_jax.train.metric_writer import MetricWriter
from uniovseg_jax.train.phase import Phase
from uniovseg_jax.train.phases import make_phase
from uniovseg_jax.train.replay import write_bundle
from uniovseg_jax.train.state import TrainState, create_state, merge_variables, split_variables
from uniovseg_jax.weights.store import params_sha256, save_pretrained

# Fields that may change between two starts: what a run computes does not depend on them.
_INDIFFERENT = (
    "num_devices",
    "fsdp",
    "sharding_rules",
    "accumulate",
    "loader_threads",
    "log",
    "checkpoint",
    "data.verify",
)


def train(config: ml_collections.ConfigDict, workdir: str | pathlib.Path) -> dict[str, Any]:
    """Trains one phase, or goes on with it where the last checkpoint in `workdir` was made.

    Writes to `workdir`: `config.json`, `metrics.jsonl`, `timings.jsonl`, `tensorboard/`,
    `checkpoints/`, `pictures/`, `model/` (a model directory; with `evals.select` the best one so
    far) and, last of all, `final.json`. With several processes, all call this with the same
    arguments and see the same `workdir`; the first one writes.

    Args:
      config: As made by `configs/tinyscenes.py`.
      workdir: Made when needed.

    Returns:
      What `final.json` holds: `step` (batches seen), `selected_step` (of the saved parameters),
      `metrics` (of the evaluation of these) and their `params_sha256`.

    Raises:
      ValueError: If the configuration does not fit the data or the devices, the working directory
        was started with another one, or another trainer is at work in it.
      FloatingPointError: If `max_skipped_in_row` steps and one more were not finite; the last of
        them is kept for `replay.replay`.
      Interrupted: If SIGTERM or Ctrl-C came; everything is saved, and the same call goes on.
    """
    workdir = pathlib.Path(workdir)
    mesh = sharding.make_mesh(config.num_devices, config.fsdp)
    sharding.check_batch_size(config.batch_size, mesh, config.accumulate)
    workdir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        sharding.in_first_process(lambda: stack.enter_context(held_alone(workdir, "trainer")))
        interruption = stack.enter_context(Interruption())
        with interruption.nothing_to_save():
            run = stack.enter_context(contextlib.closing(_Run(config, workdir, mesh)))
        first_step = run.step
        while True:
            try:
                if run.is_evaluation_due():
                    with interruption.interruptible():
                        metrics = run.evaluate()
                    run.keep_evaluation(metrics)
                if run.is_picture_due():
                    with interruption.interruptible():
                        run.draw()
            except Interrupted:
                run.save()
                raise
            is_done, is_interrupted = run.is_done(), interruption.is_requested(run.step)
            if is_done or is_interrupted or run.is_checkpoint_due():
                run.save()
            if is_done:
                return run.finish()
            if is_interrupted:
                raise Interrupted
            # The first step of a process compiles, which may take minutes.
            is_first = run.step == first_step
            with interruption.nothing_to_save() if is_first else contextlib.nullcontext():
                run.train_step()


class _Run:
    """A run between two of its steps."""

    def __init__(
        self, config: ml_collections.ConfigDict, workdir: pathlib.Path, mesh: jax.sharding.Mesh
    ):
        self._config, self._workdir, self._mesh = config, workdir, mesh
        self._is_writing = jax.process_index() == 0
        sharding.in_first_process(lambda: _keep_config(config, workdir))
        # What differs between the phases: data, model and weights, loss, evaluation.
        self._phase: Phase = make_phase(config, workdir, mesh)

        variables = self._phase.variables
        schedule = optimizer_lib.make_schedule(config.optimizer, config.total_steps)
        trained, frozen = split_variables(variables, config.freeze)
        optimizer = optimizer_lib.make_optimizer(config.optimizer, trained, schedule)
        state = create_state(
            variables, config.freeze, optimizer, config.seed, use_ema=config.ema_decay > 0
        )
        shardings = sharding.state_shardings(state, mesh, config.sharding_rules)
        self._state: TrainState = sharding.place_state(state, shardings)

        self._batches = iter(self._phase.batches)
        self._checkpointer = Checkpointer(workdir, frozen, config.checkpoint.keep)
        # `evaluated`: the last step whose evaluation is done; `log_size`: bytes of metrics so far.
        self._progress: dict[str, Any] = {
            "evaluated": 0,
            "selected": {"value": None, "stale": 0},
            "log_size": 0,
        }
        if restored := self._checkpointer.restore(self._state):
            self._state, data_state, self._progress = restored
            self._batches.set_state(data_state)
        self.step = int(self._state.step)

        self._train_step = sharding.compile_step(
            steps.make_train_step(
                sharding.gather_first(self._phase.objective, mesh),
                optimizer,
                schedule,
                config.ema_decay,
                config.accumulate,
            ),
            mesh,
            shardings,
        )
        self._writer = None
        if self._is_writing:
            self._writer = MetricWriter(workdir, self.step, self._progress["log_size"])
        self._clock = Clock(config.batch_size)
        self._bar = tqdm.tqdm(
            total=config.total_steps,
            initial=self.step,
            desc=config.phase,
            mininterval=1.0 if sys.stderr.isatty() else 60.0,
            disable=not self._is_writing,
        )

    def train_step(self) -> None:
        """Makes one step, and writes its numbers when they are due."""
        config = self._config
        with self._clock.time("data"):
            batch = next(self._batches)
            placed = sharding.shard_batch(batch, self._mesh)
        with self._clock.time("step"):
            if self._phase.match:
                variables = merge_variables(self._state.params, self._state.frozen)
                placed = self._phase.match(variables, placed)
            self._state, metrics = self._train_step(self._state, placed)
            # Read also where nobody needs it: several steps with collectives in flight at once
            # can lock up virtual CPU devices.
            skipped = int(metrics["skipped_in_row"])
        self.step += 1
        is_last = self.step == config.total_steps
        if self._writer and (is_last or _is_multiple(self.step, config.log.every)):
            values = {name: float(value) for name, value in metrics.items()}
            self._writer.write_metrics(self.step, values)
            timings = self._clock.read()
            self._writer.write_timings(self.step, timings)
            rate = timings["examples_per_second"]
            self._bar.set_postfix_str(f"loss {values['loss']:.4f}, {rate:.1f}/s", refresh=False)
        self._bar.update()
        if skipped > config.max_skipped_in_row:
            self._give_up(placed, float(metrics["loss"]), skipped)

    def is_evaluation_due(self) -> bool:
        """Tells whether this step has an evaluation that is not done."""
        is_last = self.step == self._config.total_steps
        is_due = is_last or _is_multiple(self.step, self._config.evals.every)
        return is_due and self.step > self._progress["evaluated"]

    def evaluate(self) -> dict[str, float]:
        """Returns the metrics of this step.

        Raises:
          ValueError: If the one to select by is not among them.
        """
        with self._clock.time("evaluation"):
            metrics = self._phase.evaluate(self._placed_variables())
        select = self._config.evals.select
        if select and select not in metrics:
            raise ValueError(
                f"evals.select is {select!r}; expected one of {', '.join(sorted(metrics))}, "
                "of which the largest is kept."
            )
        return metrics

    def keep_evaluation(self, metrics: dict[str, float]) -> None:
        """Writes the metrics, and saves the model unless an earlier one was better."""
        if self._writer:
            self._writer.write_metrics(self.step, metrics)
        variables = self._variables()
        selected = self._progress["selected"]
        select = self._config.evals.select
        value, best = metrics[select] if select else None, selected["value"]
        if value is not None and best is not None and value <= best:
            selected = selected | {"stale": selected["stale"] + 1}
        else:
            selected = {
                "value": value,
                "stale": 0,
                "step": self.step,
                "metrics": metrics,
                "params_sha256": params_sha256(variables),
            }
            if self._is_writing:
                self._save_model(variables, metrics)
        self._progress |= {"evaluated": self.step, "selected": selected}

    def is_picture_due(self) -> bool:
        """Tells whether this step is one of those that leave a picture."""
        return bool(self._phase.draw) and _is_multiple(self.step, self._config.log.pictures_every)

    def draw(self) -> None:
        """Writes a picture of what the model does with examples that never change."""
        path = self._workdir / "pictures" / f"step_{self.step:06d}.png"
        if not self._phase.draw or path.exists():
            return
        with self._clock.time("pictures"):
            picture = self._phase.draw(self._variables())
            if self._writer:
                path.parent.mkdir(exist_ok=True)
                write_whole(path, Image.fromarray(picture).save)
                self._writer.write_picture(self.step, picture)

    def is_checkpoint_due(self) -> bool:
        """Tells whether this step is one of those that are saved."""
        return _is_multiple(self.step, self._config.checkpoint.every)

    def save(self) -> None:
        """Writes a checkpoint of this step, unless there is one."""
        if self._writer:
            self._progress["log_size"] = self._writer.size
        with self._clock.time("checkpoint"):
            self._checkpointer.save(self._state, self._batches.get_state(), self._progress)

    def is_done(self) -> bool:
        """Tells whether the run has all its steps, or has stopped getting better."""
        patience = self._config.evals.patience
        is_stale = 0 < patience <= self._progress["selected"]["stale"]
        return self.step >= self._config.total_steps or is_stale

    def finish(self) -> dict[str, Any]:
        """Writes and returns the result."""
        selected = self._progress["selected"]
        final = {
            "step": self.step,
            "selected_step": selected["step"],
            "metrics": selected["metrics"],
            "params_sha256": selected["params_sha256"],
        }
        if self._is_writing:
            text = json.dumps(final, indent=2) + "\n"
            write_text_whole(self._workdir / "final.json", text)
        return final

    def close(self) -> None:
        """Closes files and threads."""
        self._bar.close()
        if self._writer:
            self._writer.close()
        self._checkpointer.close()

    def _variables(self) -> Any:
        """Returns the variables of the model as one process can read them."""
        variables = self._placed_variables()
        return sharding.to_host(variables) if jax.process_count() > 1 else variables

    def _placed_variables(self) -> Any:
        """Returns the variables of the model, of its average where there is one."""
        variables = merge_variables(self._state.saved_params, self._state.frozen)
        for name in self._phase.loss_heads:
            del variables["params"][name]
        return variables

    def _save_model(self, variables: Any, metrics: dict[str, float]) -> None:
        save_pretrained(
            self._workdir / "model",
            self._phase.model_config,
            variables,
            self._phase.tokenizer,
            self._phase.parts,
            metadata={
                "phase": self._config.phase,
                "seed": self._config.seed,
                "step": self.step,
                "metrics": metrics,
            },
        )

    def _give_up(self, batch: Any, loss: float, skipped: int) -> None:
        path = write_bundle(self._workdir, self._config, self._state, batch)
        where = f" python scripts/replay.py --bundle={path} looks into the last of them."
        raise FloatingPointError(
            f"The loss is {loss} at step {self.step} of {self._workdir}: it or a gradient was not "
            f"finite in {skipped} steps in a row.{where if path else ''}"
        )


def _is_multiple(step: int, every: int) -> bool:
    """Tells whether something that is done every so many steps is due; 0 stands for never."""
    return every > 0 and step > 0 and step % every == 0


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
    write_text_whole(path, text)


def _decisive(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the fields, by their full names, that decide what a run computes."""
    found = {}
    for key, value in config.items():
        name = prefix + key
        if name in _INDIFFERENT:
            continue
        found |= _decisive(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found
