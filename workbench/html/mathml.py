"""The part of TeX that reports use, as MathML: letters, numbers, scripts, fractions, roots, sums, words."""

from __future__ import annotations

import re
import unicodedata
from html import escape

_WORDS = r"\\(?:text|textrm|mathrm|operatorname)\s*\{[^{}]*\}"
_TOKEN = re.compile(_WORDS + r"|\\[A-Za-z]+|\\.|\d+(?:\.\d+)?|[A-Za-z]|\s+|.", re.DOTALL)
_GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi"
_LETTERS = dict(zip(_GREEK.split(), "αβγδεζηθικλμνξπρστυφχψ", strict=True)) | {
    "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Pi": "Π", "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ",
    "Omega": "Ω", "omega": "ω", "ell": "ℓ", "infty": "∞", "emptyset": "∅", "varepsilon": "ε",
}  # fmt: skip
_OPERATORS = {
    "cdot": "·", "times": "×", "pm": "±", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "ne": "≠", "neq": "≠",
    "approx": "≈", "sim": "∼", "in": "∈", "notin": "∉", "subset": "⊂", "cup": "∪", "cap": "∩", "to": "→",
    "rightarrow": "→", "mapsto": "↦", "ldots": "…", "dots": "…", "cdots": "⋯", "mid": "∣", "|": "‖", "langle": "⟨",
    "rangle": "⟩", "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "top": "⊤", "propto": "∝", "forall": "∀",
    "exists": "∃", "partial": "∂", "nabla": "∇", "sum": "∑", "prod": "∏", "int": "∫", "{": "{", "}": "}", "%": "%",
    "_": "_", "&": "&", "#": "#", "$": "$",
}  # fmt: skip
_LARGE = {"sum", "prod", "max", "min", "argmax", "argmin", "lim", "sup", "inf"}
_FUNCTIONS = {"log", "exp", "max", "min", "sin", "cos", "tan", "lim", "sup", "inf", "argmax", "argmin", "Pr", "det"}
_ACCENTS = {"hat": "^", "bar": "¯", "tilde": "~", "vec": "→", "dot": "˙", "overline": "¯"}
_FONTS = {"mathbb": "DOUBLE-STRUCK", "mathcal": "SCRIPT", "mathbf": "BOLD"}
_SPACES = {",": "0.17em", ";": "0.28em", ":": "0.22em", " ": "0.33em", "quad": "1em", "qquad": "2em", "!": "0em"}
_SIZES = {"left", "right", "big", "Big", "bigl", "bigr"}


def mathml(tex: str, *, block: bool = False) -> str:
    r"""MathML for a formula; ValueError names a command outside the supported part.

    >>> mathml(r"n_k")
    '<math><msub><mi>n</mi><mi>k</mi></msub></math>'
    >>> mathml(r"\frac{1}{2}", block=True)
    '<math display="block"><mfrac><mn>1</mn><mn>2</mn></mfrac></math>'
    """
    reader = _Reader(tex)
    try:
        body = reader.row(until=None)
    except IndexError:
        raise ValueError(f"TeX ends too early: ${tex.strip()}$") from None
    return f'<math display="block">{body}</math>' if block else f"<math>{body}</math>"


class _Reader:
    """Reads a formula from left to right; every method consumes tokens and returns MathML."""

    def __init__(self, tex: str) -> None:
        self.tex = tex
        self.tokens = [token for token in _TOKEN.findall(tex) if not token.isspace()]
        self.position = 0

    def row(self, until: str | None) -> str:
        parts = []
        while True:
            if self.position == len(self.tokens) and until is None:
                break
            if self.tokens[self.position] == until:
                self.position += 1
                break
            parts.append(self.scripted())
        body = "".join(parts)
        return body if len(parts) == 1 else f"<mrow>{body}</mrow>"

    def scripted(self) -> str:
        """One atom with its subscript and superscript."""
        token = self.tokens[self.position]
        base = self.atom()
        scripts: dict[str, str] = {}
        while self.position < len(self.tokens) and self.tokens[self.position] in "_^'":
            sign = self.tokens[self.position]
            self.position += 1
            scripts["^" if sign == "'" else sign] = "<mo>′</mo>" if sign == "'" else self.atom()
        if not scripts:
            return base
        below, above = ("munder", "mover") if token.lstrip("\\") in _LARGE else ("msub", "msup")
        name = {"_": below, "^": above, "_^": below + above.removeprefix("m")}["".join(sorted(scripts, reverse=True))]
        return f"<{name}>{base}{scripts.get('_', '')}{scripts.get('^', '')}</{name}>"

    def atom(self) -> str:
        token = self.tokens[self.position]
        self.position += 1
        if token == "{":
            return self.row(until="}")
        if token.startswith("\\"):
            return self.command(token[1:])
        if token[0].isdigit():
            return f"<mn>{token}</mn>"
        if token.isalpha():
            return f"<mi>{token}</mi>"
        if token in "^_}&":
            raise ValueError(f"unexpected {token!r} in the TeX ${self.tex.strip()}$")
        return f"<mo>{escape('−' if token == '-' else token)}</mo>"

    def command(self, name: str) -> str:
        if name in _LETTERS:
            return f"<mi>{_LETTERS[name]}</mi>"
        if name in _OPERATORS:
            return f"<mo>{escape(_OPERATORS[name])}</mo>"
        if name in _FUNCTIONS:
            return f"<mi>{name}</mi>"
        if name in _SPACES:
            return f'<mspace width="{_SPACES[name]}"></mspace>'
        if name in _SIZES:
            return self.atom() if self.tokens[self.position] != "." else self.nothing()
        return self.structure(name)

    def structure(self, name: str) -> str:
        if name in ("frac", "tfrac", "dfrac"):
            return f"<mfrac>{self.atom()}{self.atom()}</mfrac>"
        if name == "sqrt":
            return f"<msqrt>{self.atom()}</msqrt>"
        if name in _ACCENTS:
            return f'<mover accent="true">{self.atom()}<mo>{_ACCENTS[name]}</mo></mover>'
        if name in _FONTS:
            return f"<mi>{_in_font(self.letter(), _FONTS[name])}</mi>"
        if "{" in name:
            return f"<mtext>{escape(name[name.index('{') + 1 : -1])}</mtext>"
        raise ValueError(f"\\{name} in the TeX ${self.tex.strip()}$ is not supported; write it in words or as MathML")

    def letter(self) -> str:
        group = self.tokens[self.position : self.position + 3]
        if group[0] != "{":
            self.position += 1
            return group[0]
        if len(group) < 3 or group[2] != "}":
            raise ValueError(f"only one letter can be set in another font in the TeX ${self.tex.strip()}$")
        self.position += 3
        return group[1]

    def nothing(self) -> str:
        self.position += 1
        return ""


def _in_font(letter: str, font: str) -> str:
    """The Unicode mathematical letter, such as ℝ for R in DOUBLE-STRUCK."""
    kind = unicodedata.name(letter, "").removeprefix("LATIN ").replace(" LETTER", "")  # "CAPITAL R", "DIGIT ONE"
    for name in (f"MATHEMATICAL {font} {kind}", f"{font} {kind}"):
        try:
            return unicodedata.lookup(name)
        except KeyError:
            continue
    raise ValueError(f"there is no {letter!r} in the font {font.lower()}")
