"""What models are called, and which results are marked."""

from configs.eval import get_config
from uniovseg_jax.eval.from_config import deciding_settings
from uniovseg_jax.eval.reports.run_labels import RunLabels
from uniovseg_jax.settings import as_json


def result(directory, sha256="a" * 64, overlap=None, **more):
    config = get_config("ade20k_150")
    config.merge.overlap_threshold = overlap or config.merge.overlap_threshold
    return {
        "model": {"directory": directory, "sha256": sha256},
        "settings": {"config": as_json(deciding_settings(config))},
        "scores": {"semantic": {}},
        **more,
    }


def names(*documents):
    labels = RunLabels(documents, get_config)
    return [labels.model(document) for document in documents]


def test_a_folder_called_model_says_nothing():
    found = names(result("runs/pooled/model"), result("runs/dense/model/"), result("a/b"))
    assert found == ["pooled (fcclip)", "dense (fcclip)", "b (fcclip)"]
    assert names(result("model")) == ["model (fcclip)"]


def test_different_models_of_one_name_are_told_apart():
    first, second = result("a/stage2/model", "1234" * 16), result("b/stage2/model", "5678" * 16)
    assert names(first, second) == ["stage2-1234 (fcclip)", "stage2-5678 (fcclip)"]
    assert names(first, first) == ["stage2 (fcclip)"] * 2


def test_changed_settings_have_a_number_and_a_note():
    documents = [result("m"), result("m", overlap=0.4), result("m", overlap=0.5)]
    labels = RunLabels(documents, get_config)
    assert names(*documents) == ["m (fcclip)", "m (fcclip) [1]", "m (fcclip) [2]"]
    assert labels.note(documents[:1]) == ""
    note = labels.note(documents[:2])
    assert note == "[1] other settings than the protocol's: merge.overlap_threshold 0.4 (not 0.8)."
    # Names of masks by CLIP alone have no protocol.
    assert names({**result("m"), "settings": {"truth": "panoptic"}}) == ["m"]


def test_fewer_images_than_were_published_are_marked():
    whole, half = result("m", as_published=True, limited=False), result("m", as_published=False)
    labels = RunLabels([whole, half, limited := result("m", limited=True)], get_config)
    assert [labels.mark(document) for document in (whole, half, limited)] == ["", "†", "†"]
    assert "not on all images of the published split" in labels.note([whole, half])
    assert labels.note([whole]) == ""
