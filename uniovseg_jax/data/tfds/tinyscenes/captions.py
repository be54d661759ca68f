"""Captions of a scene in the two qualities of the web: raw alt text and refined descriptions.

Every caption starts from a list of mentions, in which things are forgotten, bared of their colour,
misnamed or invented at the stated rates; phrasing comes after. Some of the phrasing is such that a
parser without grammar gets it wrong ("a ball that is red", "grass covers the ground"), as it does
in real captions.
"""

import dataclasses

import numpy as np

from uniovseg_jax.data.tfds.tinyscenes.scenes import Scene
from uniovseg_jax.data.tfds.tinyscenes.world import STUFF, THINGS, Combination


@dataclasses.dataclass(frozen=True)
class CaptionRates:
    """How a caption departs from the scene; each a probability.

    Attributes:
      omit_thing: A thing is not mentioned.
      omit_stuff: A region is not mentioned.
      bare: A mentioned thing is named without its colour.
      wrong_noun: A mentioned thing is called something else.
      invent: The caption holds a thing that is not there.
      chatter: The caption holds words about nothing visible.
      awkward: A coloured thing is phrased so that a parser without grammar gets it wrong.
      terse: The articles are left out.
    """

    omit_thing: float
    omit_stuff: float
    bare: float
    wrong_noun: float
    invent: float
    chatter: float
    awkward: float
    terse: float


RATES = {
    "raw": CaptionRates(0.35, 0.4, 0.4, 0.07, 0.05, 0.5, 0.1, 0.35),
    "refined": CaptionRates(0.04, 0.06, 0.4, 0.02, 0.05, 0.0, 0.1, 0.0),
    # Object-centric pictures carry their subject in the alt text: fewer omissions than in scenes.
    "web": CaptionRates(0.08, 0.3, 0.4, 0.03, 0.0, 0.2, 0.1, 0.35),
    # The web val split says all there is to say, so that retrieval has one right answer.
    "complete": CaptionRates(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
}

_CHATTER = (
    "stock photo", "for sale", "free shipping", "summer day", "best price", "happy birthday",
    "my favourite moment", "limited edition", "download now", "new collection", "good morning",
    "great idea for kids",
)  # fmt: skip
_INVENTED = ("person", "bench", "bird", "road", "fence", "bicycle", "dog", "cloud")
_PRAISE = ("beautiful", "new", "nice", "old", "cute")
_ALT_FORMS = (
    "{t} on {s}", "{t} on the {s}", "{t} near {s}", "{t} over {s}", "{t}, {s}",
    "{t} in front of {s}", "{s} with {t}", "{s} behind {t}", "{t} with {s} around",
)  # fmt: skip
_OPENINGS = (
    "{} can be seen on {}",
    "The picture shows {} on {}",
    "There is {} on the {}",
    "In this picture {} is near {}",
)
_CONTINUATIONS = (
    "{} can be seen",
    "There is {}",
    "Next to it there is {}",
    "{} is visible nearby",
    "Behind it stands {}",
)
_GROUNDS = (
    "{} covers the ground",
    "{} fills a part of the picture",
    "The background is {}",
    "Behind everything there is {}",
    "{} can be seen around",
    "{} extends to the edge",
)
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")


@dataclasses.dataclass(frozen=True)
class Mention:
    """What a caption says about one thing or region.

    Attributes:
      noun: The noun used.
      colour: The colour word used, or None.
      thing: Index of the thing meant, or None.
      region: Index of the region meant, or None; an invention means neither.
      correct: Whether the noun is the true one of something in the scene.
    """

    noun: str
    colour: str | None
    thing: int | None
    region: int | None
    correct: bool

    @property
    def text(self) -> str:
        """The plain name used, whatever the phrasing around it."""
        return f"{self.colour} {self.noun}" if self.colour else self.noun


@dataclasses.dataclass(frozen=True)
class Caption:
    """A caption and what it set out to say."""

    text: str
    mentions: tuple[Mention, ...]


def make_caption(
    scene: Scene, quality: str, seen: tuple[Combination, ...], rng: np.random.Generator
) -> Caption:
    """Writes one caption.

    Args:
      scene: What to describe.
      quality: A key of `RATES`.
      seen: The combinations that may be named; a wrong noun never forms an unseen one.
      rng: Is advanced.
    """
    rates = RATES[quality]
    things = _mention_things(scene, rates, seen, rng)
    regions = [
        Mention(name, None, None, index, True)
        for index, name in enumerate(scene.stuff)
        if rng.random() >= rates.omit_stuff
    ]
    if not things and not regions:
        regions = [Mention(scene.stuff[0], None, None, 0, True)]
    phrases = _thing_phrases(things, rates, rng)
    if quality == "refined":
        text = _refined_text(phrases, [region.noun for region in regions], rng)
    else:
        text = _alt_text(phrases, [region.noun for region in regions], rates, rng)
    return Caption(text, tuple(things + regions))


def _mention_things(
    scene: Scene, rates: CaptionRates, seen: tuple[Combination, ...], rng: np.random.Generator
) -> list[Mention]:
    mentions = []
    for index in rng.permutation(len(scene.things)).tolist():
        thing = scene.things[index]
        if rng.random() < rates.omit_thing:
            continue
        noun = thing.noun
        if rng.random() < rates.wrong_noun:
            others = [n for n in THINGS if n != noun and (thing.colour, n) in seen]
            noun = str(rng.choice(others))
        colour = None if rng.random() < rates.bare else thing.colour
        mentions.append(Mention(noun, colour, index, None, noun == thing.noun))
    if rng.random() < rates.invent:
        mentions.append(Mention(str(rng.choice(_INVENTED)), None, None, None, False))
    return mentions


def _plural(noun: str) -> str:
    return noun + "es" if noun.endswith(("x", "s", "sh", "ch")) else noun + "s"


def _article(phrase: str) -> str:
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


def _thing_phrases(
    mentions: list[Mention], rates: CaptionRates, rng: np.random.Generator
) -> list[str]:
    """One noun phrase per different name; the same name twice becomes a plural."""
    counts: dict[str, tuple[Mention, int]] = {}
    for mention in mentions:
        counts[mention.text] = (mention, counts.get(mention.text, (mention, 0))[1] + 1)
    phrases = []
    terse = rng.random() < rates.terse
    pending = list(counts.values())
    while pending:
        mention, count = pending.pop(0)
        awkward = rng.random() < rates.awkward
        twin = next(
            (
                other
                for other, other_count in pending
                if other.noun == mention.noun and other.colour and mention.colour
                if other_count == count == 1
            ),
            None,
        )
        if twin is not None and (awkward or rng.random() < 0.3):
            pending.remove((twin, 1))
            phrases.append(f"{_article(mention.colour or '')} and {_article(twin.text)}")
        elif count > 1:
            phrases.append(f"{_NUMBERS[count]} {_plural(mention.text)}")
        elif awkward and mention.colour:
            form = rng.choice(("{} that is {}", "{} in {}", "{}, {} all over"))
            phrases.append(str(form).format(_article(mention.noun), mention.colour))
        elif awkward:
            form = rng.choice(("the side of {}", "a part of {}", "something like {}"))
            phrases.append(str(form).format(_article(mention.text)))
        elif terse:
            phrases.append(mention.text)
        else:
            phrases.append(_article(mention.text))
    return phrases


def _join(phrases: list[str]) -> str:
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]


