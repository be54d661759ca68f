"""Stores: built once, by several processes, after a kill, with pictures that cannot be read."""

import dataclasses
import hashlib
import threading

import jax
import ml_collections
import numpy as np
import pytest
from made_regions import CaptionedList, make_caption

from uniovseg_jax.alignment import build as build_lib
from uniovseg_jax.alignment import store as store_lib
from uniovseg_jax.alignment.build import BuildOptions, build_pairs
from uniovseg_jax.alignment.captioned import CaptionedImage
from uniovseg_jax.alignment.pairs import regions_to_keep
from uniovseg_jax.alignment.regions import AlignmentConfig
from uniovseg_jax.alignment.store_settings import check_store
from uniovseg_jax.alignment.store_writer import write_targets
from uniovseg_jax.proposals import ProposalConfig
from uniovseg_jax.train import phase_stage2
from uniovseg_jax.train.default_config import stage2_data

NAMES = ("grass", "red ball", "blue house")
# A random quality head says about one half everywhere.
PROPOSALS = ProposalConfig(points_per_side=3, score_threshold=0.0)
CONFIG = AlignmentConfig(PROPOSALS, max_masks=6, templates="single", batch_size=2)
QUIET = BuildOptions(num_threads=1, progress=False)


@pytest.fixture
def images(pictures):
    return CaptionedList(
        [(make_caption(str(i), NAMES[: i % 3]), image) for i, image in enumerate(pictures)]
    )


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    for module in (build_lib, store_lib):
        monkeypatch.setattr(module, "IMAGES_PER_SHARD", 2)


def digests(directory):
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


class Ended(Exception):
    pass


def test_pairs_are_built_once_and_kept(pretrained, images, tmp_path):
    store = build_pairs(pretrained, images, CONFIG, tmp_path / "pairs", {"seed": 0}, QUIET)
    assert store.manifest["counts"]["images"] == 6
    assert store.manifest["counts"]["pairs"] == len(list(store.pairs())) == 6
    assert store.manifest["shards"] == 3
    assert {pair.entity for pair in store.pairs()} == {"grass", "red ball"}
    for image in store.images():
        assert image.preview.startswith(b"\xff\xd8")
        np.testing.assert_array_equal(
            image.regions.kept, regions_to_keep(image.regions.costs, image.pairs)
        )
    assert all(pair.other_mask for pair in store.pairs())
    text = store.targets().examples(np.arange(6))["text"]
    np.testing.assert_allclose(np.linalg.norm(text, axis=1), 1, atol=1e-5)

    class Untouched(CaptionedList):
        def __getitem__(self, index):
            raise AssertionError("The images were looked at again.")

    again = Untouched([images._rows[0]] * 6)
    same = build_pairs(pretrained, again, CONFIG, tmp_path / "pairs", {"seed": 0}, QUIET)
    assert same.manifest == store.manifest
    empty = CaptionedList([(make_caption("a", ()), images[0].decode())])
    with pytest.raises(ValueError, match="No image gave a pair"):
        build_pairs(pretrained, empty, CONFIG, tmp_path / "pairs", {"seed": 1}, QUIET)
    assert store_lib.PairStore(tmp_path / "pairs").manifest == store.manifest


def test_ended_in_the_middle_a_store_goes_on_and_has_the_same_bytes(
    pretrained, images, tmp_path, monkeypatch
):
    build_pairs(pretrained, images, CONFIG, tmp_path / "whole", {}, QUIET)
    read = CaptionedList.__getitem__

    def end_at(number):
        def getitem(self, index):
            if index == number:
                raise Ended
            return read(self, index)

        monkeypatch.setattr(CaptionedList, "__getitem__", getitem)

    for number in (0, 3, 4):
        end_at(number)
        with pytest.raises(Ended):
            build_pairs(pretrained, images, CONFIG, tmp_path / "torn", {}, QUIET)
        assert not (tmp_path / "torn").exists()
    end_at(0)  # The first two are kept: nobody looks at them again.
    build_pairs(pretrained, images, CONFIG, tmp_path / "torn", {}, QUIET)
    assert digests(tmp_path / "torn") == digests(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["torn", "whole"]


def test_several_processes_write_what_one_writes(pretrained, images, tmp_path):
    build_pairs(pretrained, images, CONFIG, tmp_path / "one", {}, QUIET)
    barrier, errors = threading.Barrier(2), []

    def work(process):
        try:
            options = BuildOptions(
                share=(process, 2), wait=lambda _: barrier.wait(120) and None, progress=False
            )
            build_pairs(pretrained, images, CONFIG, tmp_path / "two", {}, options)
        except Exception as error:  # Reported by the main thread.
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=work, args=(process,)) for process in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert digests(tmp_path / "two") == digests(tmp_path / "one")


