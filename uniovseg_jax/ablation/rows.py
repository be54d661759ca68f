"""The pairs of every row of the ablation, all from regions that are found once."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from jaxtyping import Float

from uniovseg_jax.alignment.build import BuildOptions, build_pairs
from uniovseg_jax.alignment.captioned import CaptionedImages, CaptionedScenes, SeveralCaptions
from uniovseg_jax.alignment.derive import derive_pairs, with_caption, with_embeddings, with_scales
from uniovseg_jax.alignment.pairs import ImageRegions
from uniovseg_jax.alignment.regions import AlignmentConfig
from uniovseg_jax.alignment.store import PairStore
from uniovseg_jax.eval.oracle import Oracle, OracleImage, count_correct_pairs, join_oracle
from uniovseg_jax.weights.store import Pretrained

EmbedTexts = Callable[[Sequence[str]], Float[np.ndarray, "m e"]]
EmbedPooled = Callable[[dict[str, np.ndarray]], np.ndarray]

# More than of one caption: all captions of an image are matched from one extraction.
_MAX_ENTITIES = 48


class RowPairs:
    """Pairs by row, and how many of them are right.

    Args:
      base: The frozen model.
      source: The captioned scenes.
      oracle: Their true names.
      rows: Of the configuration, by name.
      folder: Where stores are kept.
      config: How masks are proposed and texts embedded.
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
        self._scales = base.config.align_scales
        kinds = sorted({(row.caption, row.parser) for row in rows.values()})
        self._captions = {kind: _open_captions(source, oracle, *kind) for kind in kinds}
        self._index = {self._first().caption(i).id: i for i in range(len(self._first()))}
        self.all = build_pairs(
            base,
            SeveralCaptions(list(self._captions.values())),
            config,
            folder / "all",
            {"captions": ["+".join(kind) for kind in kinds]},
            BuildOptions(vectors="all"),
        )
        self._joined = {image.image.image_id: image for image in join_oracle(self.all, oracle)}

    def of_row(self, name: str, row: ml_collections.ConfigDict) -> PairStore:
        """Returns the pairs that a row of the table is trained on."""
        places = [self._scales.index(scale) for scale in row.scales]
        captions = self._captions[row.caption, row.parser]

        def change(image: ImageRegions) -> ImageRegions:
            caption = captions.caption(self._index[image.image_id])
            return with_scales(with_caption(image, caption), places)

        settings = {
            "row": [row.caption, row.parser],
            "align_scales": list(row.scales),
        }
        return derive_pairs(
            self.all,
            self._folder / name,
            settings,
            change,
            self._embed,
            row.confident_share,
        )

    def rematched(
        self, name: str, row: ml_collections.ConfigDict, first: PairStore, embed: EmbedPooled
    ) -> PairStore:
        """Returns a row's pairs matched once more, with adapted embeddings.

        Args:
          name: Of the new store.
          row: Of the configuration.
          first: The pairs that the adapter was trained on.
          embed: Adapted embeddings of pooled vectors.
        """

        def change(image: ImageRegions) -> ImageRegions:
            return with_embeddings(image, embed, self._embed)

        settings = {"rematched": True, "align_scales": [self._scales[-1]]}
        return derive_pairs(
            first, self._folder / name, settings, change, self._embed, row.confident_share
        )

    def accuracy(self, store: PairStore) -> dict[str, float]:
        """Returns how many pairs are right, of all and of those trained on, in percent."""
        confident, done = store.confident(), 0
        right = np.zeros(2)
        for stored in store.images():
            known = self._joined[stored.regions.image_id]
            chosen = confident[done : done + len(stored.pairs)]
            done += len(stored.pairs)
            for kind, pairs in enumerate((stored.pairs, stored.pairs[chosen])):
                image = OracleImage(stored.regions, pairs, known.segments, known.iou)
                right[kind] += count_correct_pairs(image)[0]
        return {
            "all": 100 * float(right[0]) / max(len(confident), 1),
            "trained": 100 * float(right[1]) / max(int(confident.sum()), 1),
        }

    def _first(self) -> CaptionedImages:
        return next(iter(self._captions.values()))


def _open_captions(source: Any, oracle: Oracle, caption: str, parser: str) -> CaptionedImages:
    if parser == "rules":
        return CaptionedScenes(source, caption)
    if parser != "oracle":
        raise ValueError(f"A row's parser is {parser!r}; expected rules or oracle.")
    entities = {
        name: [entity["text"] for entity in scene["entities"][caption]]
        for name, scene in oracle.items()
    }
    return CaptionedScenes(source, caption, entities)
