"""The embedded world: truth fits the pictures, parts are disjoint, names stay in the oracle."""

import hashlib
import pickle

import numpy as np
import pytest

from uniovseg_jax.data.tfds import tinyscenes
from uniovseg_jax.data.tfds.tinyscenes import builder, captions, records, scenes, world
from uniovseg_jax.masks import rle_decode

SEED = 5


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tinyscenes.prepare(
        tmp_path_factory.mktemp("data"), SEED, sizes=builder.TINY_SIZES, progress=False
    )


def some_scenes(part, split, count, seed=SEED):
    return [
        scenes.make_scene(seed, part, split, scenes.scene_rng(seed, part, split, index))
        for index in range(count)
    ]


@pytest.mark.parametrize("seed", range(8))
def test_held_out_combinations_leave_every_colour_and_thing_to_learn(seed):
    held_out = world.held_out_combinations(seed)
    assert not held_out["val"] & held_out["test"]
    both = held_out["val"] | held_out["test"]
    assert 0.13 <= len(both) / 96 <= 0.17
    for split in ("val", "test"):
        assert {colour for colour, _ in held_out[split]} == set(world.COLOURS)
    per_thing = [sum(thing == noun for _, thing in both) for noun in world.THINGS]
    assert 1 <= min(per_thing) and max(per_thing) <= 2


def test_joint_vocabulary_indices_and_nouns_agree():
    assert len(world.JOINT_NAMES) == 104 and len(set(world.JOINT_NAMES)) == 104
    assert world.JOINT_NAMES[world.combination_id("blue", "kite")] == "blue kite"
    assert world.JOINT_NAMES[world.stuff_id("snow")] == "snow"
    for index, name in enumerate(world.JOINT_NAMES):
        assert world.NOUNS[world.noun_id(index)] == name.split(" ")[-1]


@pytest.mark.parametrize("part", ["web", "image_mask", "image_text"])
def test_training_parts_never_show_an_unseen_combination(part):
    held_out = world.held_out_combinations(SEED)
    unseen = held_out["val"] | held_out["test"]
    shown = {(t.colour, t.noun) for s in some_scenes(part, "train", 120) for t in s.things}
    assert not shown & unseen
    assert len(shown) > 50


@pytest.mark.parametrize(("split", "other"), [("val", "test"), ("test", "val")])
def test_panoptic_shows_its_own_unseen_combinations_and_not_the_other_half(split, other):
    held_out = world.held_out_combinations(SEED)
    things = [(t.colour, t.noun) for s in some_scenes("panoptic", split, 100) for t in s.things]
    assert held_out[split] <= set(things)
    assert not held_out[other] & set(things)
    share = np.mean([combination in held_out[split] for combination in things])
    assert abs(share - scenes.UNSEEN_SHARE) < 0.09


def test_captions_never_name_an_unseen_combination(root):
    held_out = world.held_out_combinations(SEED)
    unseen = {f"{colour} {noun}" for half in held_out.values() for colour, noun in half}
    texts = [example["caption"] for example in tinyscenes.load_source(root, "web", "train")]
    for example in tinyscenes.load_source(root, "image_text", "train"):
        texts += [example["raw"], example["refined"]]
    for text in texts:
        assert not [name for name in unseen if name in text.lower()], text


def test_scenes_are_as_large_and_as_full_as_stated():
    made = some_scenes("image_mask", "train", 200)
    assert {s.image.shape for s in made} == {(256, 256, 3)}
    counts = [len(s.things) for s in made]
    assert min(counts) >= 2 and max(counts) <= 6
    assert {len(s.stuff) for s in made} == {1, 2, 3}
    areas = [s.thing_mask(i).sum() for s in made for i in range(len(s.things))]
    assert np.median(areas) >= 4 * 32 * 32
    assert min(areas) >= scenes.MIN_VISIBLE_PX >= 40


def test_web_pictures_hold_one_or_two_things_at_the_scale_of_the_scenes():
    made = some_scenes("web", "train", 200)
    assert {s.image.shape for s in made} == {(128, 128, 3)}
    assert {len(s.things) for s in made} == {1, 2}
    areas = [s.thing_mask(i).sum() for s in made for i in range(len(s.things))]
    in_scenes = [
        s.thing_mask(i).sum()
        for s in some_scenes("image_mask", "train", 100)
        for i in range(len(s.things))
    ]
    assert 0.6 < np.median(areas) / np.median(in_scenes) < 1.4


