"""Open-vocabulary segmentation: proposals and words to semantic, panoptic and instance results."""

import dataclasses
import os
from collections.abc import Callable, Iterable

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8
from scipy.special import softmax

from uniovseg_jax.inference.full_size import FullSizeLogits, NetworkInput
from uniovseg_jax.inference.results import (
    TASKS,
    NamedMasks,
    Segmentation,
    Task,
    instance_result,
    panoptic_result,
    semantic_result,
)
from uniovseg_jax.models.uniovseg import ImageFeatures, UniOVSeg
from uniovseg_jax.proposals import ProposalConfig, make_proposer, pad_masks
from uniovseg_jax.text_encoder import TextEncoder, class_cosines
from uniovseg_jax.vocabulary import Vocabulary, parse_vocabulary
from uniovseg_jax.weights.store import Pretrained


@dataclasses.dataclass(frozen=True)
class SegmenterConfig:
    """How proposals become results; the defaults are those of the released Uni-OVSeg code.

    Attributes:
      proposals: Point grid, quality filter and suppression.
      object_threshold: Least predicted quality of a mask in panoptic results.
      overlap_threshold: Least share of its pixels that a mask must own in panoptic results.
      max_instances: Pairs of mask and class in instance results.
      templates: Prompts around a name, a key of `prompt_templates.TEMPLATES`.
    """

    proposals: ProposalConfig = ProposalConfig()
    object_threshold: float = 0.7
    overlap_threshold: float = 0.4
    max_instances: int = 100
    templates: str = "vild14"


@dataclasses.dataclass(frozen=True)
class ImageProposals:
    """All that results need to know of an image; made once, used with any number of vocabularies.

    Attributes:
      masks: The proposals' logits.
      scores: Predicted quality of every mask, 0..1.
      embeddings: Unit vectors of the regions.
    """

    masks: FullSizeLogits
    scores: Float[np.ndarray, " n"]
    embeddings: Float[np.ndarray, "n e"]


