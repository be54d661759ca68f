"""Open-vocabulary segmentation: proposals and words to semantic, panoptic and instance results."""

import copy
import dataclasses
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.special import softmax

from uniovseg_jax.device_copies import DeviceCopies
from uniovseg_jax.inference.framing import Framing, Letterbox
from uniovseg_jax.inference.full_size import FullSizeLogits
from uniovseg_jax.inference.merge import whole_masks
from uniovseg_jax.inference.region_encoder import RegionEncoder
from uniovseg_jax.inference.results import (
    TASKS,
    NamedMasks,
    Segmentation,
    SemanticRules,
    Task,
    instance_result,
    panoptic_result,
    semantic_result,
)
from uniovseg_jax.models.uniovseg import UniOVSeg
from uniovseg_jax.proposals import ProposalConfig, make_proposer
from uniovseg_jax.text_encoder import TextEncoder, class_cosines
from uniovseg_jax.vocabulary import Vocabulary, parse_vocabulary
from uniovseg_jax.weights.store import Pretrained


@dataclasses.dataclass(frozen=True)
class SegmenterConfig:
    """How proposals become results; the defaults are those of the released Uni-OVSeg code.

    Attributes:
      proposals: Point grid, quality filter and suppression.
      framing: How images get into the network; None for a letterbox of the model's own size.
      object_threshold: Least predicted quality of a mask in panoptic results.
      overlap_threshold: Least share of its pixels that a mask must own in panoptic results.
      max_instances: Pairs of mask and class in instance results.
      templates: Prompts around a name, a key of `prompt_templates.TEMPLATES`.
      min_class_prob: Least probability of a mask's best class.
      semantic: How masks are merged to semantic results.
      contained: Share of a mask inside a larger one of the same class from which it is dropped as
        its part; None keeps parts.
      scales: Factors of the input's size at which regions are looked at; their cosines are
        averaged. Masks come from the input itself.
      flip: Whether each of them is looked at mirrored as well.
    """

    proposals: ProposalConfig = ProposalConfig()
    framing: Framing | None = None
    object_threshold: float = 0.7
    overlap_threshold: float = 0.4
    max_instances: int = 100
    templates: str = "vild14"
    min_class_prob: float = 0.0
    semantic: SemanticRules = SemanticRules()
    contained: float | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False


@dataclasses.dataclass(frozen=True)
class ImageProposals:
    """All that results need to know of an image; made once, used with any number of vocabularies.

    Attributes:
      masks: The proposals' logits.
      scores: Predicted quality of every mask, 0..1.
      embeddings: Unit vectors of the regions, or the mean of those of several views; zeros for
        masks too small to be seen, whose classes are then all alike.
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
        self._copies = DeviceCopies(pretrained.variables)
        self._text_encoder = TextEncoder(pretrained, self.config.templates, text_cache)
        self._proposer = make_proposer(pretrained.model, self.config.proposals)
        self._frame = self.config.framing or Letterbox(pretrained.config.image_size)
        self._embed = RegionEncoder(pretrained, self.config.scales, self.config.flip)
        scale = pretrained.model.apply(pretrained.variables, method=UniOVSeg.logit_scale)
        self._logit_scale = np.asarray(scale).item()
        self._vocabulary: Vocabulary | None = None

    def on_device(self, device: Any) -> "OpenVocabularySegmenter":
        """Returns a segmenter with the same vocabulary that works on another device.

        All of one device share its copy of the weights.
        """
        other = copy.copy(self)
        other._pretrained = dataclasses.replace(self._pretrained, variables=self._copies(device))
        return other

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

    def use_vocabulary(
        self, vocabulary: Vocabulary, min_cosine: float | None = None, progress: bool = False
    ) -> None:
        """Chooses the words, as `set_vocabulary`, where they were parsed already."""
        self._name_vectors = self._text_encoder.embed(vocabulary.names, progress)
        self._min_cosine = min_cosine
        self._vocabulary = vocabulary

    def segment(self, image: UInt8[np.ndarray, "h w 3"], task: Task = "panoptic") -> Segmentation:
        """Segments an RGB image of any size.

        Raises:
          ValueError: If there is no vocabulary, no such task, or the image is not uint8 RGB.
        """
        _ = self.vocabulary  # Before the long part.
        return self.segment_proposals(self.propose(image), task)

    def propose(self, image: UInt8[np.ndarray, "h w 3"]) -> ImageProposals:
        """Finds masks and their embeddings; needs no vocabulary."""
        source = self._frame(image)
        pixels, variables = source.pixels[None], self._pretrained.variables
        features = self._proposer.encode(variables, pixels)
        grid = source.grid(self._proposer.points_per_side)[None]
        (found,) = self._proposer.propose_at(variables, features, grid)
        embeddings = self._embed(variables, pixels, features, found.mask_logits)
        return ImageProposals(source.full_size(found.mask_logits), found.ious, embeddings)

    def embed_masks(
        self, image: UInt8[np.ndarray, "h w 3"], masks: Bool[np.ndarray, "n h w"]
    ) -> ImageProposals:
        """Takes given masks of the image's size, such as true ones, in place of proposals."""
        source = self._frame(image)
        pixels = source.pixels[None]
        features = self._proposer.encode(self._pretrained.variables, pixels)
        logits = np.where(masks, np.float32(10), np.float32(-10))
        inside = FullSizeLogits(logits, source.image_hw, source.image_hw, source.content_hw)
        padded = np.full((len(masks), *source.pixels.shape[:2]), -10, np.float32)
        height, width = source.content_hw
        for index in range(len(masks)):
            padded[index, :height, :width] = inside.mask(index)
        scores = np.ones(len(masks), np.float32)
        embeddings = self._embed(self._pretrained.variables, pixels, features, padded)
        return ImageProposals(FullSizeLogits.at_own_size(logits), scores, embeddings)

    def segment_proposals(self, proposals: ImageProposals, task: Task) -> Segmentation:
        """Names and merges proposals by the vocabulary; cheap compared with `propose`."""
        if task not in TASKS:
            raise ValueError(f"Unknown task {task!r}; expected one of {', '.join(TASKS)}.")
        named = self.name(proposals, task)
        if task == "semantic":
            return semantic_result(named, self.config.semantic)
        if task == "instance":
            return instance_result(named, self.config.max_instances)
        return panoptic_result(named, self.config.overlap_threshold)

    def name(self, proposals: ImageProposals, task: Task) -> NamedMasks:
        """Gives proposals their class probabilities and drops those that the task does not use."""
        vocabulary, config = self.vocabulary, self.config
        cosines = class_cosines(proposals.embeddings, self._name_vectors, vocabulary.name_to_class)
        probs = softmax(self._logit_scale * cosines, axis=1)
        keep = probs.max(axis=1, initial=0.0) >= config.min_class_prob
        if self._min_cosine is not None:
            keep &= cosines.max(axis=1, initial=-1.0) >= self._min_cosine
        if task == "panoptic":
            keep &= proposals.scores >= config.object_threshold
        kept = np.flatnonzero(keep)
        if config.contained is not None and kept.size:
            packed = proposals.masks.select(kept).packed()
            labels = probs[kept].argmax(axis=1)
            kept = kept[whole_masks(packed, labels, config.contained)]
        masks, probs, scores = proposals.masks.select(kept), probs[kept], proposals.scores[kept]
        return NamedMasks(vocabulary, masks, probs, scores)

    @property
    def vocabulary(self) -> Vocabulary:
        """The words; a ValueError if they were not chosen yet."""
        if self._vocabulary is None:
            raise ValueError("There is no vocabulary yet: call set_vocabulary first.")
        return self._vocabulary