def test_things_have_the_colour_of_their_name():
    made = some_scenes("web", "train", 300)
    palette = world.make_world(SEED)
    rng = np.random.default_rng(0)
    reference = np.stack([palette.colour_rgb(c, rng) for c in world.COLOURS])
    reference /= np.linalg.norm(reference, axis=1, keepdims=True) + 60
    right = []
    for scene in made:
        for index, thing in enumerate(scene.things):
            if thing.noun not in ("ball", "star", "box"):
                continue  # the others have parts in other colours
            mean = scene.image[scene.thing_mask(index)].mean(0)
            found = np.argmin(
                np.linalg.norm(reference - mean / (np.linalg.norm(mean) + 60), axis=1)
            )
            right.append(world.COLOURS[found] == thing.colour)
    assert len(right) > 60 and np.mean(right) > 0.9


def test_masks_are_disjoint_and_whole(root):
    source = tinyscenes.load_source(root, "image_mask", "train")
    for example in (source[index] for index in range(12)):
        by_level = {"object": [], "part": [], "region": []}
        for entry in example["masks"]:
            assert set(entry) == {"level", "size", "counts"}  # class-free
            by_level[entry["level"]].append(rle_decode(entry))
        cover = np.sum(by_level["object"] + by_level["region"], axis=0)
        assert cover.max() == 1 and cover.mean() > 0.99
        objects = np.any(by_level["object"], axis=0)
        for part in by_level["part"]:
            assert part.sum() >= scenes.MIN_MASK_PX
            assert not (part & ~objects).any()


def test_panoptic_pngs_agree_with_their_segments_and_with_the_scene(root):
    source = tinyscenes.load_source(root, "panoptic", "test")
    for example in (source[index] for index in range(6)):
        ids = example["panoptic"]
        assert ids.dtype == np.int32
        index = int(example["id"].rsplit("-", 1)[1])
        rng = scenes.scene_rng(SEED, "panoptic", "test", index)
        scene = scenes.make_scene(SEED, "panoptic", "test", rng)
        truth = [(t.name, scene.thing_mask(i)) for i, t in enumerate(scene.things)]
        truth += [(name, scene.stuff_mask(i)) for i, name in enumerate(scene.stuff)]
        truth = [(name, mask) for name, mask in truth if mask.sum() >= scenes.MIN_MASK_PX]
        assert len(truth) == len(example["segments_info"])
        for segment, (name, mask) in zip(example["segments_info"], truth, strict=True):
            assert world.JOINT_NAMES[segment["category_id"]] == name
            np.testing.assert_array_equal(ids == segment["id"], mask)
            assert segment["area"] == mask.sum()
            left, top, width, height = segment["bbox"]
            assert mask[top : top + height, left : left + width].sum() == mask.sum()
        assert set(np.unique(ids)) - {0} == {s["id"] for s in example["segments_info"]}


def test_image_text_holds_no_names_and_the_oracle_holds_them_all(root):
    source = tinyscenes.load_source(root, "image_text", "train")
    oracle = tinyscenes.load_oracle(root)
    assert len(source) == len(oracle) == 48
    for example in source:
        assert set(example) == {"id", "image", "raw", "refined"}
        entry = oracle[example["id"]]
        things = {s["thing"]: s["name"] for s in entry["segments"] if s["level"] == "object"}
        for segment in entry["segments"]:
            assert rle_decode(segment).shape == (256, 256)
            if segment["level"] == "part":
                assert segment["part"] and segment["name"] == things[segment["thing"]]
        for entities in entry["entities"].values():
            for entity in entities:
                for index in entity["segments"]:
                    assert entity["text"] in entry["segments"][index]["name"]


