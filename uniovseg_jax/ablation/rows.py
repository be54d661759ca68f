"""The pairs of every row of the ablation, all from regions that are found once."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections
import numpy as np

from uniovseg_jax.alignment.build import BuildOptions, build_pairs
from uniovseg_jax.alignment.captioned import CaptionedImages, CaptionedScenes, SeveralCaptions
from uniovseg_jax.alignment.derive import (
    derive_pairs,
    with_caption,
    with_embeddings,
    with_scales,
)
from uniovseg_jax.alignment.pairs import ImageRegions
from uniovseg_jax.alignment.regions import AlignmentConfig
from uniovseg_jax.alignment.store import PairStore
from uniovseg_jax.captions.record import CaptionRecord
from uniovseg_jax.eval.oracle import Oracle, OracleImage, count_correct_pairs, join_oracle
from uniovseg_jax.text_encoder import EmbedTexts
from uniovseg_jax.weights.store import Pretrained

EmbedPooled = Callable[[dict[str, np.ndarray]], np.ndarray]


class RowPairs:
    """Pairs by row, and how many of them are right.

    Args:
      base: The frozen model.
      source: The captioned scenes.
      oracle: Their true names.
      rows: Of the configuration, by name.
      folder: Where stores are kept.
      config: How masks are proposed and texts embedded; `max_entities` must do for all captions
        of an image at once.
      embed: Unit embeddings of texts.
    """

    def __init__(
        self,
        base: Pretrained,
        source: Any,
        oracle: Oracle,
        rows: Mapping[str, ml_collections.ConfigDict],
        folder: pathlib.Path,
        config: AlignmentConfig,
        embed: EmbedTexts,
    ):
        self._folder, self._embed, self._config = folder, embed, config
        self._scales, self._own_scale = base.config.align_scales, base.config.image_size
        kinds = sorted({(row.caption, row.parser) for row in rows.values()})
        sources = {kind: _open_captions(source, oracle, *kind) for kind in kinds}
        self._captions: dict[tuple[str, str], dict[str, CaptionRecord]] = {}
        for kind, images in sources.items():
            captions = (images[index].caption for index in range(len(images)))
            self._captions[kind] = {caption.id: caption for caption in captions}
        self.all = build_pairs(
            base,
            SeveralCaptions(list(sources.values())),
            config,
            folder / "all",
            {"captions": ["+".join(kind) for kind in kinds]},
            BuildOptions(keep="all"),
        )
        self._truth = {
            joined.image.image_id: (joined.segments, joined.iou)
            for joined in join_oracle(self.all, oracle)
        }

    def of_row(self, name: str, row: ml_collections.ConfigDict) -> PairStore:
        """Returns the pairs that a row of the table is trained on."""
        places = [self._scales.index(scale) for scale in row.scales]
        captions = self._captions[row.caption, row.parser]

        def change(image: ImageRegions) -> ImageRegions:
            return with_scales(with_caption(image, captions[image.image_id]), places)

        return derive_pairs(
            self.all,
            self._folder / name,
            {"caption": row.caption, "parser": row.parser},
            change,
            row.scales,
            self._embed,
            row.confident_share,
        )

    def rematched(
        self,
        name: str,
        row: ml_collections.ConfigDict,
        first: PairStore,
        embed: EmbedPooled,
        adapter: str,
    ) -> PairStore:
        """Returns a row's pairs matched once more, with adapted embeddings.

        Args:
          name: Of the new store.
          row: Of the configuration.
          first: The pairs that the adapter was trained on.
          embed: Adapted embeddings of pooled vectors.
          adapter: Digest of its parameters.
        """

        def change(image: ImageRegions) -> ImageRegions:
            return with_embeddings(image, embed, self._embed)

        return derive_pairs(
            first,
            self._folder / name,
            {"adapter_sha256": adapter},
            change,
            [self._own_scale],
            self._embed,
            row.confident_share,
        )

    def accuracy(self, store: PairStore) -> dict[str, float]:
        """Returns how many pairs are right, of all and of those trained on, in percent."""
        confident, done = store.confident(), 0
        right = np.zeros(2)
        for stored in store.images():
            segments, iou = self._truth[stored.regions.image_id]
            chosen = confident[done : done + len(stored.pairs)]
            done += len(stored.pairs)
            for kind, pairs in enumerate((stored.pairs, stored.pairs[chosen])):
                image = OracleImage(stored.regions, pairs, segments, iou)
                right[kind] += count_correct_pairs(image)[0]
        return {
            "all": 100 * float(right[0]) / max(len(confident), 1),
            "trained": 100 * float(right[1]) / max(int(confident.sum()), 1),
        }


def _open_captions(source: Any, oracle: Oracle, caption: str, parser: str) -> CaptionedImages:
    if parser == "rules":
        return CaptionedScenes(source, caption)
    if parser != "oracle":
        raise ValueError(f"A row's parser is {parser!r}; expected rules or oracle.")
    entities = {
        name: [entity["text"] for entity in scene["entities"][caption]]
        for name, scene in oracle.items()
    }
    return CaptionedScenes(source, caption, entities, parser)
