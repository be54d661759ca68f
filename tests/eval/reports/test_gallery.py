"""Which images of a run are shown, and what another model made of them."""

import json

import jax
import layouts
import numpy as np
import pytest
from made_model import quick_config

from configs.eval import get_config
from uniovseg_jax.eval.evaluate import evaluate
from uniovseg_jax.eval.reports.found_results import find_results
from uniovseg_jax.eval.reports.gallery import GalleryMaker, choose_images
from uniovseg_jax.masks import rle_encode


def done(*qualities):
    return {f"image {n}": {"quality": {"semantic": q}} for n, q in enumerate(qualities)}


@pytest.mark.parametrize(
    ("choose", "expected"),
    [
        ("worst", ["image 3", "image 0"]),
        ("median", ["image 0", "image 4"]),
        ("best", ["image 4", "image 1"]),
    ],
)
def test_images_are_chosen_by_how_well_they_went(choose, expected):
    # Image 2 has no score.
    by, chosen = choose_images(done(0.2, 0.9, None, 0.1, 0.5), 2, choose)
    assert by == "semantic"
    assert [image_id for image_id, _ in chosen] == expected


def test_random_images_depend_on_the_seed_and_not_on_who_was_finished_first():
    images = done(*np.linspace(0, 1, 30))
    backwards = dict(reversed(images.items()))
    first = choose_images(images, 5, "random", seed=0)
    assert first == choose_images(backwards, 5, "random", seed=0)
    assert first != choose_images(images, 5, "random", seed=1)
    assert len(set(first[1])) == 5


def test_where_nothing_ranks_images_any_are_taken():
    by, chosen = choose_images({name: {"quality": {"instance": None}} for name in "ab"}, 5, "worst")
    assert by is None and chosen == [("a", None), ("b", None)]


def test_a_run_without_images_and_an_unknown_choice_are_refused():
    with pytest.raises(ValueError, match="no images"):
        choose_images({}, 1, "worst")
    with pytest.raises(ValueError, match="worst, median, best, random"):
        choose_images(done(0.5), 1, "nicest")


@pytest.fixture(scope="module")
def runs(tiny_model_dir, tmp_path_factory):
    """Finished runs: two sets of the same image ids in one folder, and one in its own."""
    folder = tmp_path_factory.mktemp("runs")
    for part in ("fence", "wire"):
        layouts.make_prompted(folder / "data", f"ishape_dataset/{part}/val")
    (folder / "own").mkdir()
    layouts.make_folder(folder / "own")
    for name, data in (("ishape/fence", "data"), ("ishape/wire", "data"), ("folder", "own")):
        config = quick_config(name, worst=0, prompts__modes=("box",))
        output = folder / "results" / name.replace("/", "-")
        with pytest.MonkeyPatch.context() as patch:  # Each device compiles anew.
            patch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
            evaluate(config, str(tiny_model_dir), str(folder / data), output, progress=False)
    return folder


def make_all(folder, found=None, **options):
    found = found or find_results([folder / "results"])
    return GalleryMaker(get_config, count=1, progress=False, **options).make_all(found)


def test_others_are_shown_on_their_own_benchmark_only(runs):
    mask = rle_encode(np.ones((8, 10), bool))
    masks = [{"image_id": number, "segmentation": mask} for number in range(2)]
    (runs / "sam.json").write_text(json.dumps(masks))
    galleries, complaints = make_all(runs, others={"ishape/fence": {"SAM": runs / "sam.json"}})
    assert complaints == []
    titles = {
        gallery.document["benchmark"]: [title.partition(":")[0] for title in pictures]
        for gallery in galleries
        for pictures in gallery.images.values()
    }
    own = ["image", "truth", "predicted"]
    assert titles == {"folder": own, "ishape/fence": [*own, "SAM"], "ishape/wire": own}


def test_data_are_where_they_were_or_where_they_are_said_to_be(runs, capfd):
    found = find_results([runs / "results"])
    # The folder of all datasets does not have that of the user.
    galleries, complaints = make_all(runs, data_dir=str(runs / "data"))
    assert len(galleries) == 3 and not complaints
    for document in found.values():
        document["data_dir"] = str(runs / "gone")
    galleries, complaints = make_all(runs, found, data_dir=str(runs / "data"))
    assert [gallery.document["benchmark"] for gallery in galleries] == [
        "ishape/fence",
        "ishape/wire",
    ]
    (complaint,) = complaints
    assert complaint.startswith(f"No gallery of {runs / 'results' / 'folder'}: ")
    capfd.readouterr()
    folder = runs / "results" / "folder"
    document = find_results([folder])[folder]
    assert GalleryMaker(get_config, count=2).make(document, folder)
    assert "gallery of folder: 100%" in capfd.readouterr().err


def test_a_run_that_cannot_be_drawn_keeps_no_other_from_it(runs):
    def broken(change):
        found = find_results([runs / "results"])
        change(found[runs / "results" / "ishape-fence"])
        galleries, (complaint,) = make_all(runs, found)
        assert len(galleries) == 2
        return complaint

    def of_another_version(document):
        del document["settings"]["config"]["merge"]["contained"]

    said = broken(of_another_version)
    assert "results/ishape-fence: another version made it: it has no setting config.merge" in said
    said = broken(lambda document: document["model"].update(sha256="0" * 64))
    assert "ishape-fence: it was made with another model than" in said
    assert "do not say where the data are" in broken(lambda document: document.pop("data_dir"))
    log = runs / "results" / "ishape-fence" / "images-00000.jsonl"
    lines = log.read_text()
    log.write_text(lines.replace('"id": "', '"id": "9'))
    assert "the data have no image '9" in broken(lambda _: None)
    log.write_text(lines)