@pytest.mark.parametrize("quality", ["raw", "refined", "web"])
def test_captions_depart_from_the_scene_at_the_stated_rates(quality):
    rates = captions.RATES[quality]
    seen = world.make_world(SEED).seen
    rng = np.random.default_rng(0)
    made = some_scenes("image_text", "train", 60) * 12
    shown = mentioned = bare = wrong = invented = regions = told = 0
    for scene in made:
        mentions = captions.make_caption(scene, quality, seen, rng).mentions
        of_things = [m for m in mentions if m.thing is not None]
        shown += len(scene.things)
        mentioned += len(of_things)
        bare += sum(m.colour is None for m in of_things)
        wrong += sum(not m.correct for m in of_things)
        invented += sum(m.thing is None and m.region is None for m in mentions)
        regions += len(scene.stuff)
        told += sum(m.region is not None for m in mentions)
    assert abs(1 - mentioned / shown - rates.omit_thing) < 0.04
    assert abs(bare / mentioned - rates.bare) < 0.04
    assert abs(wrong / mentioned - rates.wrong_noun) < 0.02
    assert abs(invented / len(made) - rates.invent) < 0.03
    assert abs(1 - told / regions - rates.omit_stuff) < 0.05


def test_refined_captions_say_more_of_the_scene_than_raw_ones():
    raw, refined = captions.RATES["raw"], captions.RATES["refined"]
    assert refined.omit_thing < raw.omit_thing / 4 and refined.wrong_noun < raw.wrong_noun
    assert refined.bare == raw.bare >= 0.4
    assert refined.chatter == 0.0 < raw.chatter


def test_web_val_captions_tell_their_pictures_apart():
    texts = [records.make_record(SEED, "web", "val", i)["caption"].strip(".") for i in range(200)]
    assert len(set(texts)) > 190


def test_same_seed_gives_the_same_bytes_and_another_seed_another_world():
    def digest(seed):
        made = [
            records.make_record(seed, part, split, 3)
            for part, sizes in builder.TINY_SIZES.items()
            for split in sizes
        ]
        return [hashlib.sha256(record["image"]).hexdigest() for record in made], made

    first, made = digest(SEED)
    world.make_world.cache_clear()
    again, made_again = digest(SEED)
    assert first == again and made == made_again
    assert len(set(first)) == len(first)  # parts and splits share no picture
    assert not set(first) & set(digest(SEED + 1)[0])
    assert world.held_out_combinations(SEED) != world.held_out_combinations(SEED + 1)
    tiles = [world.make_world(seed).tiles["grass"] for seed in (SEED, SEED + 1)]
    assert (tiles[0] != tiles[1]).mean() > 0.5


def test_rendering_by_workers_gives_the_same_records(monkeypatch):
    def render(workers):
        return list(builder.render_all(scene_name, 12, workers))

    monkeypatch.setattr(builder, "_MIN_FOR_WORKERS", 1)
    monkeypatch.setattr(builder, "_CHUNK", 1)
    assert render(2) == render(0)


def scene_name(index):
    return {"id": records.scene_id("web", "train", index)}


def test_sources_can_be_sent_to_worker_processes(root):
    source = tinyscenes.load_source(root, "web", "val")
    copy = pickle.loads(pickle.dumps(source))
    assert copy[7]["caption"] == source[7]["caption"]
    np.testing.assert_array_equal(copy[7]["image"], source[7]["image"])
    assert source[7]["image"].dtype == np.uint8 and len(source) == 64


def test_prepare_renders_nothing_twice_and_says_when_sizes_differ(root):
    data_dir = root.parent
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    tinyscenes.prepare(data_dir, SEED, sizes=builder.TINY_SIZES, progress=False)
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="delete it or name another"):
        tinyscenes.prepare(data_dir, SEED, sizes={"web": {"train": 3, "val": 2}}, progress=False)
    with pytest.raises(ValueError, match="Unknown part 'wep'"):
        tinyscenes.prepare(data_dir, SEED, parts=("wep",), progress=False)


def test_missing_parts_and_splits_are_named(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'web' of .* makes: python -c .*, \('web',\)\)"):
        tinyscenes.load_source(tmp_path, "web", "train")
    with pytest.raises(ValueError, match="no split 'train'"):
        tinyscenes.load_source(root, "panoptic", "train")
    with pytest.raises(FileNotFoundError, match="oracle"):
        tinyscenes.load_oracle(tmp_path)
