"""The repository as a whole: imports stay light, names resolve, committed text stays clean."""

import dataclasses
import importlib
import os
import pathlib
import re
import subprocess
import sys

import pytest

import uniovseg_jax
from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.benchmarks.registry import BENCHMARKS
from uniovseg_jax.eval.from_config import make_framing, make_segmenter_config
from uniovseg_jax.inference.framing import Letterbox, ShortSide
from uniovseg_jax.inference.segmenter import SegmenterConfig
from uniovseg_jax.models.presets import config_from_dict, get_preset
from uniovseg_jax.models.uniovseg import abstract_variables
from uniovseg_jax.train.optimizer import make_optimizer, make_schedule
from uniovseg_jax.train.state import split_variables

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRIPTS = sorted(ROOT.glob("scripts/*.py")) + sorted(ROOT.glob("convert/convert_*.py"))
CONFIGS = sorted(ROOT.glob("configs/*.py"))
TRAINING_CONFIGS = [path for path in CONFIGS if path.stem not in ("captions", "ablation", "eval")]
PHASES = {
    "tinyscenes": ("clip", "stage1", "stage2"),
    "camvid": ("stage1", "clip", "stage1,words", "stage2"),
    "full": ("stage1", "stage2", "stage1,preset=paper"),
}

IMPORT_ALL = """
import importlib, pkgutil, uniovseg_jax
for module in pkgutil.walk_packages(uniovseg_jax.__path__, "uniovseg_jax."):
    importlib.import_module(module.name)
"""


def _loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running `code` at the root."""
    code += "\nimport sys\nprint('LOADED', *sorted({m.partition('.')[0] for m in sys.modules}))"
    result = _run("-c", code)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.rpartition("LOADED")[2].split())


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def _committed_files() -> list[pathlib.Path]:
    """Every file that git tracks or would track; skips outside a checkout."""
    try:
        result = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout: which files are committed is not known")
    paths = [ROOT / os.fsdecode(name) for name in result.stdout.split(b"\0") if name]
    return [path for path in paths if path.is_file()]


def test_importing_the_package_is_light():
    heavy = {"torch", "tensorflow", "jax", "flax", "orbax", "tensorflow_datasets", "grain"}
    assert not heavy & _loaded_after("import uniovseg_jax")


def test_public_names_bring_in_neither_torch_nor_training_libraries():
    names = ", ".join(uniovseg_jax.__all__)
    loaded = _loaded_after(f"from uniovseg_jax import {names}")
    assert "jax" in loaded
    assert not {"torch", "tensorflow", "orbax", "tensorflow_datasets"} & loaded


def test_no_module_of_the_package_imports_torch_or_tensorflow():
    assert not {"torch", "torchvision", "tensorflow"} & _loaded_after(IMPORT_ALL)


@pytest.mark.parametrize("name", uniovseg_jax.__all__)
def test_public_name_resolves(name: str):
    assert getattr(uniovseg_jax, name) is not None
    assert name in dir(uniovseg_jax)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        uniovseg_jax.Nothing  # noqa: B018


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_answers_help(script: pathlib.Path):
    result = _run(str(script), "--help")
    # absl's --help exits with 1 by its own convention; a script that broke prints a traceback.
    assert result.returncode in (0, 1), result.stderr
    assert "Traceback" not in result.stderr
    assert "--" in result.stdout, "no flag is listed"


@pytest.mark.parametrize("config", TRAINING_CONFIGS, ids=lambda path: path.stem)
def test_config_resolves_for_its_phases(config: pathlib.Path):
    get_config = importlib.import_module(f"configs.{config.stem}").get_config
    for arg in PHASES[config.stem]:
        full = get_config(arg)
        model = config_from_dict(full.model.to_dict())
        assert full.phase == arg.partition(",")[0]
        parts = {"clip": ("clip",), "stage1": ("clip", "masks")}
        shapes = abstract_variables(model, parts.get(full.phase, ("clip", "masks", "adapter")))
        trained, _ = split_variables(shapes, full.freeze)
        make_optimizer(full.optimizer, trained, make_schedule(full.optimizer, full.total_steps))


def test_the_tiny_configuration_is_the_full_one_but_shorter():
    from configs.tinyscenes import get_config

    for phase in PHASES["tinyscenes"]:
        full, tiny = get_config(phase), get_config(f"{phase},tiny")
        assert set(tiny) == set(full)
        assert tiny.total_steps < full.total_steps


@pytest.mark.parametrize("protocol", ["", ",protocol=fcclip", ",protocol=released"])
def test_the_evaluation_of_every_benchmark_resolves(protocol: str):
    from configs.eval import get_config

    for name in BENCHMARKS:
        config = get_config(name + protocol)
        assert config.benchmark == name
        assert config.protocol == (protocol.partition("=")[2] or "fcclip")
        framing = make_framing(config, Benchmark(name, {}), get_preset("test"))
        assert isinstance(framing, Letterbox if config.protocol == "released" else ShortSide)
        settings = make_segmenter_config(config, framing)
        assert bool(settings.semantic.min_share) == (name == "pascal_voc21_threshold")
    # As the released code has them.
    if config.protocol == "released":
        assert settings == dataclasses.replace(SegmenterConfig(), framing=framing)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_names_a_wrong_phase(config: pathlib.Path):
    get_config = importlib.import_module(f"configs.{config.stem}").get_config
    with pytest.raises(ValueError, match="no_such_phase"):
        get_config("no_such_phase")


def test_constraints_hold_versions_only():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    wrong = [
        line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line)
    ]
    assert not wrong
    names = [re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines]
    assert len(names) == len(set(names)), "a package is constrained twice"


def test_no_address_of_a_package_registry_or_path_of_one_machine_is_committed():
    # Written in two pieces each, so that this file is clean as well.
    pattern = re.compile(
        b"|".join(
            [
                rb"pypi\." + rb"org",
                rb"python" + rb"hosted",
                rb"registry\." + rb"npmjs",
                rb"conda\." + rb"anaconda",
                rb"download\.pytorch" + rb"\.org",
                rb"--(?:extra-)?index" + rb"-url",
                rb"(?<![\w.\-/])/(?:work|root|home" + rb"|Users)/",
            ]
        )
    )
    found = [
        f"{path.relative_to(ROOT)}: {match.group().decode()}"
        for path in _committed_files()
        if (match := pattern.search(path.read_bytes()))
    ]
    assert not found


def test_only_scoring_and_the_ceiling_know_the_true_names():
    allowed = {
        "eval/oracle.py",
        "demo/run.py",
        "demo/pictures.py",
        "ablation/rows.py",
        "ablation/run.py",
        "ablation/table.py",
        "weak_words/judge.py",
    }
    package = ROOT / "uniovseg_jax"
    readers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "data/tfds/tinyscenes" not in path.as_posix() and "oracle" in path.read_text()
    }
    assert readers == allowed
