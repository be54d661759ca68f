"""Random panoptic images with all that real ones have, and PQ written from its definition."""

import numpy as np

from uniovseg_jax.benchmarks.class_list import ClassInfo, ClassList
from uniovseg_jax.benchmarks.segment import Segment

# Ids of the data set with gaps; two kinds.
CLASSES = ClassList(
    "five",
    tuple(
        ClassInfo(number, f"class {number}", isthing=isthing)
        for number, isthing in ((1, True), (3, True), (90, True), (100, False), (200, False))
    ),
)


def random_image(rng):
    """Returns a predicted map, its segments, a true map, its segments."""
    height, width = rng.integers(4, 9, 2)
    blocks = rng.integers(0, rng.integers(2, 9), (height, width))
    places = np.kron(blocks, np.ones((2, 2), int))
    noise = rng.random(places.shape) < rng.choice([0.02, 0.2, 0.5])
    guessed = np.where(noise, rng.integers(0, 9, places.shape), places)
    if rng.random() < 0.05:
        guessed[:] = 0  # An empty prediction.
    true_ids = np.concatenate([[0], 1 + rng.choice(2**24 - 1, 9, replace=False)])
    guess_ids = np.concatenate([[0], 1 + rng.choice(2**24 - 1, 9, replace=False)])
    categories = rng.integers(0, len(CLASSES), 10)
    truths = []
    for place in range(1, 10):
        pixels = int((places == place).sum())
        # Some true segments have no pixel, some pixels no segment: neither is an error.
        if rng.random() < (0.9 if pixels else 0.1):
            changed = rng.random() < 0.3
            area = max(1, pixels + int(rng.integers(-2, 30))) if changed else pixels
            crowd = bool(rng.random() < 0.3)
            truths.append(Segment(int(true_ids[place]), int(categories[place]), area, crowd))
    guesses = [
        Segment(
            int(guess_ids[place]),
            int(categories[place] if rng.random() < 0.8 else rng.integers(len(CLASSES))),
        )
        for place in np.unique(guessed)
        if place
    ]
    # Stuff of one class is one segment.
    ids = guess_ids[guessed]
    for category in (3, 4):
        same = [guess for guess in guesses if guess.category == category]
        for guess in same[1:]:
            ids[ids == guess.id] = same[0].id
            guesses.remove(guess)
    rng.shuffle(truths)
    return ids.astype(np.int32), guesses, true_ids[places].astype(np.int32), truths


def quality_by_definition(images):
    """Returns PQ, SQ and RQ by class (NaN where it was not met), counting pixel sets."""
    count = len(CLASSES)
    iou_sum, tp, fp, fn = (np.zeros(count) for _ in range(4))
    for predicted, guesses, target, truths in images:
        void = target == 0
        partners = set()
        for truth in truths:
            if truth.iscrowd:
                continue
            found = False
            for guess in guesses:
                guessed = predicted == guess.id
                common = np.float64((guessed & (target == truth.id)).sum())
                if guess.category != truth.category or common == 0:
                    continue
                union = guessed.sum() + truth.area - common - (guessed & void).sum()
                if common / union > 0.5:
                    iou_sum[truth.category] += common / union
                    tp[truth.category] += 1
                    partners.add(guess.id)
                    found = True
            fn[truth.category] += not found
        for guess in guesses:
            guessed = predicted == guess.id
            free = void
            # panopticapi keeps one crowd per class, the last of the list.
            for crowd in [t for t in truths if t.iscrowd and t.category == guess.category][-1:]:
                free = free | (target == crowd.id)
            if guess.id not in partners and not (guessed & free).sum() / guessed.sum() > 0.5:
                fp[guess.category] += 1
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = tp + fp / 2 + fn / 2
        sq = np.where(tp > 0, iou_sum / tp, np.where(weight > 0, 0.0, np.nan))
        return {"pq": iou_sum / weight, "sq": sq, "rq": tp / weight}
