"""Scores of the tinyscenes experiment on a split of the `panoptic` part.

Proposals and pooled features of an image do not depend on the adapter. They are computed once, and
each row of the table (baseline, unpaired, paired) only embeds the pooled vectors in its own way.
"""

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax

from uniovseg_jax.benchmarks.segment import Segment
from uniovseg_jax.buckets import SMALLEST_BUCKET, bucket_size
from uniovseg_jax.data.tfds.tinyscenes import COLOURS, JOINT_NAMES, NOUNS, STUFF, THINGS, noun_id
from uniovseg_jax.eval.metrics.panoptic import PanopticScores
from uniovseg_jax.eval.metrics.semantic import SemanticScores
from uniovseg_jax.eval.scenes.images import Pooled, PreparedImage
from uniovseg_jax.inference.merge import panoptic_map, semantic_map
from uniovseg_jax.inference.segmenter import SegmenterConfig
from uniovseg_jax.models.uniovseg import UniOVSeg
from uniovseg_jax.text_encoder import TextEncoder, class_cosines
from uniovseg_jax.vocabulary import Category, Vocabulary
from uniovseg_jax.weights.store import Pretrained

# A gap between baseline and ceiling under this many points says nothing about its closing.
MIN_GAP = 5.0

_NUM_COMBINATIONS = len(THINGS) * len(COLOURS)
NOUN_VOCABULARY = Vocabulary(
    tuple(
        Category((noun, *(f"{colour} {noun}" for colour in COLOURS)))
        if noun in THINGS
        else Category((noun,), is_thing=False)
        for noun in NOUNS
    )
)
JOINT_VOCABULARY = Vocabulary(
    tuple(Category((name,), is_thing=name not in STUFF) for name in JOINT_NAMES)
)
_NOUN_OF = np.array([noun_id(joint) for joint in range(len(JOINT_NAMES))])
_NOUN_IS_THING = np.array([noun in THINGS for noun in NOUNS])

EmbedPooled = Callable[[Pooled], Float[np.ndarray, "n e"]]


@dataclasses.dataclass(frozen=True)
class RowScores:
    """Scores of one row of the table, in percent.

    Attributes:
      predicted: With proposals as masks.
      true: With the true masks in their place.
      image_accuracy: Share (0..1) of each image's pixels that the joint vocabulary names right.
    """

    predicted: dict[str, float]
    true: dict[str, float]
    image_accuracy: tuple[float, ...]


class RowScorer:
    """Scores rows of the table on prepared images.

    Args:
      pretrained: The model whose text tower names things.
      config: Thresholds and templates.
      unseen: Names of the combinations that the split holds and no training part does.
    """

    def __init__(self, pretrained: Pretrained, config: SegmenterConfig, unseen: Iterable[str]):
        encoder = TextEncoder(pretrained, config.templates)
        self._config = config
        self._vectors = {
            vocabulary: encoder.embed(vocabulary.names)
            for vocabulary in (NOUN_VOCABULARY, JOINT_VOCABULARY)
        }
        scale = pretrained.model.apply(pretrained.variables, method=UniOVSeg.logit_scale)
        self._scale = float(np.asarray(scale))
        self._unseen = np.array([name in set(unseen) for name in JOINT_NAMES])

    def score(self, images: Sequence[PreparedImage], embed: EmbedPooled) -> "RowScores":
        """Scores one row."""
        predicted, true = _RowCounts(), _RowCounts()
        accuracies = []
        # Two threads: most of the time is spent in numpy, which lets go of the interpreter.
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for counts in pool.map(lambda image: self._score_image(image, embed), images):
                predicted.merge(counts[0])
                true.merge(counts[1])
                accuracies.append(counts[0].joint.compute()["pixel_accuracy"])
        return RowScores(
            predicted.compute(self._unseen), true.compute(self._unseen), tuple(accuracies)
        )

    def text_vectors(self, vocabulary: Vocabulary) -> Float[np.ndarray, "m e"]:
        """Returns the embeddings of `vocabulary.names`, of one of the two vocabularies."""
        return self._vectors[vocabulary]

    def class_probs(
        self, embeddings: Float[np.ndarray, "n e"], vocabulary: Vocabulary
    ) -> Float[np.ndarray, "n t"]:
        """Returns the class probabilities of regions."""
        cosines = class_cosines(embeddings, self._vectors[vocabulary], vocabulary.name_to_class)
        return softmax(self._scale * cosines, axis=1)

    def _score_image(
        self, image: PreparedImage, embed: EmbedPooled
    ) -> tuple["_RowCounts", "_RowCounts"]:
        predicted, true = _RowCounts(), _RowCounts()
        embeddings = embed(image.pooled)
        nouns = self.class_probs(embeddings, NOUN_VOCABULARY)
        joint = self.class_probs(embeddings, JOINT_VOCABULARY)
        kept = np.flatnonzero(image.scores >= self._config.object_threshold)
        ids, segments = panoptic_map(
            nouns[kept].argmax(axis=1),
            nouns[kept].max(axis=1) * image.scores[kept],
            _NOUN_IS_THING,
            image.masks.select(kept),
            self._config.overlap_threshold,
        )
        predicted.add(
            image,
            semantic_map(nouns, image.masks),
            semantic_map(joint, image.masks),
            ids,
            [Segment(segment.id, segment.category) for segment in segments],
        )

        embeddings = embed(image.true_pooled)
        noun_labels = self.class_probs(embeddings, NOUN_VOCABULARY).argmax(axis=1)
        joint_labels = self.class_probs(embeddings, JOINT_VOCABULARY).argmax(axis=1)
        true.add(
            image,
            _paint(image, noun_labels),
            _paint(image, joint_labels),
            *_merge_true_masks(image, noun_labels),
        )
        return predicted, true


