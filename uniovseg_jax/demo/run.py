"""Runs the demonstration from rendering to report."""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from uniovseg_jax.alignment.build import BuildOptions, build_pairs
from uniovseg_jax.alignment.captioned import CaptionedScenes
from uniovseg_jax.alignment.regions import AlignmentConfig
from uniovseg_jax.alignment.store import PairStore
from uniovseg_jax.data.tfds import tinyscenes
from uniovseg_jax.data.tfds.tinyscenes.builder import SIZES, TINY_SIZES
from uniovseg_jax.demo import pictures as pictures_lib
from uniovseg_jax.demo.progress import Progress, peak_memory_gib
from uniovseg_jax.demo.report import Pictures, write_report
from uniovseg_jax.eval.oracle import write_ceiling
from uniovseg_jax.eval.scenes import scores as scoring
from uniovseg_jax.eval.scenes.images import PreparedImage, prepare_images
from uniovseg_jax.inference.segmenter import OpenVocabularySegmenter, SegmenterConfig
from uniovseg_jax.proposals import ProposalConfig
from uniovseg_jax.text_encoder import TextEncoder
from uniovseg_jax.train.loop import train
from uniovseg_jax.versions import versions
from uniovseg_jax.weights.store import Pretrained, load_pretrained, params_sha256

# Of `configs/tinyscenes.py`: options to an ml_collections.ConfigDict.
GetConfig = Callable[[str], Any]

# Rows of the table that train an adapter: targets, loss, and key in the report.
_LOSSES = ("cosine", "contrastive")
_TARGETS = ("unpaired", "paired")


@dataclasses.dataclass(frozen=True)
class DemoOptions:
    """What to run.

    Attributes:
      output: Folder for the report and all that leads to it.
      data_dir: Folder of rendered worlds.
      seed: The world, and the seed of all training.
      words: What to segment the scenes with; empty for all names of the world.
      from_nothing: Train CLIP and stage 1 as well.
      tiny: A handful of scenes and steps, to see that everything runs.
      clip: Model directory whose metadata tell the CLIP's retrieval; unless from nothing.
      stage1: Model directory that stage 2 starts from; unless from nothing.
      split: Split of the `panoptic` part that is scored: `val` to choose, `test` to report.
      preset: Model size, where it is trained from nothing.
      command: How the demo was called.
    """

    output: pathlib.Path
    data_dir: pathlib.Path
    seed: int = 0
    words: str = ""
    from_nothing: bool = False
    tiny: bool = False
    clip: str = ""
    stage1: str = ""
    split: str = "test"
    preset: str = "nano"
    command: str = ""

    @property
    def work(self) -> pathlib.Path:
        """Folder of what is trained and matched, one per world."""
        return self.output / f"seed{self.seed}"


