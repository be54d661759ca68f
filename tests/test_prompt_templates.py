"""The published prompts, and how names go into them."""

import pytest

from uniovseg_jax.prompt_templates import TEMPLATES, fill


def test_template_lists_have_the_published_lengths_and_one_gap_each():
    lengths = {"single": 1, "vild14": 14, "vild63": 63, "imagenet80": 80}
    assert {name: len(templates) for name, templates in TEMPLATES.items()} == lengths
    for templates in TEMPLATES.values():
        assert all(template.count("{}") == 1 for template in templates)
        assert len(set(templates)) == len(templates)
    assert sum(t.endswith(".") for t in TEMPLATES["vild14"]) == 10


def test_the_prompts_for_imagenet_are_those_of_open_clip(open_clip):
    published = [template("owl") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    assert [fill(template, "owl") for template in TEMPLATES["imagenet80"]] == published


def test_vild_says_this_is_before_an_article_and_nowhere_else():
    starts = {fill(template, "owl").split(" ")[0] for template in TEMPLATES["vild63"]}
    assert starts == {"This", "There", "itap"}
    assert sum("{article}" in template for template in TEMPLATES["vild63"]) == 15


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("owl", "itap of an owl."),
        ("Apple tree", "itap of an Apple tree."),
        ("ball", "itap of a ball."),
        # By the letter, as in the source.
        ("hour glass", "itap of a hour glass."),
        ("unicorn", "itap of an unicorn."),
        ("", "itap of a ."),
        ("{article}", "itap of a {article}."),
    ],
)
def test_articles_go_by_the_first_letter(name, prompt):
    assert "itap of {article} {}." in TEMPLATES["vild63"]
    assert fill("itap of {article} {}.", name) == prompt
