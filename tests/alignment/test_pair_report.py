"""The report about pairs: what it shows, and that its search works in a real browser."""

import html.parser
import io
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from made_regions import make_regions
from PIL import Image

from uniovseg_jax.alignment.build import finish_store
from uniovseg_jax.alignment.inspection import inspect
from uniovseg_jax.alignment.pair_report import write_pair_report
from uniovseg_jax.alignment.pairs import match_costs
from uniovseg_jax.alignment.store import PairStore, StoredImage
from uniovseg_jax.alignment.store_writer import StoreWriter, write_targets
from uniovseg_jax.masks import rle_encode

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NAMES = ("grass", "red ball", "blue <house>")
SETTINGS = {
    "align_scales": [224, 256],
    "config": {"cost": "cosine"},
    "source": {"data": "made"},
}


def _preview(rng):
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rng, directory = np.random.default_rng(0), tmp_path_factory.mktemp("report") / "pairs"
    writer = StoreWriter(directory, SETTINGS)
    images = []
    for i in range(20):
        n, e = int(rng.integers(1, 5)), int(rng.integers(0, 4))
        masks = [rle_encode(rng.random((60, 80)) < 0.3) for _ in range(n)]
        costs = rng.random((2, n, e)).astype(np.float32)
        pooled = {"clip": rng.random((n, 3)).astype(np.float32)}
        regions = make_regions(f"image{i}", NAMES[:e], costs, pooled, masks)
        images.append(StoredImage(regions, match_costs(costs), _preview(rng)))
    with writer.held():
        writer.write_shard(0, images)
        finish_store(writer, 1, 0.5, lambda names: np.eye(3, 4, dtype=np.float32)[: len(names)])
    return PairStore(directory)


def test_the_extremes_are_those_of_all_pairs(store):
    pairs = list(store.pairs())
    found = inspect(store, 5, 2, 2, progress=False)
    costs = sorted(pair.cost for pair in pairs)
    assert [example.pair.cost for example in found.best] == costs[:5]
    assert [example.pair.cost for example in found.worst] == costs[:-6:-1]
    margins = sorted(pair.margin for pair in pairs)
    assert [example.pair.margin for example in found.unsure] == margins[:5]
    flipping = sorted(pair.margin for pair in pairs if any(pair.flips))
    assert [example.pair.margin for example in found.flipping] == flipping[:5]
    assert found.num_flips == len(flipping) > 0
    np.testing.assert_array_equal(found.margins, [pair.margin for pair in pairs])
    assert len(found.confident_margins) == store.manifest["targets"]
    assert sum(row.count for row in found.entities.values()) == len(pairs)
    counts = [row.count for row in found.entities.values()]
    assert counts == sorted(counts, reverse=True)
    for name, row in found.entities.items():
        own = [pair for pair in pairs if pair.entity == name]
        assert row.count == len(own)
        assert row.cost == pytest.approx(sum(pair.cost for pair in own))
        assert row.flips == sum(any(pair.flips) for pair in own)
        shown = name in list(found.entities)[:2]
        assert len(row.examples) == (min(2, len(own)) if shown else 0)
        assert row.margin == pytest.approx(sum(p.margin for p in own if np.isfinite(p.margin)))


def test_the_report_needs_nothing_from_outside(store, tmp_path):
    inspection = inspect(store, 4, 2, 3, progress=False)
    path = write_pair_report(store, inspection, tmp_path / "new" / "pairs.html")
    page = path.read_text()
    assert _unbalanced(page) == []
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "blue &lt;house&gt;" in page and "<house>" not in page
    for words in ("refined by identity", "parsed by rules", "Before: raw image", "another mask)"):
        assert words in page
    assert page.count("<figure") == 4 * 4 + sum(
        len(row.examples) for row in inspection.entities.values()
    )


def _unbalanced(page):
    """Returns the tags that are not closed, or closed and not opened."""
    stack, wrong = [], []

    class Parser(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img", "input", "br", "line", "rect", "polyline"):
                stack.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            if not stack or stack.pop() != tag:
                wrong.append(tag)

    Parser().feed(page)
    return wrong + stack


def test_a_store_without_images_is_refused(tmp_path):
    rows = [({"clip": np.ones(2, np.float32)}, "grass")]
    bare = write_targets(tmp_path / "pairs", {}, rows, lambda names: np.ones((1, 2), np.float32))
    with pytest.raises(ValueError, match="holds targets and no images"):
        inspect(bare)


def test_the_script_writes_the_report_or_one_sentence(store, tmp_path):
    def run(*arguments):
        command = [sys.executable, str(ROOT / "scripts" / "inspect_pairs.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)

    output = tmp_path / "pairs.html"
    result = run(f"--pairs={store.directory}", f"--output={output}")
    assert result.returncode == 0, result.stderr
    assert output.stat().st_size > 10_000
    result = run(f"--pairs={tmp_path}", f"--output={output}")
    assert result.returncode == 1
    assert (
        result.stderr.strip()
        == f"error: {tmp_path} holds no pair store: manifest.json is not there."
    )


@pytest.fixture(scope="module")
def browser():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("there is no Chromium to open the report with")


def _open(browser, path, search, *flags):
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", *flags]
    address = f"{path.as_uri()}#{search}"
    result = subprocess.run(
        [*command, address], capture_output=True, text=True, timeout=120, check=True
    )
    return result.stdout


@pytest.mark.parametrize(
    ("search", "names"),
    [
        ("", set(NAMES)),
        ("RED%20ball", {"red ball"}),
        ("e", {"red ball", "blue <house>"}),
        ("x", set()),
        ("%", set()),
    ],
)
def test_the_search_shows_what_fits(store, tmp_path, browser, search, names):
    inspection = inspect(store, 2, 2, 3, progress=False)
    path = write_pair_report(store, inspection, tmp_path / "pairs.html")
    page = _open(browser, path, search, "--dump-dom")
    section = page.split('<section id="entities">')[1]
    figures = re.findall(r'<figure([^>]*)><img alt="([^"]*)"', section)
    assert len(figures) == sum(len(row.examples) for row in inspection.entities.values())
    shown = {html.unescape(entity) for tag, entity in figures if "hidden" not in tag}
    assert shown == names
    count = sum(len(row.examples) for name, row in inspection.entities.items() if name in names)
    assert f">{count} pictures<" in page
