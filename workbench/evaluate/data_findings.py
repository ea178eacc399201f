"""Findings about the input itself: counts against the card, unreadable items, batching, lengths of vectors."""

from __future__ import annotations

from typing import Any

from workbench.evaluate.prepare import Prepared
from workbench.types import Finding

BATCH_LIMIT = 1e-5


def data_findings(prepared: Prepared) -> list[Finding]:
    """What the reader must know about the input before any score."""
    found = [_counts(prepared), _relevance(prepared), _unreadable(prepared)]
    if prepared.invariance is not None:
        found.append(_batching(prepared))
    if prepared.norms:
        found.append(_norms(prepared))
    if prepared.collection.lint is not None:
        found.append(_repeated_results(prepared.collection.lint))
    return found


def _counts(prepared: Prepared) -> Finding:
    counts, card = prepared.counts, prepared.collection.card
    if not card.expected:
        advice = f"{counts.line()}. The card states no expected counts: compare with the paper you want to match."
        return Finding("data/counts", None, None, None, "the card", "not measurable", advice)
    if counts.mismatches:
        advice = (
            "; ".join(counts.mismatches)
            + ". Scores on another selection are not comparable; check the split and the number of images kept."
        )
        return Finding("data/counts", float(len(counts.mismatches)), None, 0.0, "the card", "look", advice)
    advice = f"{counts.line()}: as the card promises."
    return Finding("data/counts", 0.0, None, 0.0, "the card", "ok", advice)


def _relevance(prepared: Prepared) -> Finding:
    """What is known to be right, and what had to be assumed or left out to know it."""
    pairs, notes = prepared.counts.pairs, " ".join(prepared.collection.notes)
    if not prepared.judged:
        advice = f"{notes} Nothing is known to be right, so no metric is measurable: bring judgements with qrels=FILE."
        return Finding("data/relevance", None, None, None, "the data", "not measurable", advice.strip())
    if not notes:
        advice = f"{pairs:,} pairs are known to be right; whatever else is right counts as wrong."
        return Finding("data/relevance", float(pairs), None, None, "the data", "ok", advice)
    return Finding("data/relevance", float(pairs), None, None, "the data", "look", notes)


def _unreadable(prepared: Prepared) -> Finding:
    bad = prepared.collection.bad
    share = len(bad) / (len(bad) + len(prepared.images))
    if not bad:
        return Finding(
            "data/unreadable", 0.0, None, 0.0, "every listed item", "ok", "Nothing was left out as unreadable."
        )
    named = ", ".join(f"{item.id} ({item.reason})" for item in bad[:3]) + (", ..." if len(bad) > 3 else "")
    advice = (
        f"{len(bad)} items were left out with their captions, so the gallery is smaller than stated: {named}. "
        "All are listed beside the counts."
    )
    return Finding("data/unreadable", share, None, 0.0, "every listed item", "look", advice, "%")


def _repeated_results(lint: Any) -> Finding:
    """The same item twice in one list: a user sees it twice, and a metric that counts both can pass 100 %."""
    share = lint.n_repeated / max(lint.n_results, 1)
    if not lint.n_repeated:
        return Finding("lists/repeated results", 0.0, None, 0.0, "no list repeats an item", "ok",
                       f"No item is twice in one of the {lint.n_lists:,} lists.", "%")  # fmt: skip
    advice = (
        f"{lint.n_repeated:,} of {lint.n_results:,} results in {lint.n_lists_with_repeats:,} of {lint.n_lists:,} lists "
        "repeat an item of the same list. Each is scored at its best place; remove repeats where the lists are made."
    )
    return Finding("lists/repeated results", share, None, 0.0, "no list repeats an item", "look", advice, "%")


def _batching(prepared: Prepared) -> Finding:
    assert prepared.invariance is not None
    error = prepared.invariance.max_cosine_error
    source = "convention of this report: float32 stays near 1e-7, bf16 near 1e-3"
    if error <= BATCH_LIMIT:
        verdict, advice = "ok", "A vector does not depend on what else is in its batch."
    else:
        verdict, advice = "look", "Vectors change with their batch. Encode in float32, and state the batch size."
    return Finding("encoder/batch invariance", error, None, BATCH_LIMIT, source, verdict, advice)  # type: ignore[arg-type]


def _norms(prepared: Prepared) -> Finding:
    low = min(pair[0] for pair in prepared.norms.values())
    high = max(pair[1] for pair in prepared.norms.values())
    spread = high / low - 1 if low > 0 else float("inf")
    if spread < 1e-3:
        advice, verdict = "All vectors have the same length: cosine and dot product rank alike.", "ok"
    else:
        advice, verdict = (
            f"Vectors are {low:.3g} to {high:.3g} long, so cosine and dot product rank differently; "
            "make sure that similarity= is the one the model was trained for.", "look",
        )  # fmt: skip
    return Finding("vectors/length spread", min(spread, 1e9), None, 1e-3, "equal lengths", verdict, advice)  # type: ignore[arg-type]