def test_only_the_confident_pairs_are_trained_on(pretrained, images, tmp_path):
    half = dataclasses.replace(CONFIG, confident_share=0.5)
    every = build_pairs(pretrained, images, CONFIG, tmp_path / "every", {}, QUIET)
    store = build_pairs(pretrained, images, half, tmp_path / "half", {}, QUIET)
    pairs = list(store.pairs())
    assert len(pairs) == len(list(every.pairs())) == 6
    assert every.confident().all() and every.manifest["targets"] == 6
    confident = store.confident()
    margins = np.array([pair.margin for pair in pairs])
    assert confident.sum() == store.manifest["targets"] == 3
    assert margins[confident].min() >= margins[~confident].max()
    targets = store.targets()
    assert [targets.names[i] for i in targets.entity] == [
        pair.entity for pair, chosen in zip(pairs, confident, strict=True) if chosen
    ]


def test_pictures_that_cannot_be_read_are_counted_and_weigh_nothing(
    pretrained, images, tmp_path, monkeypatch
):
    read = CaptionedList.__getitem__

    def torn():
        raise ValueError("The file is torn.")

    def getitem(self, index):
        if index == 3:
            raise ValueError("The record is\ntorn.")
        caption, decode = read(self, index)
        return CaptionedImage(caption, torn if index == 2 else decode)

    monkeypatch.setattr(CaptionedList, "__getitem__", getitem)
    options = BuildOptions(max_skipped=0.5, progress=False)
    store = build_pairs(pretrained, images, CONFIG, tmp_path / "pairs", {}, options)
    image, record = [image.regions.caption for image in store.images()][2:4]
    assert (image.id, image.status, image.error) == ("2", "failed", "The file is torn.")
    assert (record.id, record.status) == ("number 3", "failed")
    assert record.error == "The record is torn."
    assert store.manifest["counts"]["failed"] == 2
    assert store.manifest["counts"]["pairs"] == 4
    with pytest.raises(ValueError, match="Record 2 cannot be used: The file is torn"):
        build_pairs(pretrained, images, CONFIG, tmp_path / "other", {}, QUIET)


def test_too_many_entities_are_refused(pretrained, images, tmp_path):
    config = dataclasses.replace(CONFIG, max_entities=1)
    with pytest.raises(ValueError, match="Image 2 has 2 entities; expected at most max_entities"):
        build_pairs(pretrained, images, config, tmp_path / "pairs", {}, QUIET)


def test_an_entity_that_is_too_long_is_left_out(pretrained, images, tmp_path):
    caption = make_caption("a", ("grass", "x" * 400, "red ball"))
    rows = [(caption, images[0].decode())]
    store = build_pairs(pretrained, CaptionedList(rows), CONFIG, tmp_path / "pairs", {}, QUIET)
    (image,) = store.images()
    assert image.regions.entities == ("grass", "red ball")
    assert image.regions.caption.num_entities == 3


