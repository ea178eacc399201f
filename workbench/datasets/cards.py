"""Cards: what a source says about its data. Shipped ones lie in ``data/cards``; own data may bring ``card.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from workbench.datasets.collection import Card
from workbench.datasets.tables import read_json
from workbench.shipped import find

SHARES = ("full", "no-images", "no-content")
CARD_BYTES = 2**20


def read_card(path: Path) -> Card:
    """A card from JSON of at most 1 MiB; an unknown field is an error with the nearest known one."""
    stated = read_json(path, limit=CARD_BYTES)
    if not isinstance(stated, dict):
        raise ValueError(f"{path.name} must hold one JSON object; got {type(stated).__name__}")
    stated.pop("schema", None)
    known = [item.name for item in fields(Card)]
    for name, value in stated.items():
        if name not in known:
            nearest = get_close_matches(name, known, n=1) or known
            raise ValueError(f"{path.name}: unknown field {name[:80]!r}; did you mean {nearest[0]!r}?")
        if not isinstance(value, dict if name == "expected" else str):
            wanted = 'an object of counts such as {"images": 1000}' if name == "expected" else "text"
            raise ValueError(f"{path.name}: {name!r} must be {wanted}; got {type(value).__name__}")
    _check_values(stated, path.name)
    return Card(**{"name": path.parent.name, **stated})


def _check_values(stated: Mapping[str, Any], where: str) -> None:
    for what, number in stated.get("expected", {}).items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise ValueError(
                f"{where}: 'expected' must hold whole numbers such as {{\"images\": 1000}}; got {number!r:.40} for "
                f"{what[:80]!r}"
            )
    share = stated.get("share", "full")
    if share not in SHARES:
        nearest = get_close_matches(share, SHARES, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"{where}: 'share' must be one of {', '.join(SHARES)}; got {share[:80]!r}{hint}")


def shipped_cards() -> dict[str, Card]:
    """The cards that travel with the package, by name."""
    cards = (read_card(path) for path in sorted(find("data/cards").glob("*.json")))
    return {card.name: card for card in cards}


def card_of(folder: Path, default_name: str) -> Card:
    """The card beside someone's own data, or one on which everything but the name is not stated.

    A ``card.json`` that is a link out of the folder is an error: what it points to is not part of the data.
    """
    path = folder / "card.json"
    if not path.exists():
        return Card(name=default_name)
    refuse_link_outside(path, folder)
    return read_card(path)


def refuse_link_outside(path: Path, folder: Path) -> None:
    """An error when a file of the data is a link to somewhere else."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{path.name} is a link that leads out of its folder, which is not followed; put a copy there")
