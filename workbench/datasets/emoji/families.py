"""What follows from the code points of an emoji: its skin tone, its gender, its group, and the base it is a form of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

JOINER, SELECTOR, KEYCAP, TAG_END = "\u200d", "\ufe0f", "\u20e3", "\U000e007f"
TONES = {"🏻": "light", "🏼": "medium-light", "🏽": "medium", "🏾": "medium-dark", "🏿": "dark"}
_SIGNS = {"♂": "man", "♀": "woman"}
_MEN = {"👨": "🧑", "👦": "🧒", "👴": "🧓", "🤴": "🫅", "🫃": "🫄", "🎅": "🧑‍🎄", "🕺": "💃", "👬": "🧑‍🤝‍🧑"}
_WOMEN = {"👩": "🧑", "👧": "🧒", "👵": "🧓", "👸": "🫅", "🤰": "🫄", "🤶": "🧑‍🎄", "💃": "💃", "👭": "🧑‍🤝‍🧑"}
_TOGETHER = {"👫": "🧑‍🤝‍🧑", "💑": "🧑‍❤‍🧑", "💏": "🧑‍❤‍💋‍🧑"}
_JOINED = {"🫱‍🫲": "🤝", "🧑‍🐰‍🧑": "👯", "🧑‍🫯‍🧑": "🤼"}  # how two of different tones are written
_NEUTRAL = {**_MEN, **_WOMEN, **_TOGETHER}
_FLAGS = "🏁🚩🎌🏳🏴"


@dataclass(frozen=True)
class Emoji:
    """One emoji: its code points, what it is a form of, and the columns that slices can be made of.

    base : the code points of the form without skin tone and gender, which all forms of a family share. tone : "light"
    to "dark", "several", or "" for none. gender : "man", "woman", "both", "neutral" where the family has other forms,
    else "". group : "people", "face", "flag", "keycap", "clock", "moon", "symbol" or "picture". version : of Emoji, the
    Unicode standard, in which it appeared.
    """

    text: str
    base: str
    tone: str
    gender: str
    group: str
    version: float

    @property
    def id(self) -> str:
        """Its code points.

        >>> Emoji("👩🏽", "🧑", "medium", "woman", "people", 1.0).id
        '1f469-1f3fd'
        """
        return "-".join(f"{ord(letter):x}" for letter in self.text)


@lru_cache(maxsize=1)
def inventory() -> tuple[Emoji, ...]:
    """Every fully qualified emoji that the ``emoji`` package knows, in the order of the code points."""
    import emoji

    whole = emoji.STATUS["fully_qualified"]
    known = {text: float(about["E"]) for text, about in emoji.EMOJI_DATA.items() if about["status"] == whole}
    people = frozenset(text[0] for text in known if any(tone in text for tone in TONES))
    gendered = {base_of(text) for text in known if gender_of(text)}
    found = []
    for text in sorted(known):
        base = base_of(text)
        gender = gender_of(text) or ("neutral" if base in gendered else "")
        found.append(Emoji(text, base, tone_of(text), gender, group_of(text, people), known[text]))
    return tuple(found)


def base_of(text: str) -> str:
    """The code points without skin tones, gender and variation selectors: the same for all forms of a family.

    >>> base_of("👩🏽‍⚕️") == base_of("👨‍⚕️") == base_of("🧑‍⚕️"), base_of("🧑🏿‍🦰") == base_of("🧑🏿‍🦳")
    (True, False)
    """
    plain = "".join(letter for letter in text if letter != SELECTOR and letter not in TONES)
    parts = plain.split(JOINER)
    kept = [part for part in parts if part not in _SIGNS] or parts
    base = JOINER.join(_NEUTRAL.get(part, part) for part in kept)
    return _JOINED.get(base, base)


def tone_of(text: str) -> str:
    """The skin tone, "several" where people of one emoji differ, "" without.

    >>> tone_of("👋🏿"), tone_of("👋"), tone_of("🧑🏻‍🤝‍🧑🏾")
    ('dark', '', 'several')
    """
    tones = {TONES[letter] for letter in text if letter in TONES}
    return "several" if len(tones) > 1 else "".join(tones)


def gender_of(text: str) -> str:
    """The gender that the code points state: "man", "woman", "both" or "".

    >>> gender_of("🏃🏽‍♀️"), gender_of("👨‍👩‍👧"), gender_of("🏃"), gender_of("♀️")
    ('woman', 'both', '', '')
    """
    letters = [letter for letter in text if letter != SELECTOR and letter not in TONES]
    stated = {"man" for letter in letters if letter in _MEN} | {"woman" for letter in letters if letter in _WOMEN}
    if JOINER in letters:
        stated |= {_SIGNS[letter] for letter in letters if letter in _SIGNS}
    return "both" if len(stated) > 1 or "👫" in letters else "".join(stated)


def group_of(text: str, people: Iterable[str]) -> str:
    """The kind of thing shown; ``people`` are the code points that take a skin tone, hands among them.

    "symbol" : the older characters of the Basic Multilingual Plane and enclosed letters. "picture" : all the rest.
    """
    first = ord(text[0])
    if 0x1F1E6 <= first <= 0x1F1FF or text[0] in _FLAGS:
        return "flag"
    if KEYCAP in text:
        return "keycap"
    if text[0] in people or text[0] == "👪":
        return "people"
    for group, ranges in _RANGES.items():
        if any(low <= first <= high for low, high in ranges):
            return group
    return "picture"


_RANGES = {
    "clock": ((0x1F550, 0x1F567),),
    "moon": ((0x1F311, 0x1F31E),),
    "face": (
        (0x1F600, 0x1F644), (0x1F910, 0x1F917), (0x1F920, 0x1F92F), (0x1F970, 0x1F97A), (0x1FAE0, 0x1FAEF),
    ),
    "symbol": ((0, 0xFFFF), (0x1F100, 0x1F2FF)),
}  # fmt: skip
