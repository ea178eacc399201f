"""Names of emoji in fourteen languages, from the ``emoji`` package, which takes them from Unicode CLDR.

The package spells them for programs: without colons between their parts, in most languages in lower case, and in
Russian and Arabic often without combining marks (the breve of й, vowel signs). They are used as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from workbench.datasets.emoji.families import TAG_END, Emoji

LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "ru", "tr", "ar", "fa", "id", "ja", "ko", "zh")
_FLAG = {"en": "flag", "zh": "旗"}  # the package leaves the word out in these two, and says only the country


def names(emoji: Sequence[Emoji], language: str) -> list[str]:
    """The short name of each in one language, as words: ":grinning_face:" is "grinning face".

    The flags of countries and their parts are "flag Peru" and "旗 秘鲁", as in the other languages.
    """
    import emoji as package

    if language not in LANGUAGES:
        raise ValueError(f"no names in {language!r}; there are {', '.join(LANGUAGES)}")
    package.config.load_language(language)
    found = []
    for one in emoji:
        words = package.EMOJI_DATA[one.text][language].strip(":").replace("_", " ").split()
        stated = [_FLAG[language]] if language in _FLAG and _of_a_place(one) else []
        found.append(" ".join(stated + words))
    return found


def _of_a_place(one: Emoji) -> bool:
    return "🇦" <= one.text[0] <= "🇿" or TAG_END in one.text
