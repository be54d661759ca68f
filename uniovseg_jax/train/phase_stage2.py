"""Phase `stage2`: the adapter, from pairs of regions and entities."""

import dataclasses
import hashlib
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

from uniovseg_jax.alignment import build, captioned, online, regions, store, store_settings
from uniovseg_jax.alignment.reading import read_boxed
from uniovseg_jax.captions.caption_records import open_caption_records
from uniovseg_jax.data.skipped import SkippedRecords
from uniovseg_jax.data.subset import Subset
from uniovseg_jax.data.tfds import tinyscenes
from uniovseg_jax.proposals import ProposalConfig
from uniovseg_jax.text_encoder import TextEncoder
from uniovseg_jax.train import evaluations, objectives, sharding
from uniovseg_jax.train.initialise import initial_variables
from uniovseg_jax.train.phase import Phase, make_batches, make_model, prepare_tinyscenes
from uniovseg_jax.weights.store import Pretrained

_PARTS = ("clip", "masks", "adapter")


def make_stage2(config: ml_collections.ConfigDict, workdir: pathlib.Path, mesh: Mesh) -> Phase:
    """The adapter, from pairs that are kept or matched as they come; everything else is frozen."""
    adapter = config.model.adapter
    if adapter is not None and adapter.mode == "dense" and not config.data.online:
        raise ValueError(
            "An adapter of mode 'dense' works on maps, which no store keeps; expected "
            "config.data.online = True, or config.model.adapter.mode = 'pooled'."
        )
    pretrained = load_frozen(config)
    model = pretrained.model
    if config.data.online:
        batches, val_batches = _match_online(pretrained, config, workdir)
    else:
        batches, val_batches = _read_store(pretrained, config, workdir)
    objective = objectives.make_stage2_loss(model, config.loss.name)
    return Phase(
        model_config=model.config,
        tokenizer=pretrained.tokenizer,
        parts=_PARTS,
        variables=pretrained.variables,
        batches=batches,
        objective=objective,
        evaluate=evaluations.mean_metrics(objective, val_batches, "val_", mesh, whole=True),
    )


def load_frozen(config: ml_collections.ConfigDict) -> Pretrained:
    """Returns the model that stage 2 starts from, with an adapter that changes nothing yet.

    Raises:
      ValueError: If the model has no adapter, or the starting weights do not fit.
    """
    model = make_model(config)
    if model.config.adapter is None:
        raise ValueError("The model has no adapter, which is what stage2 trains.")
    variables, tokenizer = initial_variables(
        model.config, _PARTS, config.init, config.seed, trained="adapter"
    )
    return Pretrained(model, model.config, variables, tokenizer, _PARTS, {})


def alignment_config(data: ml_collections.ConfigDict) -> regions.AlignmentConfig:
    """Returns how pairs are found, as the fields of a configuration's `data` say.

    Raises:
      ValueError: If a field is out of its range.
    """
    return regions.AlignmentConfig(
        proposals=ProposalConfig(score_threshold=data.score_threshold, nms_inside=data.nms_inside),
        cost=data.cost,
        topk=data.topk,
        min_cosine=data.min_cosine,
        confident_share=data.confident_share,
        max_entities=data.max_entities,
        batch_size=data.match_batch,
    )


def _read_store(
    pretrained: Pretrained, config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> tuple[Any, list[dict[str, Any]]]:
    """Returns batches of kept pairs and those of the evaluation.

    Pairs are held back, not images, because a store of targets alone does not know its images: the
    evaluation has other pairs of images that are trained on. It chooses nothing unless
    `evals.select` asks for it. Where pairs are matched online, images are held back.
    """
    data = config.data
    if data.pairs:
        pairs = store.PairStore(data.pairs)
        store_settings.check_store(pairs, pretrained, alignment_config(data))
    else:
        images, source = open_images(config, workdir)
        pairs = build.build_pairs(
            pretrained,
            images,
            alignment_config(data),
            workdir / "pairs",
            source,
            build.BuildOptions(
                keep=data.keep,
                max_skipped=data.max_skipped,
                share=(jax.process_index(), jax.process_count()),
                wait=sharding.wait_for_all,
                num_threads=config.loader_threads,
            ),
        )
    targets = pairs.targets()
    rows = np.random.default_rng(config.seed).permutation(len(targets))
    num_val = max(1, min(config.evals.num_examples, len(rows) // 10))
    batches = make_batches(
        rows[num_val:], lambda _, row: targets.examples(row), config, config.seed
    )
    return batches, [targets.examples(np.sort(rows[:num_val]))]


def _match_online(
    pretrained: Pretrained, config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> tuple[Any, list[dict[str, Any]]]:
    """Returns batches that are matched as they come, and those of the evaluation."""
    # A copy: the training step gives the memory of its own state away.
    variables = jax.tree.map(lambda x: jnp.array(x, copy=True), pretrained.variables)
    pretrained = dataclasses.replace(pretrained, variables=variables)
    images, _ = open_images(config, workdir)
    data, side = config.data, pretrained.config.image_size
    settings = alignment_config(data)
    # Where a run goes on must not show in any bit.
    encoder = TextEncoder(pretrained, settings.templates, one_by_one=True)
    matcher = online.Matcher(
        regions.RegionGenerator(pretrained, settings, encoder), config.model.adapter.mode == "dense"
    )
    order = np.random.default_rng(config.seed).permutation(len(images))
    num_val = max(1, min(config.evals.num_examples, len(images) // 10))
    skipped = SkippedRecords(data.max_skipped)
    val_batches = []
    for first in range(0, num_val, settings.batch_size):
        some = np.sort(order[:num_val])[first : first + settings.batch_size]
        rows = [read_boxed(images, index, side, skipped) for index in some.tolist()]
        val_batches.append(matcher.finish(matcher.start(rows)))
    batches = online.OnlineBatches(
        Subset(images, np.sort(order[num_val:])),
        matcher,
        config.batch_size,
        config.seed,
        (jax.process_index(), jax.process_count()),
        config.loader_threads,
        data.max_skipped,
    )
    return batches, val_batches


def open_images(
    config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> tuple[captioned.CaptionedImages, dict[str, Any]]:
    """Returns captioned images and what identifies them.

    Raises:
      FileNotFoundError: If a folder of captions is not there or not finished.
      ValueError: If the configuration names none, or it is damaged.
    """
    data = config.data
    if data.name == "tinyscenes":
        folder = prepare_tinyscenes(config, workdir, "image_text")
        source = tinyscenes.load_source(folder, "image_text", "train")
        images = captioned.CaptionedScenes(source, data.caption)
        return images, {"world": data.seed, "caption": data.caption}
    if data.name != "captions":
        raise ValueError(f"data.name is {data.name!r}; expected tinyscenes or captions.")
    if not data.train:
        raise ValueError(
            "data.train is empty; expected a folder made by scripts/prepare_captions.py."
        )
    records = open_caption_records(data.train)
    if data.verify:
        records.verify(jax.process_index(), jax.process_count())
    digests = [shard.sha256 for manifest in records.manifests for shard in manifest.shards]
    digest = hashlib.sha256("".join(digests).encode()).hexdigest()
    return captioned.CaptionedFolder(records), {"captions_sha256": digest}