def run_demo(options: DemoOptions, get_config: GetConfig) -> dict[str, Any]:
    """Runs everything and writes `report.json` and `report.html` into the output folder.

    Args:
      options: What to run.
      get_config: Of `configs/tinyscenes.py`.

    Returns:
      The report, as `report.json` has it.

    Raises:
      ValueError: If the words are no vocabulary, or the weights were trained on another world.
      FileNotFoundError: If a model directory is missing.
    """
    words = pictures_lib.choose_words(options.words)
    clock = Progress(7 if options.from_nothing else 5)
    retrieval, stage1 = None, options.stage1
    if not options.from_nothing:  # Looked at first, so that a wrong folder costs no time.
        retrieval = load_pretrained(options.clip).metadata.get("metrics", {}).get("retrieval")
        _check_world(options)
    # Stage 2 is always trained anew; a killed run of the phases before it goes on where it was.
    shutil.rmtree(options.work / "stage2", ignore_errors=True)
    with clock.part("render the world"):
        world = _render(options)
    if options.from_nothing:
        with clock.part("train CLIP on captioned pictures"):
            final = _train("clip", options, get_config, options.work / "clip")
            retrieval = final["metrics"].get("retrieval")
        with clock.part("train stage 1 on masks"):
            init = str(options.work / "clip" / "model")
            _train("stage1", options, get_config, options.work / "stage1", init=init)
        stage1 = str(options.work / "stage1" / "model")

    base = load_pretrained(stage1)
    settings = SegmenterConfig(proposals=_proposals(options.tiny))
    with clock.part("match masks with the entities of captions"):
        captioned = tinyscenes.load_source(world, "image_text", "train")
        pairs = _match(base, captioned, options, settings, get_config("stage2"))
        oracle = tinyscenes.load_oracle(world)
        embed = TextEncoder(base, settings.templates).embed
        ceiling, accuracy = write_ceiling(pairs, oracle, embed, options.work / "ceiling")
    stores = {"unpaired": pairs, "paired": ceiling}
    with clock.part("train stage 2 on the pairs, and the paired ceiling"):
        for loss in _LOSSES:
            for targets in _TARGETS:
                workdir = options.work / "stage2" / f"{targets}_{loss}"
                store = str(stores[targets].directory)
                _train("stage2", options, get_config, workdir, stage1, store, loss)

    with clock.part(f"score {options.split}"):
        records = tinyscenes.load_source(world, "panoptic", options.split)
        images = list(prepare_images(base, records, settings))
        rows, accuracies = _score(base, images, options, settings)
    with clock.part("draw the report"):
        pictures = _draw(
            base, images, accuracies, words, options, settings, (pairs, captioned, oracle)
        )
    report = {
        "command": options.command,
        "seed": options.seed,
        "split": options.split,
        "num_images": len(images),
        "weights": "trained in this run" if options.from_nothing else pathlib.Path(stage1).name,
        "params_sha256": params_sha256(base.variables),
        "clip": {"retrieval": retrieval},
        "pairs": {
            "counts": pairs.manifest["counts"],
            "confident": pairs.manifest["targets"],
            "ceiling_targets": ceiling.manifest["targets"],
            "align_scales": pairs.settings["align_scales"],
            "matching_accuracy": accuracy,
        },
        "losses": _final_losses(options),
        options.split: rows,
        "seconds": clock.seconds,
        "peak_memory_gib": peak_memory_gib(),
        "versions": versions(),
    }
    _, page = write_report(report, pictures, options.output)
    minutes, seconds = divmod(round(clock.total()), 60)
    print(f"Demo finished in {minutes} min {seconds} s: report at {page}", flush=True)
    return report


def _check_world(options: DemoOptions) -> None:
    """Refuses another world than that of the weights: they have seen what is unseen there."""
    world = load_pretrained(options.stage1).metadata.get("seed")
    if world != options.seed:
        raise ValueError(
            f"{options.stage1} was trained on world {world}, which shows what is held out in world "
            f"{options.seed}; expected --seed={world}, or --from_nothing."
        )


def _proposals(tiny: bool) -> ProposalConfig:
    """Returns the released choices; a few steps do not teach a model to trust its masks."""
    return ProposalConfig(score_threshold=0.0) if tiny else ProposalConfig()


def _render(options: DemoOptions) -> pathlib.Path:
    parts = ("image_text", "panoptic")
    if options.from_nothing:
        parts = ("web", "image_mask", *parts)
    sizes = TINY_SIZES if options.tiny else SIZES
    return tinyscenes.prepare(options.data_dir, options.seed, parts, sizes)


def _train(
    phase: str,
    options: DemoOptions,
    get_config: GetConfig,
    workdir: pathlib.Path,
    init: str | None = None,
    pairs: str = "",
    loss: str = "",
) -> dict[str, Any]:
    """Trains one phase, as `scripts/train.py` would."""
    words = [phase, f"seed={options.seed}", f"preset={options.preset}"]
    config = get_config(",".join(words + ["tiny"] * options.tiny))
    config.data.directory = str(options.data_dir)
    if init is not None:
        config.init = init
    if phase == "stage2":
        config.data.pairs = pairs
        config.loss.name = loss
    return train(config, workdir)


def _match(
    base: Pretrained,
    captioned: Any,
    options: DemoOptions,
    settings: SegmenterConfig,
    config: Any,
) -> PairStore:
    return build_pairs(
        base,
        CaptionedScenes(captioned, config.data.caption),
        AlignmentConfig(
            proposals=settings.proposals,
            cost=config.data.cost,
            confident_share=config.data.confident_share,
            templates=settings.templates,
        ),
        options.work / "pairs",
        source={"world": options.seed, "caption": config.data.caption},
        options=BuildOptions(keep=config.data.keep),
    )


