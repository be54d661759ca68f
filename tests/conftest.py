"""What every test shares: eight virtual CPU devices, shape checks, the shared folder, OpenCLIP."""

import importlib.util
import os
import pathlib

# Both must be in place before the first import of jax.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_KEEP_ALIVE: list[object] = []  # operators vanish with the library that declared them

# Steps with a collective hang on few cores when several are in flight on virtual devices.
jax.config.update("jax_cpu_enable_async_dispatch", False)
jax.config.update("jax_compilation_cache_dir", str(_ROOT / ".pytest_cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


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


@pytest.fixture(scope="session")
def open_clip():
    """The `open_clip` module, as an oracle; skips where the `convert` extra is not installed."""
    reason = "the `convert` extra (torch, torchvision, open_clip) is not installed"
    torch = pytest.importorskip("torch", reason=reason)
    torchvision = importlib.util.find_spec("torchvision")
    if torchvision is None or torchvision.origin is None:
        pytest.skip(reason)
    # torchvision's compiled operators load only beside the very build of torch that they were made
    # for. OpenCLIP calls none of them, but importing torchvision registers a rule for `nms`, so
    # the operator must have been declared. A torchvision whose extension loads is left alone.
    extensions = list(pathlib.Path(torchvision.origin).parent.glob("_C*"))
    try:
        for extension in extensions:
            torch.ops.load_library(str(extension))
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEEP_ALIVE.append(library)
    return pytest.importorskip("open_clip", reason=reason)
