"""What differs between the phases: data, model and weights, loss, evaluation."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import grain.python as grain
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from uniovseg_jax import losses
from uniovseg_jax.data import pipeline
from uniovseg_jax.data.tfds import tinyscenes
from uniovseg_jax.models.presets import UniOVSegConfig, config_from_dict
from uniovseg_jax.models.tokenizer import Tokenizer, train_tokenizer
from uniovseg_jax.models.uniovseg import UniOVSeg
from uniovseg_jax.text_encoder import TEMPLATES
from uniovseg_jax.train import evaluations, objectives
from uniovseg_jax.train.initialise import initial_variables
from uniovseg_jax.weights.store import Pretrained

# Captions that tell a new CLIP's words and how rare they are; more change little.
_SAMPLED_CAPTIONS = 4000


@dataclasses.dataclass(frozen=True)
class Phase:
    """Everything that the loop asks of a phase.

    Attributes:
      model_config: The model, as it will be saved.
      tokenizer: Saved along with the part `clip`.
      parts: Parts of the model that the variables hold and that are saved.
      variables: Collections `params` and `fixed` before training.
      batches: Endless; its iterator has `get_state` and `set_state`.
      objective: The loss.
      evaluate: `variables -> metrics`, on the validation split.
      draw: `variables -> picture` of a few examples, always the same ones; None without.
      loss_heads: Names in `params` that only the loss uses; they are not saved with the model.
    """

    model_config: UniOVSegConfig
    tokenizer: Tokenizer | None
    parts: tuple[str, ...]
    variables: dict[str, Any]
    batches: grain.IterDataset
    objective: objectives.Objective
    evaluate: Callable[[Any], dict[str, float]]
    draw: Callable[[Any], UInt8[np.ndarray, "h w 3"]] | None = None
    loss_heads: tuple[str, ...] = ()


def make_phase(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Phase:
    """Returns the phase that `config.phase` names; renders its data when they are not there.

    Raises:
      ValueError: If there is no such phase.
    """
    makers = {"clip": _make_clip, "stage1": _make_stage1, "stage2": _make_stage2}
    if config.phase not in makers:
        raise ValueError(f"phase is {config.phase!r}; expected one of {', '.join(makers)}.")
    return makers[config.phase](config, workdir)


def _prepare_data(config: ml_collections.ConfigDict, workdir: pathlib.Path, part: str) -> Any:
    """Renders the part that a phase reads, unless it is there; returns the world's folder."""
    from uniovseg_jax.data.tfds.tinyscenes.builder import SIZES, TINY_SIZES

    sizes = {"full": SIZES, "tiny": TINY_SIZES}
    if config.data.sizes not in sizes:
        raise ValueError(f"data.sizes is {config.data.sizes!r}; expected full or tiny.")
    directory = pathlib.Path(config.data.directory or workdir / "data")
    return tinyscenes.prepare(directory, config.data.seed, (part,), sizes[config.data.sizes])


def _make_batches(source: Any, transform: Any, config: ml_collections.ConfigDict) -> Any:
    """Returns this process's share of the training batches."""
    share = (jax.process_index(), jax.process_count())
    return pipeline.make_batches(source, transform, config.batch_size, config.seed, share)


