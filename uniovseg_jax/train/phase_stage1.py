"""Phase `stage1`: promptable masks from image-mask data."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from uniovseg_jax.data import pipeline
from uniovseg_jax.data.mask_records import MaskRecords, open_mask_records
from uniovseg_jax.data.subset import Subset
from uniovseg_jax.data.tfds import tinyscenes
from uniovseg_jax.data.tfds_masks import TfdsMasks
from uniovseg_jax.losses import stage1 as losses
from uniovseg_jax.matching import match_many_to_many_released
from uniovseg_jax.models.prompt_encoder import points_to_boxes
from uniovseg_jax.models.uniovseg import UniOVSeg
from uniovseg_jax.train import evaluations, objectives, sharding
from uniovseg_jax.train.initialise import initial_variables
from uniovseg_jax.train.mask_pictures import make_mask_picture
from uniovseg_jax.train.phase import Phase, make_batches, make_model, prepare_tinyscenes


def make_stage1(config: ml_collections.ConfigDict, workdir: pathlib.Path, mesh: Mesh) -> Phase:
    """Returns the phase; the parts of the model that it trains are those that `freeze` leaves."""
    model = make_model(config)
    parts = ("clip", "masks")
    variables, tokenizer = initial_variables(
        model.config, parts, config.init, config.seed, trained="masks"
    )
    loss_config = losses.Stage1LossConfig(**config.loss)
    objective = objectives.make_stage1_loss(model, loss_config)
    match = None
    if loss_config.match_rule == "released":
        match = make_released_matcher(model, loss_config, mesh)

    train, val = _open_sources(config, workdir)
    size = model.config.image_size
    transform = pipeline.make_stage1_transform(config.data, size, config.seed)
    still = pipeline.make_stage1_transform(config.data, size, seed=0, augment=False)
    # The same few batches at every evaluation.
    held_out = iter(make_batches(val, still, config, seed=0))
    num_batches = max(1, min(len(val), config.evals.num_examples) // config.batch_size)
    val_batches = [next(held_out) for _ in range(num_batches)]
    return Phase(
        model_config=model.config,
        tokenizer=tokenizer,
        parts=parts,
        variables=variables,
        batches=make_batches(train, transform, config, config.seed),
        objective=objective,
        evaluate=evaluations.mean_metrics(
            objective, val_batches, "val_", mesh, match, config.accumulate
        ),
        match=match,
        draw=make_mask_picture(model, val_batches[0]),
    )


def _open_sources(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> tuple[Any, Any]:
    """Returns the records to train on and those to evaluate on."""
    data = config.data
    if data.name == "tinyscenes":
        folder = prepare_tinyscenes(config, workdir, "image_mask")
        load = functools.partial(tinyscenes.load_source, folder, "image_mask")
        return load("train"), load("val")
    if data.name != "records":
        raise ValueError(f"data.name is {data.name!r}; expected tinyscenes or records.")
    if not data.train:
        raise ValueError("data.train is empty; expected a folder made by scripts/prepare_data.py.")
    train = _open_records(data.train, data.verify)
    if data.val:
        return train, _open_records(data.val, data.verify)
    # A few records that chance sets aside, the same ones whenever the run goes on.
    order = np.random.default_rng(config.seed).permutation(len(train))
    num_val = max(1, min(config.evals.num_examples, len(train) // 10))
    if len(train) < 2:
        raise ValueError(f"{data.train} holds {len(train)} records; expected at least 2.")
    return Subset(train, np.sort(order[num_val:])), Subset(train, np.sort(order[:num_val]))


def _open_records(folder: str, verify: bool) -> MaskRecords | TfdsMasks:
    records = open_mask_records(folder)
    if verify:
        records.verify(jax.process_index(), jax.process_count())
    return records


def make_released_matcher(
    model: UniOVSeg, config: losses.Stage1LossConfig, mesh: Mesh
) -> Callable[[Any, dict[str, Any]], dict[str, Any]]:
    """Returns `(variables, batch) -> batch` with "targets", by the released rule, on the host.

    The images go through the network once more for it: costs come to the host before the step, so
    that the step itself needs no callback. Every process matches its own share of the batch.
    """

    def costs_of(variables: Any, batch: dict[str, Any]) -> tuple[Array, Array]:
        def decode(model: UniOVSeg) -> Any:
            features = model.encode_image(objectives.augmented_image(batch))
            memory = model.prepare_masks(features)
            boxes = points_to_boxes(batch["points"], model.config.point_box_size)
            output = model.decode_masks(features, memory, boxes, "point")
            return output.mask_embeds[-1], memory.pixel_embeds

        outputs: Any = model.apply(sharding.gathered(variables, mesh), method=decode)
        mask_embeds, f = outputs
        masks = losses.unpack_masks(batch["mask_bits"])

        def of_image(mask_embeds: Array, f: Array, masks: Array) -> Float[Array, "q k n"]:
            return losses.coarse_costs(mask_embeds, f, masks, config)[0]

        member: Bool[Array, "b q n"] = jax.vmap(losses.membership)(
            batch["mask_bits"], batch["mask_valid"], batch["points"]
        )
        return jax.vmap(of_image)(mask_embeds, f, masks), member

    compiled = jax.jit(costs_of, out_shardings=sharding.split_by_example(mesh))

    def match(variables: Any, batch: dict[str, Any]) -> dict[str, Any]:
        costs, member = compiled(variables, batch)
        local = match_many_to_many_released(*(sharding.local_rows(x) for x in (costs, member)))
        return batch | {"targets": sharding.like_rows(local, batch["points"])}

    return match