class OpenVocabularySegmenter:
    """Segments images with the words of a vocabulary.

    Example:
      segmenter = OpenVocabularySegmenter(load_pretrained("model"))
      segmenter.set_vocabulary(["grass", "red ball|red sphere"], stuff=["grass"])
      result = segmenter.segment(image, task="panoptic")

    Args:
      pretrained: A model with the parts `clip` and `masks`; where it has an adapter, that is used.
      config: Thresholds and templates.
      text_cache: Folder in which embeddings of names are kept for later runs; None keeps none.
    """

    def __init__(
        self,
        pretrained: Pretrained,
        config: SegmenterConfig | None = None,
        text_cache: str | os.PathLike[str] | None = None,
    ):
        if not {"clip", "masks"} <= set(pretrained.parts):
            raise ValueError(
                "Segmenting with words needs a model with the parts clip and masks; "
                f"this one has {', '.join(pretrained.parts)}."
            )
        self.config = config or SegmenterConfig()
        self._pretrained = pretrained
        self._text_encoder = TextEncoder(pretrained, self.config.templates, text_cache)
        self._proposer = make_proposer(pretrained.model, self.config.proposals)
        self._embed = _make_region_encoder(pretrained)
        scale = pretrained.model.apply(pretrained.variables, method=UniOVSeg.logit_scale)
        self._logit_scale = np.asarray(scale).item()
        self._vocabulary: Vocabulary | None = None

    def set_vocabulary(
        self,
        names: str | Iterable[str],
        stuff: str | Iterable[str] = (),
        background: str | Iterable[str] = (),
        min_cosine: float | None = None,
    ) -> None:
        """Chooses the words.

        Args:
          names: Categories; synonyms are joined by `|`, the first one is the label.
          stuff: Those of the names that are stuff; all others are things.
          background: More names that compete with the others; what they win is void.
          min_cosine: Regions whose best cosine is lower are void.

        Raises:
          ValueError: As `parse_vocabulary` and `TextEncoder.embed`.
        """
        self.use_vocabulary(parse_vocabulary(names, stuff, background), min_cosine)

    def use_vocabulary(self, vocabulary: Vocabulary, min_cosine: float | None = None) -> None:
        """Chooses the words, as `set_vocabulary`, where they were parsed already."""
        self._name_vectors = self._text_encoder.embed(vocabulary.names)
        self._min_cosine = min_cosine
        self._vocabulary = vocabulary

    def segment(self, image: UInt8[np.ndarray, "h w 3"], task: Task = "panoptic") -> Segmentation:
        """Segments an RGB image of any size.

        Raises:
          ValueError: If there is no vocabulary, no such task, or the image is not uint8 RGB.
        """
        self._require_vocabulary()
        return self.segment_proposals(self.propose(image), task)

    def propose(self, image: UInt8[np.ndarray, "h w 3"]) -> ImageProposals:
        """Finds masks and their embeddings; needs no vocabulary."""
        source = NetworkInput.from_image(image, self._pretrained.config.image_size)
        features = self._proposer.encode(self._pretrained.variables, source.pixels[None])
        (found,) = self._proposer.propose_from(
            self._pretrained.variables, features, [source.image_wh]
        )
        embeddings = self._embed(features, found.mask_logits)
        return ImageProposals(source.full_size(found.mask_logits), found.ious, embeddings)

    def embed_masks(
        self, image: UInt8[np.ndarray, "h w 3"], masks: Bool[np.ndarray, "n h w"]
    ) -> ImageProposals:
        """Takes given masks of the image's size, such as true ones, in place of proposals."""
        source = NetworkInput.from_image(image, self._pretrained.config.image_size)
        features = self._proposer.encode(self._pretrained.variables, source.pixels[None])
        logits = np.where(masks, np.float32(10), np.float32(-10))
        inside = FullSizeLogits(logits, source.image_hw, source.image_hw, source.content_hw)
        padded = np.full((len(masks), *source.pixels.shape[:2]), -10, np.float32)
        height, width = source.content_hw
        for index in range(len(masks)):
            padded[index, :height, :width] = inside.mask(index)
        scores = np.ones(len(masks), np.float32)
        embeddings = self._embed(features, padded)
        return ImageProposals(FullSizeLogits.at_own_size(logits), scores, embeddings)

    def segment_proposals(self, proposals: ImageProposals, task: Task) -> Segmentation:
        """Names and merges proposals by the vocabulary; cheap compared with `propose`."""
        vocabulary = self._require_vocabulary()
        if task not in TASKS:
            raise ValueError(f"Unknown task {task!r}; expected one of {', '.join(TASKS)}.")
        cosines = class_cosines(proposals.embeddings, self._name_vectors, vocabulary.name_to_class)
        probs = softmax(self._logit_scale * cosines, axis=1)
        keep = np.ones(len(probs), bool)
        if self._min_cosine is not None:
            keep &= cosines.max(axis=1) >= self._min_cosine
        if task == "panoptic":
            keep &= proposals.scores >= self.config.object_threshold
        kept = np.flatnonzero(keep)
        masks, probs, scores = proposals.masks.select(kept), probs[kept], proposals.scores[kept]
        named = NamedMasks(vocabulary, masks, probs, scores)
        if task == "semantic":
            return semantic_result(named)
        if task == "instance":
            return instance_result(named, self.config.max_instances)
        return panoptic_result(named, self.config.overlap_threshold)

    def _require_vocabulary(self) -> Vocabulary:
        if self._vocabulary is None:
            raise ValueError("There is no vocabulary yet: call set_vocabulary first.")
        return self._vocabulary


def _make_region_encoder(pretrained: Pretrained) -> Callable[..., Float[np.ndarray, "n e"]]:
    """Returns `(features of one image, mask logits "n h w") -> unit vectors "n e"`."""
    adapt = "adapter" in pretrained.parts

    def encode(
        module: UniOVSeg, features: ImageFeatures, mask_logits: Float[Array, "n h w"]
    ) -> Float[Array, "n e"]:
        return module.embed_regions(features, mask_logits[None], adapt)[0]

    compiled = jax.jit(lambda *inputs: pretrained.model.apply(*inputs, method=encode))

    def embed(
        features: ImageFeatures, mask_logits: Float[np.ndarray, "n h w"]
    ) -> Float[np.ndarray, "n e"]:
        padded = pad_masks([mask_logits])[0]
        return np.asarray(compiled(pretrained.variables, features, padded))[: len(mask_logits)]

    return embed
