"""English word lists of the parser and the entity clean-up; general words, no list of objects."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Articles, possessives, numerals and quantifiers: taken off the front of a phrase.
DETERMINERS = _words(
    """
    a an the this that these those my your his her its our their whose some any no each every all
    both either neither another other such many much more most few several various numerous
    multiple plenty enough different half one two three four five six seven eight nine ten eleven
    twelve dozen dozens hundred hundreds thousand thousands
    """
)
# Taken off the front as well; behind another word they are what is seen ("parking lot").
AMOUNTS = _words("lot lots couple pair")

PRONOUNS = _words(
    """
    i me you he him she it we us they them mine yours ours theirs myself yourself itself himself
    herself themselves someone something somebody anyone anything everyone everything nothing
    nobody who whom what which there here everywhere somewhere
    """
)

# Words that say how a picture was taken, and amounts and manners that nobody can point at. A phrase
# whose last word is one of them is dropped.
PICTURE_WORDS = _words(
    """
    image images photo photos photograph photographs picture pictures pic snapshot shot shots
    close-up closeup background foreground backdrop scene scenes view views variety collection
    kind kinds type types sort sorts distance surroundings atmosphere setting appearance presence
    detail details style illustration vector clipart wallpaper stock caption video screenshot
    portrait image's majority amount series
    """
)

# Places in a picture, parts and amounts. A phrase of nothing else, or of one of them behind words
# of size, direction or praise, is dropped; behind any other word they are what is seen, as in
# "mountain range".
PLACE_WORDS = _words(
    """
    side sides part parts piece pieces portion section area areas group groups set sets number
    bunch top bottom middle center centre left right front back edge edges corner rest row rows
    range end ends way ways lot lots first second third single double top-left top-right
    bottom-left bottom-right upper-left upper-right lower-left lower-right left-hand right-hand
    """
)
PLACE_MODIFIERS = _words(
    """
    upper lower central rear far near opposite outer inner hand large larger small smaller big
    huge great good vast wide whole entire main long short full little tiny certain new old nice
    beautiful pretty cute
    """
)

# A phrase ends at any of these. Prepositions, conjunctions, auxiliaries and adverbs.
FUNCTION_WORDS = _words(
    """
    aboard about above across after against along alongside amid among amongst around as at atop
    before behind below beneath beside besides between beyond by despite down during except for
    from in inside into like near nearby next of off on onto opposite out outside over past per
    since than through throughout to toward towards under underneath until up upon via with within
    without and but or nor so yet because although though while if when where whereas is are was
    were be been being am has have had having do does did can could will would shall should may
    might must not n't very too also just only then now quite rather perhaps probably apparently
    together away apart forward partly mostly nearly almost it's there's that's
    """
)

# Common verbs of captions, in the forms in which they stand between two noun phrases.
_VERB_STEMS = _words(
    """
    show depict feature contain include display hold carry wear ride drive walk run jump play
    eat drink watch look face stand sit lie lay rest lean hang float fly sail swim grow cover
    surround fill extend stretch appear seem reach cross pass park place stack mount attach
    connect reflect shine illuminate overlook dominate occupy rise fall flow touch overlap hide
    use make take give get go come see keep put wait talk smile pull push throw catch hit swing
    """
)
_IRREGULAR_VERBS = _words(
    """
    shown held worn riding rides driving hung flew flown stood sitting sat lying lies laid grew
    grown running ran eaten ate made making taken took taking given gave giving went gone going
    came coming seen saw seeing kept putting getting got using used places swimming hitting lain
    placed parked located situated positioned visible dressed
    """
)


def _inflect(stem: str) -> set[str]:
    base = stem[:-1] if stem.endswith("e") else stem
    third = stem + ("es" if stem.endswith(("sh", "ch", "s", "x")) else "s")
    if stem.endswith("y") and stem[-2] not in "aeiou":
        third, past = stem[:-1] + "ies", stem[:-1] + "ied"
    else:
        past = base + "ed"
    return {third, past, base + "ing"}


# Base forms are left out: "play", "cover" or "face" in a caption is more often a noun; "parking" is
# hardly ever anything but a part of one.
VERBS = (
    frozenset(form for stem in _VERB_STEMS for form in _inflect(stem)) - {"parking"}
    | _IRREGULAR_VERBS
    | _words("show contain include depict appear seem wear hold carry see make get go come")
)
