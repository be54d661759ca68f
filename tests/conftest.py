"""What every test shares: eight virtual CPU devices, shape checks, the shared folder, OpenCLIP."""

import importlib.util
import os
import pathlib
import sys

import pytest
from absl import flags
from programs import ROOT as _ROOT
from programs import xla_flags

# Set before the first import of jax, and as variables so that programs run by tests have them too.
os.environ["XLA_FLAGS"] = xla_flags(8)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_ROOT / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

import jax  # noqa: E402

# Steps with a collective hang on few cores when several are in flight on virtual devices. JAX reads
# this one from no variable: a script has to wait for each of its steps.
jax.config.update("jax_cpu_enable_async_dispatch", False)


# Two processes share the tests file by file: those that take minutes come first, not last.
_LONG_FILES = (
    "train/test_restart.py",
    "test_demo_script.py",
    "train/test_sharding.py",
    "train/test_distributed.py",
    "train/test_phase_stage1.py",
    "train/test_phases.py",
)


def pytest_collection_modifyitems(items):
    """Puts the long files first."""
    rank = {str(_ROOT / "tests" / name): place for place, name in enumerate(_LONG_FILES)}
    items.sort(key=lambda item: rank.get(str(item.path), len(rank)))


@pytest.fixture(scope="session")
def shared_dir() -> pathlib.Path:
    """The folder with published fixtures and data that UNIOVSEG_SHARED names."""
    value = os.environ.get("UNIOVSEG_SHARED")
    if not value:
        pytest.skip("UNIOVSEG_SHARED is not set: the shared fixtures and data are not at hand")
    path = pathlib.Path(value)
    if not path.is_dir():
        pytest.fail(f"UNIOVSEG_SHARED names {value!r}, which is no folder")
    return path


@pytest.fixture(scope="module")
def load_script():
    """Imports a file of scripts/, `load_script("predict")`, until the module of tests ends."""
    flags_before, loaded = set(flags.FLAGS), []

    def load(name):
        path = _ROOT / "scripts" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # Dataclasses look their module up.
        loaded.append(name)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in set(flags.FLAGS) - flags_before:
        delattr(flags.FLAGS, name)
    for name in loaded:
        del sys.modules[name]


@pytest.fixture(scope="session")
def open_clip():
    """The `open_clip` module, as an oracle; skips where the `convert` extra is not installed."""
    # Not above: the package may be imported only after shape checks are switched on.
    from convert.openclip_torch import import_open_clip

    try:
        return import_open_clip()
    except ImportError as error:
        pytest.skip(str(error))