def _make_clip(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Phase:
    """Trains both towers on object-centric pictures with raw captions, contrast and words."""
    model_config = config_from_dict(config.model.to_dict())
    data_dir = _prepare_data(config, workdir, "web")
    train = tinyscenes.load_source(data_dir, "web", "train")
    val = tinyscenes.load_source(data_dir, "web", "val")
    variables, tokenizer = initial_variables(
        model_config, ("clip",), config.init, config.seed, trained="clip"
    )
    word_weight = config.loss.word_weight
    captions = _sample_captions(train) if tokenizer is None or word_weight else []
    if tokenizer is None:
        texts = captions + [template for group in TEMPLATES.values() for template in group]
        clip = model_config.clip
        tokenizer = train_tokenizer(texts, clip.vocab_size, clip.context_length)

    model = UniOVSeg(model_config)
    rarity, loss_heads = None, ()
    if word_weight:
        loss_heads = (objectives.WORD_HEAD,)
        variables["params"][objectives.WORD_HEAD] = _init_word_head(model_config, config.seed)
        rarity = _token_rarity(tokenizer(captions), model_config.clip.vocab_size)
    transform = pipeline.make_clip_transform(config.data, tokenizer, config.seed)
    return Phase(
        model_config=model_config,
        tokenizer=tokenizer,
        parts=("clip",),
        variables=variables,
        batches=_make_batches(train, transform, config),
        objective=objectives.make_clip_loss(model, config.loss.mosaic_share, word_weight, rarity),
        evaluate=_make_retrieval(model, tokenizer, val, config),
        loss_heads=loss_heads,
    )


def _sample_captions(source: Any) -> list[str]:
    spread = np.linspace(0, len(source) - 1, min(len(source), _SAMPLED_CAPTIONS), dtype=int)
    return [source[int(i)]["caption"] for i in spread]


def _init_word_head(config: UniOVSegConfig, seed: int) -> dict[str, jax.Array]:
    clip = config.clip
    # Embeddings have length 1: a kernel of unit variance gives logits of that size.
    key = jax.random.fold_in(jax.random.key(seed), 1)
    kernel = jax.random.normal(key, (clip.embed_dim, clip.vocab_size))
    return {"kernel": kernel, "bias": jnp.zeros(clip.vocab_size)}


def _token_rarity(tokens: Int[np.ndarray, "n t"], vocab_size: int) -> Float[Array, " w"]:
    """Inverse document frequency of every token in captions; 0 for padding, start and end."""
    seen = np.concatenate([np.unique(row) for row in tokens])
    rarity = np.log(len(tokens) / (1 + np.bincount(seen, minlength=vocab_size))).clip(0)
    rarity[[0, -2, -1]] = 0
    return jnp.asarray(rarity, jnp.float32)


def _make_retrieval(
    model: UniOVSeg, tokenizer: Tokenizer, source: Any, config: ml_collections.ConfigDict
) -> Callable[[Any], dict[str, float]]:
    """Returns the evaluation of image-to-text retrieval on a split of `web`."""
    count = min(len(source), config.evals.num_examples)
    records = [source[i] for i in range(count)]
    images = np.stack([np.asarray(record["image"]) for record in records])
    captions = [record["caption"] for record in records]
    tokens = tokenizer(captions)
    encode = jax.jit(lambda variables, *batch: model.apply(variables, *batch, method=_encode_pairs))

    def evaluate(variables: Any) -> dict[str, float]:
        features = []
        for start in range(0, count, config.batch_size):
            rows = slice(start, start + config.batch_size)
            features.append(jax.device_get(encode(variables, images[rows], tokens[rows])))
        image_features, text_features = (
            np.concatenate(part) for part in zip(*features, strict=True)
        )
        recall = evaluations.retrieval_recall(
            image_features, text_features, captions, config.evals.group_size
        )
        return {"retrieval": recall}

    return evaluate


def _encode_pairs(model: UniOVSeg, images: Any, tokens: Any) -> tuple[Any, Any]:
    return model.clip.encode_image(images), model.clip.encode_text(tokens)


def _make_stage1(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Phase:
    """Promptable masks from image-mask data; CLIP is frozen."""
    model_config = config_from_dict(config.model.to_dict())
    parts = ("clip", "masks")
    variables, tokenizer = initial_variables(
        model_config, parts, config.init, config.seed, trained="masks"
    )
    loss_config = losses.Stage1LossConfig(**config.loss)
    if not model_config.quality_head:
        loss_config = dataclasses.replace(loss_config, iou_weight=0.0)
    objective = objectives.make_stage1_loss(UniOVSeg(model_config), loss_config)

    data_dir = _prepare_data(config, workdir, "image_mask")
    size = model_config.image_size
    train = tinyscenes.load_source(data_dir, "image_mask", "train")
    val = tinyscenes.load_source(data_dir, "image_mask", "val")
    transform = pipeline.make_stage1_transform(config.data, size, config.seed)
    still = pipeline.make_stage1_transform(config.data, size, seed=0, augment=False)
    # The same few batches at every evaluation.
    held_out = iter(pipeline.make_batches(val, still, config.batch_size, seed=0))
    num_batches = max(1, min(len(val), config.evals.num_examples) // config.batch_size)
    return Phase(
        model_config=model_config,
        tokenizer=tokenizer,
        parts=parts,
        variables=variables,
        batches=_make_batches(train, transform, config),
        objective=objective,
        evaluate=evaluations.mean_metrics(
            objective, [next(held_out) for _ in range(num_batches)], prefix="val_"
        ),
    )


def _make_stage2(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Phase:
    """The adapter, from pairs of pooled regions and entities; everything else is frozen."""
    from uniovseg_jax.alignment import build, regions, store

    model_config = config_from_dict(config.model.to_dict())
    if model_config.adapter is None or model_config.adapter.mode != "pooled":
        raise ValueError(
            "stage2 trains from stored vectors; expected config.model.adapter.mode = 'pooled'."
        )
    parts = ("clip", "masks", "adapter")
    variables, tokenizer = initial_variables(
        model_config, parts, config.init, config.seed, trained="adapter"
    )
    model = UniOVSeg(model_config)
    if config.data.pairs:
        pairs = store.PairStore(config.data.pairs)
    else:
        data_dir = _prepare_data(config, workdir, "image_text")
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
        batches=_make_batches(
            rows[num_val:],
            lambda _, row: jax.tree.map(lambda column: column[row], table),
            config,
        ),
        objective=objective,
        evaluate=evaluations.mean_metrics(
            objective,
            [jax.tree.map(lambda column: column[rows[:num_val]], table)],
            prefix="val_",
        ),
    )
