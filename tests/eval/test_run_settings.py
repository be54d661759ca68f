"""What of a run's settings is not as its protocol has them."""

import pytest

from configs.eval import get_config
from uniovseg_jax.eval.from_config import deciding_settings, restored_config
from uniovseg_jax.eval.run_settings import changed_settings, known_settings
from uniovseg_jax.settings import as_json

SEMANTIC, PROMPTS = {"semantic": {}}, {"promptable": {}}


def changes(name, scores=SEMANTIC, **changed):
    config = get_config(name)
    values = {key.replace("__", "."): value for key, value in changed.items()}
    config.update_from_flattened_dict(values)
    settings = {"config": as_json(deciding_settings(config))}
    return changed_settings({"settings": settings, "scores": scores}, get_config)


@pytest.mark.parametrize("name", ["ade20k_150", "cityscapes,protocol=released"])
def test_what_is_scored_changes_nothing(name):
    assert changes(name) == ""
    assert changes(name, limit=3, tasks=("semantic",), split="train", save_predictions=True) == ""
    # The threshold of this benchmark is its protocol's.
    assert changes("pascal_voc21_threshold") == ""


def test_every_setting_that_counts_is_named():
    said = changes(
        "ade20k_150", merge__overlap_threshold=0.4, proposals__nms_iou=0.55, synonyms="a.txt"
    )
    assert sorted(said.split(", ")) == [
        "merge.overlap_threshold 0.4 (not 0.8)",
        "proposals.nms_iou 0.55 (not 0.7)",
        "synonyms of a file (not official)",
    ]
    # Every benchmark has a file of its own.
    assert changes("ade20k_150", synonyms="a") == changes("cityscapes", synonyms="b") != ""
    assert changes("ade20k_150", input__kind="letterbox", input__short=7) == (
        "input.kind letterbox (not short_side)"
    )
    assert changes("ade20k_150", input__short=640) == "input.short 640 (not the benchmark's)"
    assert changes("ade20k_150", scales=(1.0, 1.5)) == "scales 1.0+1.5 (not 1.0)"


def test_words_do_not_count_for_prompts_nor_prompts_for_words():
    name = "coco_instances"
    assert changes(name, PROMPTS, merge__fill=False, templates="single") == ""
    assert changes(name, PROMPTS, prompts__modes=("box",)) == ""
    said = changes(name, PROMPTS, prompts__points_per_side=32)
    assert said == "prompts.points_per_side 32 (not 20)"
    assert changes("ade20k_150", prompts__seed=5) == ""


def test_settings_of_another_version_are_told():
    def settings(**changed):
        return {**as_json(deciding_settings(get_config("ade20k_150"))), **changed}

    known = known_settings(settings(), get_config)
    assert restored_config(settings(), known).merge.contained == 0.0
    merge = {name: value for name, value in settings()["merge"].items() if name != "contained"}
    for own, said, complaint in (
        (settings(merge=merge), "merge.contained unknown (not 0.0)", "no setting config.merge.con"),
        (settings(colour=1), "colour 1 (not unknown)", "its setting config.colour is unknown"),
    ):
        document = {"settings": {"config": own}, "scores": SEMANTIC}
        assert changed_settings(document, get_config) == said
        with pytest.raises(ValueError, match=complaint):
            restored_config(own, known)
    document = {"settings": {"config": settings(protocol="old")}, "scores": SEMANTIC}
    assert "of another version" in changed_settings(document, get_config)
