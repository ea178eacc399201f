"""Cards: what a source says about its data. Shipped ones lie in ``data/cards``; own data may bring ``card.json``."""

from __future__ import annotations

import json
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path

from workbench.datasets.collection import Card
from workbench.shipped import find


def read_card(path: Path) -> Card:
    """A card from JSON; an unknown field is an error with the nearest known one."""
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path.name} is not JSON: {error}") from None
    if not isinstance(stated, dict):
        raise ValueError(f"{path.name} must hold one JSON object; got {type(stated).__name__}")
    stated.pop("schema", None)
    known = [item.name for item in fields(Card)]
    for name, value in stated.items():
        if name not in known:
            nearest = get_close_matches(name, known, n=1) or known
            raise ValueError(f"{path.name}: unknown field {name!r}; did you mean {nearest[0]!r}?")
        if not isinstance(value, dict if name == "expected" else str):
            raise ValueError(f"{path.name}: {name!r} must be {'an object of counts' if name == 'expected' else 'text'}")
    return Card(**{"name": path.parent.name, **stated})


def shipped_cards() -> dict[str, Card]:
    """The cards that travel with the package, by name."""
    cards = (read_card(path) for path in sorted(find("data/cards").glob("*.json")))
    return {card.name: card for card in cards}


def card_of(folder: Path, default_name: str) -> Card:
    """The card beside someone's own data, or one on which everything but the name is not stated."""
    path = folder / "card.json"
    return read_card(path) if path.exists() else Card(name=default_name)
