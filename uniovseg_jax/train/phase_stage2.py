"""Phase `stage2`: the adapter, from pairs of pooled regions and entities."""

import pathlib

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from uniovseg_jax.data.tfds import tinyscenes
from uniovseg_jax.train import evaluations, objectives
from uniovseg_jax.train.initialise import initial_variables
from uniovseg_jax.train.phase import Phase, make_batches, make_model, prepare_tinyscenes
from uniovseg_jax.weights.store import Pretrained


def make_stage2(config: ml_collections.ConfigDict, workdir: pathlib.Path, mesh: Mesh) -> Phase:
    """The adapter, from pairs of pooled regions and entities; everything else is frozen."""
    from uniovseg_jax.alignment import build, regions, store

    model = make_model(config)
    model_config = model.config
    if model_config.adapter is None or model_config.adapter.mode != "pooled":
        raise ValueError(
            "stage2 trains from stored vectors; expected config.model.adapter.mode = 'pooled'."
        )
    parts = ("clip", "masks", "adapter")
    variables, tokenizer = initial_variables(
        model_config, parts, config.init, config.seed, trained="adapter"
    )
    if config.data.pairs:
        pairs = store.PairStore(config.data.pairs)
    else:
        data_dir = prepare_tinyscenes(config, workdir, "image_text")
        source = tinyscenes.load_source(data_dir, "image_text", "train")
        pairs = build.build_pairs(
            Pretrained(model, model_config, variables, tokenizer, parts, {}),
            build.caption_records(source, config.data.caption),
            regions.AlignmentConfig(
                cost=config.data.cost, confident_share=config.data.confident_share
            ),
            workdir / "pairs",
            source={"data": str(data_dir), "caption": config.data.caption},
            total=len(source),
        )
    table = pairs.arrays()
    rows = np.random.default_rng(config.seed).permutation(len(table["entity"]))
    num_val = max(1, min(config.evals.num_examples, len(rows) // 10))

    objective = objectives.make_stage2_loss(model, config.loss.name)
    return Phase(
        model_config=model_config,
        tokenizer=tokenizer,
        parts=parts,
        variables=variables,
        batches=make_batches(
            rows[num_val:],
            lambda _, row: jax.tree.map(lambda column: column[row], table),
            config,
            config.seed,
        ),
        objective=objective,
        evaluate=evaluations.mean_metrics(
            objective,
            [jax.tree.map(lambda column: column[rows[:num_val]], table)],
            "val_",
            mesh,
            whole=True,
        ),
    )
