"""The report about pairs: what it shows, and that its search works in a real browser."""

import base64
import dataclasses
import html.parser
import io
import re
import shutil
import subprocess

import numpy as np
import pytest
from made_regions import make_regions
from PIL import Image
from programs import run_program

from uniovseg_jax.alignment.build import finish_store
from uniovseg_jax.alignment.inspection import inspect
from uniovseg_jax.alignment.pair_report import write_pair_report
from uniovseg_jax.alignment.pairs import match_costs
from uniovseg_jax.alignment.store import PairStore, StoredImage
from uniovseg_jax.alignment.store_writer import StoreWriter, write_targets
from uniovseg_jax.captions.record import Tool
from uniovseg_jax.masks import rle_encode

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
        caption = dataclasses.replace(regions.caption, refiner=Tool("chat", "large-1", "0a1b"))
        regions = dataclasses.replace(regions, caption=caption)
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
    for words in (
        "Refined by chat, model large-1, prompt 0a1b<",
        "Parsed by rules<",
        "Before: raw image",
        "another mask)",
    ):
        assert words in page
    assert page.count("<figure") == 4 * 4 + sum(
        len(row.examples) for row in inspection.entities.values()
    )


def test_the_mask_that_came_next_is_outlined_in_blue(tmp_path):
    halves = np.zeros((2, 30, 40), bool)
    halves[0, :, :20] = halves[1, :, 20:] = True
    costs = np.array([[[0.2], [0.6]]], np.float32)
    pooled = {"clip": np.ones((2, 3), np.float32)}
    regions = make_regions("a", NAMES[:1], costs, pooled, [rle_encode(mask) for mask in halves])
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (120, 120, 120)).save(buffer, "JPEG")
    writer = StoreWriter(tmp_path / "pairs", {**SETTINGS, "align_scales": [224]})
    with writer.held():
        writer.write_shard(0, [StoredImage(regions, match_costs(costs), buffer.getvalue())])
        finish_store(writer, 1, 1.0, lambda names: np.eye(1, 4, dtype=np.float32))
    store = PairStore(tmp_path / "pairs")
    path = write_pair_report(store, inspect(store, 1, progress=False), tmp_path / "pairs.html")
    page = path.read_text()
    assert "or mask 1 0.600, blue<" in page
    data = base64.b64decode(re.search('src="data:image/jpeg;base64,([^"]*)"', page).group(1))
    with Image.open(io.BytesIO(data)) as picture:
        left, right = picture.getpixel((0, 15)), picture.getpixel((39, 15))
    assert np.argmax(left) == 0 and np.argmax(right) == 2


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
        return run_program("scripts/inspect_pairs.py", *arguments)

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
    assert _search(browser, path, search) == _expected(inspection, names, 3)


def test_typing_searches_all_entities(store, tmp_path, browser):
    inspection = inspect(store, 2, 2, 1, progress=False)  # Pictures of one entity alone.
    path = write_pair_report(store, inspection, tmp_path / "pairs.html")
    typing = """
    <script>
    const input = document.getElementById("search");
    input.value = "BALL";
    input.dispatchEvent(new Event("input"));
    </script></body>"""
    path.write_text(path.read_text().replace("</body>", typing))
    expected = _expected(inspection, {"red ball"}, 1)
    assert expected[0] == {"red ball"} and expected[1] == set()
    assert _search(browser, path, "grass") == expected


def _search(browser, path, search):
    """Returns the entities of rows and pictures that are not hidden, and what is said of them."""
    page = _open(browser, path, search, "--dump-dom")
    section = page.split('<section id="entities">')[1]
    figures = re.findall(r'<figure([^>]*)><img alt="([^"]*)"', section)
    rows = re.findall(r'<tr([^>]*)><td class="text">([^<]*)<', section)
    shown = [
        {html.unescape(entity) for tag, entity in nodes if "hidden" not in tag}
        for nodes in (rows, figures)
    ]
    return *shown, re.search('id="found">([^<]*)<', page).group(1)


def _expected(inspection, names, num_pictured):
    pictured = set(list(inspection.entities)[:num_pictured]) & names
    count = sum(len(inspection.entities[name].examples) for name in pictured)
    return names, pictured, f"{len(names)} entities, {count} pictures"