class _RowCounts:
    """Everything counted for one row and one kind of masks."""

    def __init__(self) -> None:
        self.nouns = SemanticScores(len(NOUNS))
        self.joint = SemanticScores(len(JOINT_NAMES))
        self.panoptic = PanopticScores(_NOUN_IS_THING)
        # True thing segments by the label that most of their pixels got.
        self.things = {"right": 0, "wrong_colour": 0, "wrong_noun": 0, "both_wrong": 0}

    def add(
        self,
        image: PreparedImage,
        nouns: Int[np.ndarray, "h w"],
        joint: Int[np.ndarray, "h w"],
        ids: Int[np.ndarray, "h w"],
        segments: Sequence[Segment],
    ) -> None:
        labels = np.array([segment.category for segment in image.segments])
        self.nouns.add(nouns, _paint(image, _NOUN_OF[labels]))
        self.joint.add(joint, _paint(image, labels))
        truth = [dataclasses.replace(s, category=int(_NOUN_OF[s.category])) for s in image.segments]
        self.panoptic.add(ids, segments, image.ids, truth)
        for segment in image.segments:
            if segment.category < _NUM_COMBINATIONS:
                got = np.bincount(joint[image.ids == segment.id] + 1).argmax() - 1
                self.things[compare_names(segment.category, int(got))] += 1

    def merge(self, other: "_RowCounts") -> None:
        self.nouns.merge(other.nouns)
        self.joint.merge(other.joint)
        self.panoptic.merge(other.panoptic)
        for key, count in other.things.items():
            self.things[key] += count

    def compute(self, unseen: np.ndarray) -> dict[str, float]:
        nouns, panoptic = self.nouns.compute(), self.panoptic.compute()
        iou = self.joint.compute()["iou"]
        combinations = np.arange(len(JOINT_NAMES)) < _NUM_COMBINATIONS
        total = max(1, sum(self.things.values()))
        fractions = {
            "miou": nouns["miou"],
            "miou_things": _mean(nouns["iou"][_NOUN_IS_THING]),
            "pq": panoptic["all"]["pq"],
            "pq_things": panoptic["things"]["pq"],
            "pq_stuff": panoptic["stuff"]["pq"],
            "miou_seen": _mean(iou[combinations & ~unseen]),
            "miou_unseen": _mean(iou[unseen]),
            "miou_stuff": _mean(iou[~combinations]),
            "right_noun_right_colour": self.things["right"] / total,
            "right_noun_wrong_colour": self.things["wrong_colour"] / total,
            "right_colour_wrong_noun": self.things["wrong_noun"] / total,
            "both_wrong": self.things["both_wrong"] / total,
        }
        return {name: 100.0 * float(value) for name, value in fractions.items()}


def compare_names(true: int, got: int) -> str:
    """Compares a true combination with the label it got, indices of `JOINT_NAMES` or -1 (void)."""
    if got == true:
        return "right"
    if not 0 <= got < _NUM_COMBINATIONS:
        return "both_wrong"
    if got // len(COLOURS) == true // len(COLOURS):
        return "wrong_colour"
    return "wrong_noun" if got % len(COLOURS) == true % len(COLOURS) else "both_wrong"


def gap_closed(baseline: float, unpaired: float, paired: float) -> float | None:
    """Returns how much of the way from baseline to ceiling was made, in percent.

    None, that is meaningless, where the ceiling is under `MIN_GAP` points above the baseline.
    """
    gap = paired - baseline
    return 100.0 * (unpaired - baseline) / gap if gap >= MIN_GAP else None


def make_embed(pretrained: Pretrained, adapt: bool) -> EmbedPooled:
    """Returns the embedding of pooled vectors of any number, compiled for few sizes."""
    compiled = jax.jit(
        lambda variables, pooled: pretrained.model.apply(
            variables, pooled, adapt, method=UniOVSeg.embed_pooled
        )
    )

    def embed(pooled: Pooled) -> Float[np.ndarray, "n e"]:
        count = len(pooled["clip"])
        size = bucket_size(count, SMALLEST_BUCKET)
        padded = {k: np.pad(v, ((0, size - count), (0, 0))) for k, v in pooled.items()}
        return np.asarray(compiled(pretrained.variables, padded))[:count]

    return embed


def _paint(image: PreparedImage, labels: Int[np.ndarray, " m"]) -> Int[np.ndarray, "h w"]:
    """Returns the map that gives each true segment its label; -1 is void."""
    table = np.full(int(image.ids.max()) + 1, -1)
    table[[segment.id for segment in image.segments]] = labels
    return table[image.ids]


def _merge_true_masks(
    image: PreparedImage, labels: Int[np.ndarray, " m"]
) -> tuple[Int[np.ndarray, "h w"], list[Segment]]:
    """Returns true segments under their predicted nouns, those of one kind of stuff merged."""
    new_ids, segments, stuff = [], [], {}
    for label in labels.tolist():
        new_id = stuff.get(label)
        if new_id is None:
            new_id = len(segments) + 1
            segments.append(Segment(new_id, label))
            if not _NOUN_IS_THING[label]:
                stuff[label] = new_id
        new_ids.append(new_id)
    return _paint(image, np.array(new_ids)).clip(0), segments


def _mean(values: np.ndarray) -> float:
    """Mean over the classes that occur; NaN where none does."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
