"""The parts of the ledger page that no report has: verdict badges, the overview, and the card of a paper."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.html.display import Display, escape

_LOOKS = {"holds": ("ok", "✓"), "fails": ("problem", "✗"), "inconclusive": ("not-measurable", "?")}


def badge(answer: str) -> str:
    """The verdict in word and sign; an answer that is not one of the three words has a sign of its own."""
    look, sign = _LOOKS.get(answer, ("look", "◐"))
    return f'<span class="wb-{look}"><span class="wb-verdict">{sign} {escape(answer)}</span></span>'


def overview(rows: Sequence[tuple[str, str, str, str, str]]) -> Display:
    """All papers on one screen. rows : (anchor, key and title, claim, short answer, decisive number)."""
    lines = "".join(
        f'<li><a href="#{escape(anchor)}">{escape(title)}</a>{badge(answer)}'
        f'<p class="wb-advice">{escape(claim)}</p><p class="wb-line">{escape(number)}</p></li>'
        for anchor, title, claim, answer, number in rows
    )
    text = "\n".join(f"{answer}: {title}. {claim} {number}" for _, title, claim, answer, number in rows)
    return Display(f'<div class="wb wb-overview"><ol>{lines}</ol></div>', text)


def paper(byline: str, link: str, claim: str, short: str, answer: str) -> Display:
    """The head of a paper's section: who, where, what they say, what came out here, shortly and in full."""
    body = (
        f'<div class="wb wb-paper"><p class="wb-line">{escape(byline)} <a href="{escape(link)}">{escape(link)}</a></p>'
        f"<blockquote><p>{escape(claim)}</p></blockquote>"
        f'<p class="wb-answer">{badge(short)} {escape("" if answer == short else answer)}</p></div>'
    )
    return Display(body, f"{byline} {link}\n{claim}\nverdict: {answer}")


def facts(rows: Sequence[tuple[str, Sequence[str]]], *, title: str) -> Display:
    """Names with one or several paragraphs each; rows without a paragraph are left out."""
    kept = [(name, [one for one in said if one]) for name, said in rows]
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{''.join(f'<p>{escape(one)}</p>' for one in said)}</dd></div>"
        for name, said in kept
        if said
    )
    text = "\n".join(f"{name}: {' '.join(said)}" for name, said in kept if said)
    return Display(
        f'<div class="wb wb-card wb-prose"><p class="wb-title">{escape(title)}</p><dl>{items}</dl></div>', text
    )