def _alt_text(
    phrases: list[str], stuff: list[str], rates: CaptionRates, rng: np.random.Generator
) -> str:
    things = _join(phrases) if phrases else ""
    ground = _join(stuff) if stuff else ""
    if rates.chatter and things and rng.random() < 0.1:
        words = things.split(" ", 1)
        if words[0] in ("a", "an"):
            things = f"{_article(str(rng.choice(_PRAISE)))} {words[1]}"
    if things and ground:
        form = rng.choice(_ALT_FORMS)
        text = str(form).format(t=things, s=ground)
    else:
        text = things or ground
    if rng.random() < 0.3:
        text = str(rng.choice(("a photo of ", "picture of ", "a close-up of ", "view of "))) + text
    if rng.random() < rates.chatter:
        chatter = str(rng.choice(_CHATTER))
        text = f"{chatter}: {text}" if rng.random() < 0.25 else f"{text}, {chatter}"
    return text + ("." if rng.random() < 0.3 else "")


def _refined_text(phrases: list[str], stuff: list[str], rng: np.random.Generator) -> str:
    """Whole sentences, as a vision-language model writes them."""
    sentences = []
    ground = list(stuff)
    rest = list(phrases)
    while rest:
        take = min(len(rest), int(rng.integers(1, 4)))
        group, rest = _join(rest[:take]), rest[take:]
        if not sentences and ground and rng.random() < 0.6:
            form = str(rng.choice(_OPENINGS))
            sentences.append(form.format(group, ground.pop(0)))
        else:
            form = rng.choice(_CONTINUATIONS)
            sentences.append(str(form).format(group))
    for name in ground:
        form = rng.choice(_GROUNDS)
        sentences.append(str(form).format(name))
    return " ".join(sentence[0].upper() + sentence[1:] + "." for sentence in sentences)


assert not set(_INVENTED) & {*THINGS, *STUFF}
