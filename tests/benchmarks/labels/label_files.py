"""Tiny images and label maps, for the tests of the forms that labels come in."""

import numpy as np
from PIL import Image


def write_png(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def write_image(path, hw=(8, 8)):
    return write_png(path, np.zeros((*hw, 3), np.uint8))
