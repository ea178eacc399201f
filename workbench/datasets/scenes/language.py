"""From a statement to a caption in five languages, with the agreement each of them asks for.

The first option of every choice is the canonical wording, the others are paraphrases with the same meaning. Nouns are
(singular, plural, gender); adjectives are stems (German) or masculine, feminine, and their plurals (French, Spanish).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from workbench.datasets.scenes.world import BACKGROUNDS, RELATIONS, VALUES, Dice, Mention, Statement

T = TypeVar("T")
ANY = None  # the noun for a mention without a stated shape
_Nouns = dict[str | None, tuple[tuple[str, str, str], ...]]
_Forms = dict[str, tuple[tuple[str, str, str, str], ...]]
_Lexicon = tuple[_Nouns, _Forms, _Forms, tuple[str, str], Sequence[str]]


class Pick(Protocol):
    """Chooses one of several wordings of the same meaning."""

    def __call__(self, options: Sequence[T]) -> T: ...


def caption(statement: Statement, language: str = "en", *, dice: Dice | None = None, paraphrase: float = 0.0) -> str:
    """The statement in words. Each choice of wording departs from the canonical one with probability ``paraphrase``.

    >>> caption(Statement((Mention("star", "orange", count=2), Mention("moon", size="small")), "gray"), "fr")
    'deux étoiles orange et un petit croissant de lune sur un fond gris'
    """
    if language not in LANGUAGES:
        raise ValueError(f"no captions in language {language!r}; there are {', '.join(LANGUAGES)}")
    if paraphrase and dice is None:
        raise ValueError("paraphrase above 0 needs dice, the source of random choices")

    chosen: dict[Sequence[Any], Any] = {}  # one caption says "big" or "large", not both

    def pick(options: Sequence[T]) -> T:
        if options not in chosen:
            other = dice is not None and len(options) > 1 and dice.chance(paraphrase)
            chosen[options] = options[1 + dice.below(len(options) - 1)] if dice and other else options[0]
        choice: T = chosen[options]
        return choice

    return LANGUAGES[language](statement, pick)


def words(text: str, language: str) -> list[str]:
    """The words of a caption; for Japanese, which is written without spaces, its characters."""
    return [sign for sign in text if sign.isalnum()] if language == "ja" else re.findall(r"\w+", text)


@lru_cache(maxsize=8)
def vocabulary(language: str) -> frozenset[str]:
    """All words (Japanese: characters) that captions can hold, in the sense of ``words``.

    >>> "triangle" in vocabulary("en"), "dog" in vocabulary("en")
    (True, False)
    """
    statements = _every_word()
    return frozenset(
        word
        for frame in range(5)  # no choice has more options
        for other in range(3)
        for statement in statements
        for word in words(_enumerated(statement, language, frame, other), language)
    )


def _every_word() -> list[Statement]:
    """Statements that together use every noun with every adjective, every number, relation and background."""
    shapes = (*VALUES["shape"], None)
    mentions = [Mention(count=n) for n in range(1, 10)]
    mentions += [Mention(shape, count=n) for shape in VALUES["shape"] for n in (1, 2)]
    for name in ("color", "size", "texture"):
        pairs = [(shape, value) for shape in shapes for value in VALUES[name]]
        mentions += [Mention(**{"shape": shape, name: value}, count=n) for shape, value in pairs for n in (1, 2)]
    statements = [Statement((mention,)) for mention in mentions]
    for background in (None, *BACKGROUNDS):
        for last in (Mention(), Mention(count=2)):
            statements += [Statement((Mention(), Mention(), last), background, name) for name in (None, *RELATIONS)]
    return statements


def _enumerated(statement: Statement, language: str, frame: int, other: int) -> str:
    """The wording that takes option ``frame`` in the first choice, which is the frame, and ``other`` in the rest."""
    n_calls = 0

    def pick(options: Sequence[T]) -> T:
        nonlocal n_calls
        n_calls += 1
        return options[(frame if n_calls == 1 else other) % len(options)]

    return LANGUAGES[language](statement, pick)


def _joined(parts: Sequence[str], comma: str, last: str) -> str:
    """One part, or "a and b", or "a, b and c"."""
    return last.join(([comma.join(parts[:-1])] if len(parts) > 1 else []) + list(parts[-1:]))


# ---------------------------------------------------------------------------------------------------------- English

_EN_NOUNS = {
    "circle": (("circle", "circles"), ("disc", "discs")),
    "square": (("square", "squares"),), "triangle": (("triangle", "triangles"),), "star": (("star", "stars"),),
    "heart": (("heart", "hearts"),), "cross": (("cross", "crosses"),),
    "diamond": (("diamond", "diamonds"), ("rhombus", "rhombuses")),
    "moon": (("moon", "moons"), ("crescent", "crescents")),
    ANY: (("shape", "shapes"), ("object", "objects"), ("figure", "figures")),
}  # fmt: skip
_EN_ADJECTIVES = {
    "small": ("small", "little", "tiny"), "large": ("large", "big"), "purple": ("purple", "violet"),
    "plain": ("plain", "solid"), "striped": ("striped", "stripy"), "dotted": ("dotted", "spotted"),
    "checked": ("checked", "checkered"), "gray": ("gray", "grey"),
}  # fmt: skip
_EN_RELATIONS = {
    "left of": ("to the left of", "left of"), "right of": ("to the right of", "right of"),
    "above": ("above", "over"), "below": ("below", "under"),
}  # fmt: skip
_EN_FRAMES = ("{list}", "an image of {list}", "a picture of {list}", "a drawing with {list}", "there {is} {list}")
_EN_SCENES = (
    "{list} on a {ground} background", "an image of {list} on a {ground} background",
    "on a {ground} background, {list}", "{list} against a {ground} background",
    "there {is} {list} on a {ground} background",
)  # fmt: skip
_EN_NUMBERS = ("a", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def _english(statement: Statement, pick: Pick) -> str:
    """Statement in English; "there is" or "there are" follows the first mention."""
    frame = pick(_EN_FRAMES if statement.background is None else _EN_SCENES)
    phrases = [_english_phrase(mention, pick) for mention in statement.mentions]
    if statement.relation is None:
        listed = _joined(phrases, ", ", " and ")
    else:
        listed = f"{phrases[0]} {pick(_EN_RELATIONS[statement.relation])} {phrases[1]}"
        if phrases[2:]:
            listed += pick((", plus ", ", together with ")) + _joined(phrases[2:], ", ", " and ")
    ground = pick(_EN_ADJECTIVES.get(statement.background, (statement.background,))) if statement.background else ""
    return frame.format(list=listed, ground=ground, **{"is": "is" if statement.mentions[0].count == 1 else "are"})


def _english_phrase(mention: Mention, pick: Pick) -> str:
    noun = pick(_EN_NOUNS[mention.shape])[mention.count > 1]
    texts = [value for value in (mention.size, mention.texture, mention.color) if value is not None]
    rest = " ".join([*(pick(_EN_ADJECTIVES.get(value, (value,))) for value in texts), noun])
    article = _EN_NUMBERS[mention.count - 1]
    return ("an " if article == "a" and rest[0] in "aeiou" else article + " ") + rest


# ----------------------------------------------------------------------------------------------------------- German

_DE_NOUNS = {  # singular, dative singular, plural, gender; the dative plural adds -n where it is missing
    "circle": (("Kreis", "Kreis", "Kreise", "m"),),
    "square": (("Quadrat", "Quadrat", "Quadrate", "n"),), "triangle": (("Dreieck", "Dreieck", "Dreiecke", "n"),),
    "star": (("Stern", "Stern", "Sterne", "m"),), "heart": (("Herz", "Herzen", "Herzen", "n"),),
    "cross": (("Kreuz", "Kreuz", "Kreuze", "n"),),
    "diamond": (("Raute", "Raute", "Rauten", "f"), ("Rhombus", "Rhombus", "Rhomben", "m")),
    "moon": (("Mond", "Mond", "Monde", "m"), ("Halbmond", "Halbmond", "Halbmonde", "m"),
             ("Mondsichel", "Mondsichel", "Mondsicheln", "f")),
    ANY: (("Form", "Form", "Formen", "f"), ("Figur", "Figur", "Figuren", "f"), ("Objekt", "Objekt", "Objekte", "n")),
}  # fmt: skip
_DE_STEMS = {
    "small": ("klein", "winzig"), "large": ("groß",), "red": ("rot",), "orange": ("orangefarben",),
    "yellow": ("gelb",), "green": ("grün",), "blue": ("blau",), "purple": ("violett", "lilafarben"),
    "black": ("schwarz",), "white": ("weiß",), "plain": ("einfarbig",), "striped": ("gestreift",),
    "dotted": ("gepunktet", "getupft"), "checked": ("kariert",), "gray": ("grau",), "beige": ("beigefarben",),
    "pink": ("rosafarben",), "light blue": ("hellblau",), "light green": ("hellgrün",),
}  # fmt: skip
_DE_ARTICLES = {
    "nom": {"m": "ein", "f": "eine", "n": "ein"}, "acc": {"m": "einen", "f": "eine", "n": "ein"},
    "dat": {"m": "einem", "f": "einer", "n": "einem"},
}  # fmt: skip
_DE_ENDINGS = {
    "nom": {"m": "er", "f": "e", "n": "es", "plural": "e"}, "acc": {"m": "en", "f": "e", "n": "es", "plural": "e"},
    "dat": {"m": "en", "f": "en", "n": "en", "plural": "en"},
}  # fmt: skip
_DE_RELATIONS = {
    "left of": ("links von",), "right of": ("rechts von",),
    "above": ("über", "oberhalb von"), "below": ("unter", "unterhalb von"),
}  # fmt: skip
_DE_FRAMES = (
    ("nom", "{list}"), ("dat", "ein Bild mit {list}"), ("acc", "das Bild zeigt {list}"),
    ("acc", "man sieht {list}"), ("nom", "zu sehen {is} {list}"),
)  # fmt: skip
_DE_SCENES = (
    ("nom", "{list} auf einem {ground}en Hintergrund"), ("nom", "{list} vor {ground}em Hintergrund"),
    ("dat", "ein Bild mit {list} auf {ground}em Hintergrund"),
    ("acc", "man sieht {list} vor einem {ground}en Hintergrund"),
    ("nom", "auf {ground}em Hintergrund {is} {list} zu sehen"),
)  # fmt: skip
_DE_NUMBERS = ("zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun")


def _german(statement: Statement, pick: Pick) -> str:
    case, frame = pick(_DE_FRAMES if statement.background is None else _DE_SCENES)
    cases = [case] * len(statement.mentions)
    if statement.relation is not None:
        cases[1] = "dat"
    phrases = [_german_phrase(mention, c, pick) for mention, c in zip(statement.mentions, cases, strict=True)]
    if statement.relation is None:
        listed = _joined(phrases, ", ", " und ")
        many = len(phrases) > 1
    else:
        listed = f"{phrases[0]} {pick(_DE_RELATIONS[statement.relation])} {phrases[1]}"
        many = len(phrases) > 2
        if many:  # where the first and the second mention differ in case, "sowie" tells what the rest belongs to
            joint = pick((", außerdem ", ", dazu ") if case == "dat" else (" sowie ",))
            listed += joint + _joined(phrases[2:], ", ", " und ")
    ground = pick(_DE_STEMS[statement.background]) if statement.background else ""
    many = many or statement.mentions[0].count > 1
    return frame.format(list=listed, ground=ground, **{"is": "sind" if many else "ist"})


def _german_phrase(mention: Mention, case: str, pick: Pick) -> str:
    singular, dative, plural, gender = pick(_DE_NOUNS[mention.shape])
    if mention.count == 1:
        noun, number = (dative if case == "dat" else singular), _DE_ARTICLES[case][gender]
    else:
        noun, number, gender = plural, _DE_NUMBERS[mention.count - 2], "plural"
        noun += "n" if case == "dat" and not noun.endswith("n") else ""
    stems = [pick(_DE_STEMS[value]) for value in (mention.size, mention.texture, mention.color) if value is not None]
    return " ".join([number, *(stem + _DE_ENDINGS[case][gender] for stem in stems), noun])


# ---------------------------------------------------------------------------------------------- French and Spanish

_FR_NOUNS: _Nouns = {
    "circle": (("cercle", "cercles", "m"), ("rond", "ronds", "m")),
    "square": (("carré", "carrés", "m"),), "triangle": (("triangle", "triangles", "m"),),
    "star": (("étoile", "étoiles", "f"),), "heart": (("cœur", "cœurs", "m"),), "cross": (("croix", "croix", "f"),),
    "diamond": (("losange", "losanges", "m"),),
    "moon": (("croissant de lune", "croissants de lune", "m"), ("lune", "lunes", "f")),
    ANY: (("forme", "formes", "f"), ("figure", "figures", "f"), ("objet", "objets", "m")),
}  # fmt: skip
_FR_BEFORE: _Forms = {
    "small": (("petit", "petite", "petits", "petites"),),
    "large": (("grand", "grande", "grands", "grandes"), ("gros", "grosse", "gros", "grosses")),
}
_FR_AFTER: _Forms = {
    "red": (("rouge", "rouge", "rouges", "rouges"),), "orange": (("orange",) * 4,),
    "yellow": (("jaune", "jaune", "jaunes", "jaunes"),), "green": (("vert", "verte", "verts", "vertes"),),
    "blue": (("bleu", "bleue", "bleus", "bleues"),),
    "purple": (("violet", "violette", "violets", "violettes"), ("mauve", "mauve", "mauves", "mauves")),
    "black": (("noir", "noire", "noirs", "noires"),), "white": (("blanc", "blanche", "blancs", "blanches"),),
    "plain": (("uni", "unie", "unis", "unies"),), "striped": (("à rayures",) * 4, ("rayé", "rayée", "rayés", "rayées")),
    "dotted": (("à pois",) * 4,), "checked": (("à carreaux",) * 4, ("à damier",) * 4),
}  # fmt: skip
_FR_GROUNDS = {
    "gray": ("gris",), "beige": ("beige",), "pink": ("rose",), "light blue": ("bleu clair",),
    "light green": ("vert clair",),
}  # fmt: skip
_FR_RELATIONS = {
    "left of": ("à gauche de",), "right of": ("à droite de",), "above": ("au-dessus de",),
    "below": ("au-dessous de", "en dessous de"),
}  # fmt: skip
_FR_FRAMES = ("{list}", "une image avec {list}", "un dessin montrant {list}", "on voit {list}", "il y a {list}")
_FR_SCENES = (
    "{list} sur un fond {ground}", "{list} sur fond {ground}", "une image avec {list} sur un fond {ground}",
    "sur un fond {ground}, on voit {list}", "il y a {list} sur fond {ground}",
)  # fmt: skip
_FR_NUMBERS = ("deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf")
_FR_LEXICON = (_FR_NOUNS, _FR_BEFORE, _FR_AFTER, ("un", "une"), _FR_NUMBERS)

_ES_NOUNS: _Nouns = {
    "circle": (("círculo", "círculos", "m"), ("disco", "discos", "m")),
    "square": (("cuadrado", "cuadrados", "m"),), "triangle": (("triángulo", "triángulos", "m"),),
    "star": (("estrella", "estrellas", "f"),), "heart": (("corazón", "corazones", "m"),),
    "cross": (("cruz", "cruces", "f"),), "diamond": (("rombo", "rombos", "m"),),
    "moon": (("luna", "lunas", "f"), ("media luna", "medias lunas", "f")),
    ANY: (("figura", "figuras", "f"), ("forma", "formas", "f"), ("objeto", "objetos", "m")),
}  # fmt: skip
_ES_BEFORE: _Forms = {
    "small": (("pequeño", "pequeña", "pequeños", "pequeñas"),), "large": (("gran", "gran", "grandes", "grandes"),),
}  # fmt: skip
_ES_AFTER: _Forms = {
    "red": (("rojo", "roja", "rojos", "rojas"),), "orange": (("naranja", "naranja", "naranjas", "naranjas"),),
    "yellow": (("amarillo", "amarilla", "amarillos", "amarillas"),), "green": (("verde", "verde", "verdes", "verdes"),),
    "blue": (("azul", "azul", "azules", "azules"),),
    "purple": (("morado", "morada", "morados", "moradas"), ("violeta", "violeta", "violetas", "violetas")),
    "black": (("negro", "negra", "negros", "negras"),), "white": (("blanco", "blanca", "blancos", "blancas"),),
    "plain": (("liso", "lisa", "lisos", "lisas"),), "striped": (("a rayas",) * 4, ("de rayas",) * 4),
    "dotted": (("de lunares",) * 4, ("a lunares",) * 4), "checked": (("a cuadros",) * 4, ("de cuadros",) * 4),
}  # fmt: skip
_ES_GROUNDS = {
    "gray": ("gris",), "beige": ("beige",), "pink": ("rosa",), "light blue": ("azul claro", "celeste"),
    "light green": ("verde claro",),
}  # fmt: skip
_ES_RELATIONS = {
    "left of": ("a la izquierda de",), "right of": ("a la derecha de",), "above": ("encima de", "por encima de"),
    "below": ("debajo de", "por debajo de"),
}  # fmt: skip
_ES_FRAMES = ("{list}", "una imagen con {list}", "un dibujo de {list}", "hay {list}", "{can} ver {list}")
_ES_SCENES = (
    "{list} sobre un fondo {ground}", "{list} sobre fondo {ground}", "una imagen con {list} sobre un fondo {ground}",
    "sobre un fondo {ground} hay {list}", "hay {list} sobre un fondo {ground}",
)  # fmt: skip
_ES_NUMBERS = ("dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve")
_ES_LEXICON = (_ES_NOUNS, _ES_BEFORE, _ES_AFTER, ("un", "una"), _ES_NUMBERS)


def _french(statement: Statement, pick: Pick) -> str:
    frame = pick(_FR_FRAMES if statement.background is None else _FR_SCENES)
    phrases = [_romance_phrase(mention, pick, _FR_LEXICON) for mention in statement.mentions]
    if statement.relation is None:
        listed = _joined(phrases, ", ", " et ")
    else:
        listed = f"{phrases[0]} {pick(_FR_RELATIONS[statement.relation])} {phrases[1]}".replace(" de un", " d'un")
        if phrases[2:]:
            joint = pick((", ainsi que ", ", plus ")) + _joined(phrases[2:], ", ", " et ")
            listed += joint.replace("que un", "qu'un")
    ground = pick(_FR_GROUNDS[statement.background]) if statement.background else ""
    return frame.format(list=listed, ground=ground)


def _spanish(statement: Statement, pick: Pick) -> str:
    frame = pick(_ES_FRAMES if statement.background is None else _ES_SCENES)
    phrases = [_romance_phrase(mention, pick, _ES_LEXICON) for mention in statement.mentions]
    if statement.relation is None:
        listed = _joined(phrases, ", ", " y ")
    else:
        listed = f"{phrases[0]} {pick(_ES_RELATIONS[statement.relation])} {phrases[1]}"
        if phrases[2:]:
            listed += pick((", además de ", ", junto con ")) + _joined(phrases[2:], ", ", " y ")
    ground = pick(_ES_GROUNDS[statement.background]) if statement.background else ""
    many = statement.mentions[0].count > 1 or (len(phrases) > 1 and statement.relation is None)
    return frame.format(list=listed, ground=ground, can="se pueden" if many else "se puede")


def _romance_phrase(mention: Mention, pick: Pick, lexicon: _Lexicon) -> str:
    """Number, size, noun, colour, texture, all in the gender and number of the noun."""
    nouns, before, after, articles, numbers = lexicon
    singular, plural, gender = pick(nouns[mention.shape])
    form = (gender == "f") + 2 * (mention.count > 1)
    number = articles[form] if mention.count == 1 else numbers[mention.count - 2]
    size = [pick(before[mention.size])[form]] if mention.size else []
    rest = [pick(after[value])[form] for value in (mention.color, mention.texture) if value is not None]
    return " ".join([number, *size, singular if mention.count == 1 else plural, *rest])


# --------------------------------------------------------------------------------------------------------- Japanese

_JA_NOUNS = {
    "circle": ("丸", "円"), "square": ("四角", "正方形"), "triangle": ("三角", "三角形"), "star": ("星",),
    "heart": ("ハート",), "cross": ("十字",), "diamond": ("ひし形", "ダイヤ"), "moon": ("三日月",), ANY: ("図形", "形"),
}  # fmt: skip
_JA_ADJECTIVES = {
    "small": ("小さな", "小さい"), "large": ("大きな", "大きい"), "red": ("赤い", "赤色の"),
    "orange": ("オレンジ色の", "オレンジの"), "yellow": ("黄色い", "黄色の"), "green": ("緑の", "緑色の"),
    "blue": ("青い", "青色の"), "purple": ("紫の", "紫色の"), "black": ("黒い", "黒色の"), "white": ("白い", "白色の"),
    "plain": ("無地の",), "striped": ("縞模様の", "ストライプの"), "dotted": ("水玉模様の", "ドット柄の"),
    "checked": ("市松模様の", "チェック柄の"),
}  # fmt: skip
_JA_GROUNDS = {
    "gray": ("灰色", "グレー"), "beige": ("ベージュ", "ベージュ色"), "pink": ("ピンク", "ピンク色"),
    "light blue": ("水色",), "light green": ("薄緑", "薄緑色"),
}  # fmt: skip
_JA_RELATIONS = {
    "left of": ("の左にある", "の左側にある"), "right of": ("の右にある", "の右側にある"),
    "above": ("の上にある", "の上方にある"), "below": ("の下にある", "の下方にある"),
}  # fmt: skip
_JA_FRAMES = ("{list}", "{list}がある画像", "{list}が描かれた絵", "{list}がある", "{list}が描かれている")
_JA_SCENES = (
    "{ground}の背景に{list}", "{ground}の背景に{list}がある", "{ground}の背景に{list}が描かれた絵",
    "背景は{ground}で、{list}がある", "{ground}の背景に{list}が描かれている",
)  # fmt: skip
_JA_NUMBERS = ("二", "三", "四", "五", "六", "七", "八", "九")


def _japanese(statement: Statement, pick: Pick) -> str:
    frame = pick(_JA_FRAMES if statement.background is None else _JA_SCENES)
    phrases = [_japanese_phrase(mention, pick) for mention in statement.mentions]
    if statement.relation is None:
        listed = "と、".join(phrases)
    else:
        listed = phrases[1] + pick(_JA_RELATIONS[statement.relation]) + phrases[0]
        if phrases[2:]:
            listed += "、それに" + "と、".join(phrases[2:])
    ground = pick(_JA_GROUNDS[statement.background]) if statement.background else ""
    return frame.format(list=listed, ground=ground)


def _japanese_phrase(mention: Mention, pick: Pick) -> str:
    noun = pick(_JA_NOUNS[mention.shape])
    values = [value for value in (mention.texture, mention.size, mention.color) if value is not None]
    described = "".join(pick(_JA_ADJECTIVES[value]) for value in values) + noun
    if mention.count == 1:
        return described
    number = pick((str(mention.count), _JA_NUMBERS[mention.count - 2])) + "つ"
    return pick((f"{number}の{described}", f"{described}{number}"))


LANGUAGES: dict[str, Callable[[Statement, Pick], str]] = {
    "en": _english, "de": _german, "fr": _french, "es": _spanish, "ja": _japanese,
}  # fmt: skip