def test_a_store_of_another_model_or_selection_is_refused(pretrained, images, tmp_path):
    store = build_pairs(pretrained, images, CONFIG, tmp_path / "pairs", {}, QUIET)
    check_store(store, pretrained, dataclasses.replace(CONFIG, batch_size=4))
    variables = jax.tree.map(lambda x: x + 1, pretrained.variables)
    with pytest.raises(ValueError, match="was made by a model with other weights"):
        check_store(store, dataclasses.replace(pretrained, variables=variables), CONFIG)
    model = dataclasses.replace(
        pretrained.config,
        adapter=dataclasses.replace(pretrained.config.adapter, source="both"),
    )
    with pytest.raises(ValueError, match="was made by a model with other adapter sources"):
        check_store(store, dataclasses.replace(pretrained, config=model), CONFIG)
    for field, value, words in (
        ("topk", 0.5, "data.topk was '1.0' and is '0.5'"),
        ("min_cosine", 0.1, "data.min_cosine was 'None' and is '0.1'"),
        ("confident_share", 0.5, "data.confident_share was '1.0' and is '0.5'"),
        ("cost", "prob", "data.cost was 'cosine' and is 'prob'"),
        ("proposals", ProposalConfig(score_threshold=0.5), "data.score_threshold was '0.0' and"),
    ):
        other = dataclasses.replace(CONFIG, **{field: value})
        with pytest.raises(ValueError, match=words):
            check_store(store, pretrained, other)
    data = stage2_data(pairs=str(store.directory), score_threshold=0.0, topk=0.5)
    config = ml_collections.ConfigDict({"data": data})
    with pytest.raises(ValueError, match="data.topk was '1.0' and is '0.5'"):
        phase_stage2._read_store(pretrained, config, tmp_path)
    rows = [({"clip": np.ones(2, np.float32)}, "grass")]
    bare = write_targets(tmp_path / "bare", {}, rows, lambda names: np.ones((1, 2), np.float32))
    check_store(bare, pretrained, dataclasses.replace(CONFIG, topk=0.5))


def test_another_selection_is_made_from_kept_costs(
    pretrained, images, tmp_path, monkeypatch, caplog
):
    def build(name, **changes):
        config = dataclasses.replace(CONFIG, **changes)
        return build_pairs(pretrained, images, config, tmp_path / name, {}, QUIET)

    few = {"topk": 0.5, "min_cosine": -1.0, "confident_share": 0.5}
    expected, every = build("few", **few), digests(build("pairs").directory)
    assert 0 < len(list(expected.pairs())) < 6
    with monkeypatch.context() as patch:
        patch.setattr(CaptionedList, "__getitem__", None)  # Nobody looks at an image.
        found = build("pairs", **few)
        assert "pairs are chosen anew from kept costs: config.confident_share was" in caplog.text
        assert found.settings == expected.settings
        for one, other in zip(found.images(), expected.images(), strict=True):
            np.testing.assert_array_equal(one.pairs, other.pairs)
            np.testing.assert_array_equal(one.regions.costs, other.regions.costs)
        assert digests(found.directory / "targets") == digests(expected.directory / "targets")
        assert digests(build("pairs").directory) == every  # And back again.
    # What the few pairs left out was not kept.
    caplog.clear()
    assert digests(build("few").directory) == every
    assert "few is replaced, everything is found anew: config.confident_share" in caplog.text
    caplog.clear()
    build("few", cost="prob")
    assert "everything is found anew: config.cost was 'cosine' and is 'prob'" in caplog.text


def test_a_run_that_goes_on_judges_all_images(pretrained, images, tmp_path, monkeypatch):
    read, broken = CaptionedList.__getitem__, {1, 5}

    def getitem(self, index):
        if index in broken:
            raise ValueError("It is torn.")
        if index == 4 and broken == {1, 5}:
            raise Ended
        return read(self, index)

    monkeypatch.setattr(CaptionedList, "__getitem__", getitem)
    options = BuildOptions(max_skipped=0.2, num_threads=1, progress=False)
    with pytest.raises(Ended):
        build_pairs(pretrained, images, CONFIG, tmp_path / "pairs", {}, options)
    broken.add(4)  # One may be, in a few; not three of six.
    with pytest.raises(ValueError, match=r"cannot be used|3 of 6 images cannot be read"):
        build_pairs(pretrained, images, CONFIG, tmp_path / "pairs", {}, options)
