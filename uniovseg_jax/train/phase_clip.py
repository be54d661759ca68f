"""Phase `clip`: both towers, from pictures with captions."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from uniovseg_jax.alignment import captioned
from uniovseg_jax.captions.caption_records import open_caption_records
from uniovseg_jax.data import pipeline
from uniovseg_jax.data.tfds import tinyscenes
from uniovseg_jax.models.presets import UniOVSegConfig
from uniovseg_jax.models.tokenizer import Tokenizer, train_tokenizer
from uniovseg_jax.models.uniovseg import UniOVSeg
from uniovseg_jax.prompt_templates import TEMPLATES
from uniovseg_jax.proposals import letterbox
from uniovseg_jax.train import evaluations, objectives, sharding
from uniovseg_jax.train.initialise import initial_variables
from uniovseg_jax.train.phase import Phase, make_batches, make_model, prepare_tinyscenes

# Captions that tell a new CLIP's words and how rare they are; more change little.
_SAMPLED_CAPTIONS = 4000


def make_clip(config: ml_collections.ConfigDict, workdir: pathlib.Path, mesh: Mesh) -> Phase:
    """Trains both towers on pictures with captions, by contrast and by words."""
    model = make_model(config)
    model_config = model.config
    train, val = _open_sources(config, workdir)
    variables, tokenizer = initial_variables(
        model_config, ("clip",), config.init, config.seed, trained="clip"
    )
    word_weight = config.loss.word_weight
    captions = _sample_captions(train) if tokenizer is None or word_weight else []
    if tokenizer is None:
        texts = [*captions, *TEMPLATES["single"], *TEMPLATES["vild14"]]
        clip = model_config.clip
        tokenizer = train_tokenizer(texts, clip.vocab_size, clip.context_length)

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
        batches=make_batches(train, transform, config, config.seed),
        objective=objectives.make_clip_loss(model, config.loss.mosaic_share, word_weight, rarity),
        evaluate=_make_retrieval(model, tokenizer, val, config, mesh),
        loss_heads=loss_heads,
    )


def _open_sources(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> tuple[Any, Any]:
    """Returns the pictures to train on and those to evaluate on.

    Raises:
      FileNotFoundError: If a folder of captions is not there or not finished.
      ValueError: If the configuration names none, or it is damaged.
    """
    data = config.data
    if data.name == "tinyscenes":
        folder = prepare_tinyscenes(config, workdir, "web")
        load = functools.partial(tinyscenes.load_source, folder, "web")
        return load("train"), load("val")
    if data.name != "captions":
        raise ValueError(f"data.name is {data.name!r}; expected tinyscenes or captions.")
    sources = []
    for name in ("train", "val"):
        if not data[name]:
            raise ValueError(
                f"data.{name} is empty; expected a folder made by scripts/prepare_captions.py."
            )
        records = open_caption_records(data[name])
        if data.verify:
            records.verify(jax.process_index(), jax.process_count())
        sources.append(_SquarePictures(captioned.CaptionedFolder(records), data.side))
    return sources[0], sources[1]


class _SquarePictures:
    """Pictures with captions as the phase reads them: letterboxed to one side."""

    def __init__(self, images: captioned.CaptionedImages, side: int):
        self._images, self._side = images, side

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        caption, decode = self._images[int(index)]
        pixels, _ = letterbox(decode(), self._side)
        return {"id": caption.id, "image": pixels, "caption": caption.caption or ""}


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
    model: UniOVSeg,
    tokenizer: Tokenizer,
    source: Any,
    config: ml_collections.ConfigDict,
    mesh: Mesh,
) -> Callable[[Any], dict[str, float]]:
    """Returns the evaluation of image-to-text retrieval on a split of `web`."""
    count = min(len(source), config.evals.num_examples)
    records = [source[i] for i in range(count)]
    images = np.stack([np.asarray(record["image"]) for record in records])
    captions = [record["caption"] for record in records]
    tokens = tokenizer(captions)
    encode = jax.jit(
        lambda variables, *batch: model.apply(variables, *batch, method=_encode_pairs),
        out_shardings=sharding.replicated(mesh),
    )

    def evaluate(variables: Any) -> dict[str, float]:
        features = []
        for start in range(0, count, config.batch_size):
            rows = slice(start, start + config.batch_size)
            features.append(sharding.to_host(encode(variables, images[rows], tokens[rows])))
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
