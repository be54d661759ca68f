"""Metadata and dependencies of uniovseg_jax; nothing is compiled or fetched here."""

import pathlib
import re

from setuptools import find_packages, setup

_ROOT = pathlib.Path(__file__).parent


def _version() -> str:
    """Reads `__version__` without importing the package, whose dependencies may be missing."""
    text = (_ROOT / "uniovseg_jax" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"', text, flags=re.MULTILINE)
    if match is None:
        raise RuntimeError("uniovseg_jax/__init__.py has no __version__ line")
    return match.group(1)


setup(
    name="uniovseg_jax",
    version=_version(),
    description="Open-vocabulary segmentation from unpaired mask and text supervision, in JAX",
    long_description=(_ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["uniovseg_jax", "uniovseg_jax.*"]),
    package_data={"uniovseg_jax": ["assets/**/*", "benchmarks/**/*.json"]},
    python_requires=">=3.11",
    # Lower bounds that go together with JAX 0.10.2; constraints.txt names a tested set.
    install_requires=[
        "absl-py>=2.1",
        "array_record>=0.8",
        "flax>=0.12",
        "ftfy>=6.2",
        "grain>=0.2.12",
        "jax>=0.10.2",
        "jaxtyping>=0.3",
        "ml_collections>=1.1",
        "msgpack>=1.0",
        "numpy>=2.0",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11.20",
        "pillow>=11",
        "safetensors>=0.5",
        "scipy>=1.14",
        "tensorboardX>=2.6.2",
        "tensorflow-datasets>=4.9.9",
        "tokenizers>=0.21",
        "tqdm>=4.66",
    ],
    extras_require={
        # Reading PyTorch checkpoints, and the tests that compare with PyTorch.
        "convert": ["torch>=2.7", "torchvision>=0.22", "open_clip_torch>=3.0"],
        # AP and polygons; superpixels, beside which masks are scored.
        "eval": ["pycocotools>=2.0.8", "scikit-image>=0.25"],
        # Talking to a language model server when captions are refined or parsed.
        "llm": ["httpx>=0.27"],
        # Vision-language models on this machine, for the same.
        "hf": ["torch>=2.7", "torchvision>=0.22", "transformers>=5.0"],
        # Other parsers of captions; both need models or data that they fetch themselves.
        "parsers": ["nltk>=3.9", "spacy>=3.8"],
        # Serving the model as a web page: server and form uploads.
        "web": ["starlette>=0.40", "uvicorn>=0.30", "python-multipart>=0.0.12"],
        "cuda": ["jax[cuda12]>=0.10.2"],
        "tpu": ["jax[tpu]>=0.10.2"],
        "dev": [
            "beartype>=0.20",
            "hotcoco>=1.3",
            "httpx>=0.27",
            "pre-commit>=4",
            "pycocotools>=2.0.8",
            "pyright[nodejs]>=1.1.400",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "ruff>=0.12",
            "scikit-image>=0.25",
            "scikit-learn>=1.5",
        ],
    },
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