def _score(
    base: Pretrained,
    images: list[PreparedImage],
    options: DemoOptions,
    settings: SegmenterConfig,
) -> tuple[dict[str, Any], tuple[float, ...]]:
    """Returns all rows of the table, and the unpaired row's accuracy image by image."""
    held_out = tinyscenes.held_out_combinations(options.seed)[options.split]
    scorer = scoring.RowScorer(base, settings, [" ".join(pair) for pair in held_out])
    scored = {"baseline": scorer.score(images, scoring.make_embed(base, adapt=False))}
    for loss in _LOSSES:
        for targets in _TARGETS:
            name = f"{targets}_{loss}"
            adapted = load_pretrained(options.work / "stage2" / name / "model")
            scored[name] = scorer.score(images, scoring.make_embed(adapted, adapt=True))

    def table(kind: str) -> dict[str, Any]:
        values = {name: getattr(row, kind) for name, row in scored.items()}

        def rows_of(loss: str) -> dict[str, Any]:
            unpaired, paired = values[f"unpaired_{loss}"], values[f"paired_{loss}"]
            seen = (row["miou_seen"] for row in (values["baseline"], unpaired, paired))
            closed = scoring.gap_closed(*seen)
            note = {} if closed is not None else {"gap_closed_note": "meaningless"}
            return {"unpaired": unpaired, "paired": paired, "gap_closed": closed, **note}

        return {
            "baseline": values["baseline"],
            **rows_of("cosine"),
            "contrastive": rows_of("contrastive"),
        }

    rows = {**table("predicted"), "true_masks": table("true")}
    return rows, scored["unpaired_cosine"].image_accuracy


def _draw(
    base: Pretrained,
    images: list[PreparedImage],
    accuracies: tuple[float, ...],
    words: dict[str, Any],
    options: DemoOptions,
    settings: SegmenterConfig,
    matched: tuple[PairStore, Any, dict[str, Any]],
) -> Pictures:
    baseline = OpenVocabularySegmenter(base, settings)
    model = load_pretrained(options.work / "stage2" / "unpaired_cosine" / "model")
    aligned = OpenVocabularySegmenter(model, settings)
    for segmenter in (baseline, aligned):
        segmenter.set_vocabulary(**words)
    scenes = [
        pictures_lib.draw_scene(f"Scene {i} of {options.split}", images[i].image, baseline, aligned)
        for i in pictures_lib.choose_scenes(images, options.words)
    ]
    aligned.set_vocabulary(**pictures_lib.choose_words(""))
    worst = np.argsort(np.nan_to_num(accuracies, nan=1.0), kind="stable")[:3].tolist()
    failures = [
        pictures_lib.draw_failure(
            f"Scene {i} of {options.split}", images[i], accuracies[i], aligned
        )
        for i in worst
    ]
    shown = ", ".join(words["names"]) if options.words else "all names of the world"
    return Pictures(
        words=shown,
        scenes=scenes,
        pairs=pictures_lib.draw_pairs(*matched),
        failures=failures,
        curves=_curves(options),
    )


def _curves(options: DemoOptions) -> dict[str, dict[str, tuple[list[float], list[float]]]]:
    charts: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    if options.from_nothing:
        charts["CLIP"] = {"clip": _read_losses(options.work / "clip")}
        charts["Stage 1"] = {"stage1": _read_losses(options.work / "stage1")}
    for loss in _LOSSES:
        charts[f"Stage 2, {loss}"] = {
            targets: _read_losses(options.work / "stage2" / f"{targets}_{loss}")
            for targets in _TARGETS
        }
    return charts


def _read_losses(workdir: pathlib.Path) -> tuple[list[float], list[float]]:
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "loss" in line]
    return [float(line["step"]) for line in lines], [line["loss"] for line in lines]


def _final_losses(options: DemoOptions) -> dict[str, float]:
    """Returns the last training loss of every adapter."""
    names = [f"{targets}_{loss}" for loss in _LOSSES for targets in _TARGETS]
    return {name: _read_losses(options.work / "stage2" / name)[1][-1] for name in names}
