"""Which answers pass as descriptions; no plain English caption may be turned away."""

import pytest

from uniovseg_jax.captions.descriptions import check_description, whole_sentences


@pytest.mark.parametrize(
    "text",
    [
        "Un perro marr\u00f3n est\u00e1 sentado en una mesa con un plato.",
        "Um cachorro marrom est\u00e1 sentado em uma mesa de madeira na cozinha.",
        "Un cane marrone \u00e8 seduto su un tavolo di legno in cucina.",
        "Un chien brun est assis sur une table en bois dans la cuisine.",
        "Ein brauner Hund sitzt auf einem Holztisch in der K\u00fcche.",
        "De hond zit op een houten tafel naast het raam in de keuken.",
        "Un perro marro\u0301n esta\u0301 sentado en el sofa\u0301 de la sala.",
        "\u7403" * 9,
    ],
)
def test_other_languages_are_not_english(text):
    with pytest.raises(ValueError, match="not in English"):
        check_description(text)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that request.",
        "I\u2019m sorry, I can\u2019t help with that.",
        "Sorry, I cannot describe people.",
        "I cannot see any image attached.",
        "I am unable to view images.",
        "I don't have the ability to see images.",
        "Unfortunately, I can not view the image.",
        "I apologize, but no image was given.",
        "As an AI language model, I cannot see.",
        "No image was provided.",
        "There is no image attached to your message.",
        "Please upload the image again.",
    ],
)
def test_refusals_describe_nothing(text):
    with pytest.raises(ValueError, match="does not describe the image"):
        check_description(text)


@pytest.mark.parametrize(
    "text",
    [
        "A brown dog sits on a glass table",
        "dog",
        "red ball, green grass, blue sky, brown dog, white fence, two tall trees, wooden house",
        "Sunny beach palm trees white sand blue water people umbrellas towels",
        "Caf\u00e9 de la Paix",
        "A sign of the Caf\u00e9 de la Paix hangs above the door of a shop in Paris.",
        "A bus to El Prado and Las Palmas de Gran Canaria stands at the Plaza de la Marina.",
        "The die lies beside a van in a pan, an old man on his own.",
        "Sorry, we are closed, says a sign on a door.",
        "A sign that reads I cannot see you. Please upload the image.",
        "As an aid to a man, a dog carries a bag.",
        "There is no image on the white screen.",
        "No image is on the wall, only a clock.",
        "I-shaped beams lie on the ground.",
        "Please wait here, says a sign.",
    ],
)
def test_plain_english_passes(text):
    assert check_description(f" {text}\n") == text


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("A brown dog sits on a gla", ""),
        ("A church of St. Mary and a", ""),
        ("A dog sits there. A cat lies on a", "A dog sits there."),
        ("A dog sits there. A cat lies on a mat.", "A dog sits there. A cat lies on a mat."),
        ('A sign says "Stop here." A cat of 3.5 kg', 'A sign says "Stop here."'),
        ("A dog sits there! Is it a church of St. Mary in", "A dog sits there!"),
        ("", ""),
    ],
)
def test_what_was_cut_off_ends_with_a_whole_sentence(text, whole):
    assert whole_sentences(text) == whole
