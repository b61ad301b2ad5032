"""The words that toybox knows, and how a prompt becomes word numbers.

A prompt is lower-cased and split into words. Filler words are dropped and synonyms are replaced. Words that are still unknown
after that are reported, never guessed.
"""

from __future__ import annotations

import difflib
import re

NOUNS = (
    "airplane", "ball", "boat", "bottle", "cactus", "car", "chair", "cube", "donut", "duck", "fish", "flower",
    "house", "lamp", "mug", "mushroom", "robot", "rocket", "snowman", "sofa", "table", "tower", "tree", "umbrella",
)  # fmt: skip
COLOURS = {
    "red": (0.85, 0.10, 0.10), "orange": (0.96, 0.50, 0.08), "yellow": (0.96, 0.84, 0.12), "green": (0.14, 0.62, 0.20),
    "blue": (0.12, 0.28, 0.88), "purple": (0.50, 0.16, 0.72), "pink": (0.97, 0.56, 0.76), "brown": (0.50, 0.30, 0.15),
    "black": (0.11, 0.11, 0.13), "white": (0.95, 0.95, 0.95),
}  # fmt: skip
"""Display RGB in [0, 1] of each colour word."""
SIZES = ("small", "big", "tall", "wide")
LANDSCAPES = ("desert", "forest", "mountains", "sea", "sky", "town")
TIMES = ("dawn", "noon", "sunset", "night")

FILLERS = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "at",
        "in",
        "on",
        "with",
        "by",
        "from",
        "to",
        "this",
        "that",
        "some",
        "one",
        "it",
        "is",
        "very",
        "single",
        "image",
        "picture",
        "photo",
        "render",
        "view",
    ]
)
SYNONYMS = {
    "plane": "airplane", "aeroplane": "airplane", "aircraft": "airplane", "jet": "airplane", "sphere": "ball",
    "ship": "boat", "sailboat": "boat", "automobile": "car", "seat": "chair", "armchair": "sofa", "couch": "sofa",
    "box": "cube", "block": "cube", "doughnut": "donut", "torus": "donut", "ring": "donut", "cup": "mug",
    "home": "house", "cottage": "house", "toadstool": "mushroom", "android": "robot",
    "spaceship": "rocket", "desk": "table", "castle": "tower", "pine": "tree", "fir": "tree", "parasol": "umbrella",
    "violet": "purple", "little": "small", "tiny": "small", "large": "big",
    "huge": "big", "high": "tall", "broad": "wide", "dune": "desert", "dunes": "desert", "woods": "forest",
    "mountain": "mountains", "hills": "mountains", "alps": "mountains", "ocean": "sea", "beach": "sea",
    "clouds": "sky", "city": "town", "village": "town", "sunrise": "dawn", "morning": "dawn", "day": "noon",
    "midday": "noon", "daytime": "noon", "dusk": "sunset", "evening": "sunset", "midnight": "night",
}  # fmt: skip

SPECIAL = ("<pad>", "<start>", "and")
VOCABULARY = (*SPECIAL, *NOUNS, *COLOURS, *SIZES, *LANDSCAPES, *TIMES)
INDEX = {word: number for number, word in enumerate(VOCABULARY)}
PAD, START = 0, 1
LENGTH = 12
"""The number of word numbers per prompt, including <start>. Shorter prompts are padded."""


def split(prompt: str) -> tuple[list[str], list[str]]:
    """Return the known words of a prompt, in order and in the vocabulary's spelling, and its unknown words.

    Example:
        >>> split("a large red unicorn")
        (['big', 'red'], ['unicorn'])
    """
    known, unknown = [], []
    for word in re.findall(r"[^\W_]+", prompt.lower()):
        forms = (SYNONYMS.get(form, form) for form in (word, word.removesuffix("s")))
        found = next((form for form in forms if form in INDEX), None)
        if found is not None:
            known.append(found)
        elif word not in FILLERS:
            unknown.append(word)
    return known, unknown


def closest(word: str, count: int = 3) -> list[str]:
    """Return at most `count` known words that are spelled like `word`, or that have a synonym spelled like it."""
    near = difflib.get_close_matches(word, [*VOCABULARY[len(SPECIAL) :], *SYNONYMS], n=count, cutoff=0.6)
    return list(dict.fromkeys(SYNONYMS.get(found, found) for found in near))


def encode(prompt: str, name: str = "prompt") -> list[int]:
    """Return the LENGTH word numbers of a prompt: <start>, the known words, padding. Unknown words are dropped.

    Args:
        prompt: The prompt.
        name: What the error message calls the prompt.

    Raises:
        ValueError: If the prompt has more than LENGTH - 1 known words.
    """
    known, _ = split(prompt)
    if len(known) > LENGTH - 1:
        raise ValueError(
            f"the {name} has {len(known)} words that toybox knows, but at most {LENGTH - 1} fit: shorten it"
        )
    numbers = [START, *(INDEX[word] for word in known)]
    return numbers + [PAD] * (LENGTH - len(numbers))


def split_colours(numbers: list[int]) -> tuple[list[int], list[str]]:
    """Split the word numbers (LENGTH) of a prompt into those of other words, padded to LENGTH, and the names of its colours.

    If there are at least two colours, "and" is kept, because it tells the template that the accent has a colour of its own.
    """
    first = INDEX[next(iter(COLOURS))]
    named = [VOCABULARY[number] for number in numbers if first <= number < first + len(COLOURS)]
    dropped = {INDEX[name] for name in named} | ({INDEX["and"]} if len(named) < 2 else set())
    kept = [number for number in numbers if number not in dropped and number != PAD]
    return kept + [PAD] * (LENGTH - len(kept)), named


def is_landscape(prompt: str) -> bool:
    """Return whether a prompt names a landscape and no object."""
    known = set(split(prompt)[0])
    return bool(known & set(LANDSCAPES)) and not known & set(NOUNS)
