"""Runs all rows of the ablation in one world."""

import dataclasses
import json
import pathlib
import shutil
import time
from collections.abc import Callable
from typing import Any

import ml_collections
import numpy as np

from uniovseg_jax.ablation.rows import RowPairs
from uniovseg_jax.ablation.scales import name_true_masks
from uniovseg_jax.alignment.regions import AlignmentConfig
from uniovseg_jax.alignment.store import PairStore
from uniovseg_jax.data.tfds import tinyscenes
from uniovseg_jax.data.tfds.tinyscenes.builder import SIZES, TINY_SIZES
from uniovseg_jax.eval import tinyscenes as scoring
from uniovseg_jax.eval.oracle import write_ceiling
from uniovseg_jax.eval.prepared import prepare_images
from uniovseg_jax.files import write_whole
from uniovseg_jax.inference.segmenter import SegmenterConfig
from uniovseg_jax.models.uniovseg import UniOVSeg
from uniovseg_jax.proposals import ProposalConfig
from uniovseg_jax.text_encoder import TextEncoder
from uniovseg_jax.train.loop import train
from uniovseg_jax.versions import versions
from uniovseg_jax.weights.store import Pretrained, load_pretrained

# Of `configs/tinyscenes.py`: options to a configuration of stage 2.
GetConfig = Callable[[str], ml_collections.ConfigDict]


@dataclasses.dataclass(frozen=True)
class Ablation:
    """What to run in one world.

    Attributes:
      config: Of `configs/ablation.py`.
      seed: The world, and the seed of training.
      model: Model directory with CLIP and stage 1, trained in that world.
      output: Folder of all that is made.
      data_dir: Folder of rendered worlds.
      get_config: Makes the configuration of stage 2.
    """

    config: ml_collections.ConfigDict
    seed: int
    model: str
    output: pathlib.Path
    data_dir: pathlib.Path
    get_config: GetConfig

    @property
    def folder(self) -> pathlib.Path:
        """Of this world."""
        return self.output / f"seed{self.seed}"


def run_ablation(ablation: Ablation) -> dict[str, Any]:
    """Runs what is not done yet and returns `<output>/seed<n>.json`.

    The file holds per row `scores` and `matching` (percent of right pairs), the ceiling's scores
    per loss, and `sizes` for table 4b.

    Raises:
      ValueError: If the model was trained in another world, or a row of the configuration is wrong.
      FileNotFoundError: If the model is missing.
    """
    result = ablation.output / f"seed{ablation.seed}.json"
    if result.is_file():
        return json.loads(result.read_text())
    config, start = ablation.config, time.perf_counter()
    base = _load_base(ablation)
    sizes = TINY_SIZES if config.tiny else SIZES
    world = tinyscenes.prepare(ablation.data_dir, ablation.seed, ("image_text", "panoptic"), sizes)
    oracle = tinyscenes.load_oracle(world)
    settings = SegmenterConfig(
        proposals=ProposalConfig(score_threshold=0.0) if config.tiny else ProposalConfig()
    )
    embed = TextEncoder(base, settings.templates).embed
    pairs = RowPairs(
        base,
        tinyscenes.load_source(world, "image_text", "train"),
        oracle,
        config.rows,
        ablation.folder / "pairs",
        AlignmentConfig(
            proposals=settings.proposals, templates=settings.templates, max_entities=48
        ),
        embed,
    )
    records = tinyscenes.load_source(world, "panoptic", config.split)
    images = list(prepare_images(base, records, settings))
    held_out = tinyscenes.held_out_combinations(ablation.seed)[config.split]
    scorer = scoring.RowScorer(base, settings, [" ".join(names) for names in held_out])

    def score(model: Pretrained, adapt: bool) -> dict[str, Any]:
        found = scorer.score(images, scoring.make_embed(model, adapt))
        return {"predicted": found.predicted, "true": found.true}

    rows: dict[str, Any] = {"baseline": {"scores": score(base, adapt=False)}}
    stores: dict[str, PairStore] = {}
    for name, row in config.rows.items():
        store = pairs.of_row(name, row)
        model = _train(ablation, name, store, row.loss)
        if row.rematch:
            adapted = scoring.make_embed(model, adapt=True)
            store = pairs.rematched(f"{name}_again", row, store, adapted)
            model = _train(ablation, f"{name}_again", store, row.loss)
        stores[name] = store
        rows[name] = {"scores": score(model, adapt=True), "matching": pairs.accuracy(store)}
        _say(ablation, name, rows[name])
    ceiling, _ = write_ceiling(
        stores[config.ceiling_of], oracle, embed, ablation.folder / "pairs" / "ceiling"
    )
    for loss in sorted({row.loss for row in config.rows.values()}):
        name = f"paired_{loss}"
        rows[name] = {"scores": score(_train(ablation, name, ceiling, loss), adapt=True)}
        _say(ablation, name, rows[name])
    document = {
        "seed": ablation.seed,
        "split": config.split,
        "rows": rows,
        "sizes": name_true_masks(base, records, config.size_sets, settings.templates),
        "minutes": (time.perf_counter() - start) / 60,
        "versions": versions(),
    }
    text = json.dumps(document, indent=2) + "\n"
    write_whole(result, lambda path: path.write_text(text))
    return document


def _load_base(ablation: Ablation) -> Pretrained:
    """Returns the frozen model with the ablation's scales."""
    base = load_pretrained(ablation.model)
    trained_in = base.metadata.get("seed")
    if trained_in != ablation.seed:
        raise ValueError(
            f"{ablation.model} was trained in world {trained_in}; expected world {ablation.seed}."
        )
    config = dataclasses.replace(base.config, align_scales=tuple(ablation.config.scales))
    return dataclasses.replace(base, config=config, model=UniOVSeg(config))


def _train(ablation: Ablation, name: str, store: PairStore, loss: str) -> Pretrained:
    """Trains an adapter, unless that is done."""
    workdir = ablation.folder / "stage2" / name
    if not (workdir / "final.json").is_file():
        shutil.rmtree(workdir, ignore_errors=True)
        options = ["stage2", f"seed={ablation.seed}"] + ["tiny"] * ablation.config.tiny
        config = ablation.get_config(",".join(options))
        config.data.directory = str(ablation.data_dir)
        config.init = ablation.model
        config.data.pairs = str(store.directory)
        config.loss.name = loss
        train(config, workdir)
    return load_pretrained(workdir / "model")


def _say(ablation: Ablation, name: str, row: dict[str, Any]) -> None:
    seen = row["scores"]["predicted"]["miou_seen"]
    matching = row.get("matching", {}).get("all", np.nan)
    print(f"world {ablation.seed}, {name}: mIoU seen {seen:.1f}, pairs right {matching:.1f} %")
