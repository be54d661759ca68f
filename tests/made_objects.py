"""Random objects and what a model may make of them, as COCO files."""

import numpy as np

from uniovseg_jax.masks import rle_encode

HW = (104, 112)
CATEGORIES = [{"id": number, "name": f"class {number}"} for number in (3, 7, 20)]


def random_mask(rng):
    """Returns a rectangle of any size with a ragged edge."""
    mask = np.zeros(HW, bool)
    height, width = rng.integers(1, 100, 2)
    y, x = rng.integers(0, HW[0] - height + 1), rng.integers(0, HW[1] - width + 1)
    mask[y : y + height, x : x + width] = True
    mask[y, x : x + width // 2] = False
    return mask


def random_coco(rng, num_images=2):
    """Returns a COCO document and a list of results: crowds, odd areas, equal scores, misses."""
    images, annotations, results = [], [], []
    for image_id in rng.choice(1000, num_images, replace=False).tolist():
        images.append({"id": image_id, "height": HW[0], "width": HW[1], "file_name": "x.jpg"})
        for _ in range(rng.integers(0, 5)):
            mask, category = random_mask(rng), int(rng.choice([3, 7]))
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": category,
                "segmentation": rle_encode(mask),
                "area": float(mask.sum() * rng.choice([1, 1, 0.5, 3])),
                "bbox": [0, 0, 1, 1],
                "iscrowd": int(rng.random() < 0.2),
            }
            annotations.append(annotation)
            for _ in range(rng.integers(0, 3)):
                shift = rng.integers(-6, 7, 2) if rng.random() < 0.7 else (0, 0)
                category = category if rng.random() < 0.8 else 20
                results.append(result(rng, image_id, category, np.roll(mask, shift, (0, 1))))
        for _ in range(rng.integers(0, 3)):
            category = int(rng.choice([3, 7, 20]))
            results.append(result(rng, image_id, category, random_mask(rng)))
    categories = [dict(category) for category in CATEGORIES]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def result(rng, image_id, category, mask):
    return {
        "image_id": image_id,
        "category_id": category,
        "segmentation": rle_encode(mask),
        "score": float(rng.integers(1, 6) / 5),
    }
