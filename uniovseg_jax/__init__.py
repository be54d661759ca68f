"""Open-vocabulary segmentation from unpaired mask-text supervision, in JAX.

The public names are imported when first used, so that `import uniovseg_jax` costs nothing and a
program that only reads configs or masks never loads the training stack.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from uniovseg_jax.inference.mask_generator import AutomaticMaskGenerator
    from uniovseg_jax.inference.predictor import Predictor
    from uniovseg_jax.inference.segmenter import OpenVocabularySegmenter
    from uniovseg_jax.models.presets import PRESETS, UniOVSegConfig, get_preset
    from uniovseg_jax.models.uniovseg import UniOVSeg
    from uniovseg_jax.weights.store import load_pretrained, save_pretrained

_MODULE_OF = {
    "AutomaticMaskGenerator": "inference.mask_generator",
    "OpenVocabularySegmenter": "inference.segmenter",
    "PRESETS": "models.presets",
    "Predictor": "inference.predictor",
    "UniOVSeg": "models.uniovseg",
    "UniOVSegConfig": "models.presets",
    "get_preset": "models.presets",
    "load_pretrained": "weights.store",
    "save_pretrained": "weights.store",
}

__all__ = [
    "AutomaticMaskGenerator",
    "OpenVocabularySegmenter",
    "PRESETS",
    "Predictor",
    "UniOVSeg",
    "UniOVSegConfig",
    "get_preset",
    "load_pretrained",
    "save_pretrained",
]


def __getattr__(name: str) -> Any:
    """Imports the module behind a public name at its first use (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Lists the public names, loaded or not."""
    return sorted({*globals(), *__all__})
