"""Runs all rows of the ablation in one world."""

import dataclasses
import json
import pathlib
import shutil
import time
from collections.abc import Callable
from typing import Any

import ml_collections

from uniovseg_jax.ablation.rows import RowPairs
from uniovseg_jax.ablation.scales import name_true_masks
from uniovseg_jax.alignment.regions import AlignmentConfig
from uniovseg_jax.alignment.store import PairStore
from uniovseg_jax.data.tfds import tinyscenes
from uniovseg_jax.data.tfds.tinyscenes.builder import SIZES, TINY_SIZES
from uniovseg_jax.eval.oracle import write_ceiling
from uniovseg_jax.eval.scenes import scores as scoring
from uniovseg_jax.eval.scenes.images import prepare_images
from uniovseg_jax.files import write_text_whole
from uniovseg_jax.inference.segmenter import SegmenterConfig
from uniovseg_jax.locks import held_alone
from uniovseg_jax.models.uniovseg import UniOVSeg
from uniovseg_jax.proposals import ProposalConfig
from uniovseg_jax.text_encoder import TextEncoder
from uniovseg_jax.train.loop import train
from uniovseg_jax.versions import versions
from uniovseg_jax.weights.store import Pretrained, load_pretrained, params_sha256

# Of all captions of an image together.
_MAX_ENTITIES = 48

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

    The file holds per row `loss`, `scores` and `matching` (percent of right pairs), the ceiling's
    scores per loss, and `sizes` for table 4b.

    Raises:
      ValueError: If the model was trained in another world, a row of the configuration is wrong,
        the output is of another configuration, or another ablation is at work in it.
      Interrupted: If SIGTERM or Ctrl-C came while an adapter trained; the same call goes on.
      FileNotFoundError: If the model is missing.
    """
    with held_alone(ablation.folder, "ablation"):
        base = _load_base(ablation)
        made_with = {
            "config": json.loads(ablation.config.to_json_best_effort()),
            "stage2": _describe(_stage2_config(ablation)),
            "params_sha256": params_sha256(base.variables),
        }
        result = ablation.output / f"seed{ablation.seed}.json"
        if result.is_file():
            document = json.loads(result.read_text())
            if document.get("made_with") != made_with:
                raise ValueError(
                    f"{result} is of another configuration or model; expected another output."
                )
            return document
        document = {"made_with": made_with, **_run(ablation, base)}
        text = json.dumps(document, indent=2) + "\n"
        write_text_whole(result, text)
        return document


def _run(ablation: Ablation, base: Pretrained) -> dict[str, Any]:
    config, start = ablation.config, time.perf_counter()
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
            proposals=settings.proposals, templates=settings.templates, max_entities=_MAX_ENTITIES
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
        stage2 = _stage2_config(ablation, row.loss, row.confident_share)
        model = _train(ablation, name, store, stage2)
        if row.rematch:
            adapted = scoring.make_embed(model, adapt=True)
            digest = params_sha256(model.variables)
            store = pairs.rematched(f"{name}_again", row, store, adapted, digest)
            model = _train(ablation, f"{name}_again", store, stage2)
        stores[name] = store
        rows[name] = {
            "loss": row.loss,
            "scores": score(model, adapt=True),
            "matching": pairs.accuracy(store),
        }
        _say(ablation, name, rows[name])
    ceiling, _ = write_ceiling(
        stores[config.ceiling_of], oracle, embed, ablation.folder / "pairs" / "ceiling"
    )
    for loss in sorted({row.loss for row in config.rows.values()}):
        name = f"paired_{loss}"
        model = _train(ablation, name, ceiling, _stage2_config(ablation, loss))
        rows[name] = {"loss": loss, "scores": score(model, adapt=True)}
        _say(ablation, name, rows[name])
    return {
        "seed": ablation.seed,
        "split": config.split,
        "rows": rows,
        "sizes": name_true_masks(base, records, config.size_sets, settings.templates),
        "minutes": (time.perf_counter() - start) / 60,
        "versions": versions(),
    }


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


def _stage2_config(
    ablation: Ablation, loss: str = "", confident_share: float = 1.0
) -> ml_collections.ConfigDict:
    """Returns how a row is trained, but for its pairs."""
    options = ["stage2", f"seed={ablation.seed}"] + ["tiny"] * ablation.config.tiny
    config = ablation.get_config(",".join(options))
    config.data.directory = str(ablation.data_dir)
    config.data.confident_share = confident_share
    config.init = ablation.model
    config.loss.name = loss
    return config


def _describe(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Returns JSON values without paths, which may change: other digests say what lies there."""
    described = json.loads(config.to_json_best_effort())
    del described["init"], described["data"]["directory"], described["data"]["pairs"]
    return described


def _train(
    ablation: Ablation, name: str, store: PairStore, config: ml_collections.ConfigDict
) -> Pretrained:
    """Trains an adapter, unless that is done."""
    workdir = ablation.folder / "stage2" / name
    config.data.pairs = str(store.directory)
    # What was learned in another way, or from other pairs in the same place, does not count.
    made_from = json.dumps({"pairs": store.manifest, "config": _describe(config)}, sort_keys=True)
    kept = workdir / "made_from.json"
    if not kept.is_file() or kept.read_text() != made_from:
        shutil.rmtree(workdir, ignore_errors=True)
        workdir.mkdir(parents=True)
        write_text_whole(kept, made_from)
    if not (workdir / "final.json").is_file():
        train(config, workdir)
    return load_pretrained(workdir / "model")


def _say(ablation: Ablation, name: str, row: dict[str, Any]) -> None:
    seen = row["scores"]["predicted"]["miou_seen"]
    matching = f", {row['matching']['all']:.1f} % of its pairs right" if "matching" in row else ""
    print(f"world {ablation.seed}, {name}: mIoU seen {seen:.1f}{matching}", flush=True)
