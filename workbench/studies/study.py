"""What a study is: the card of a paper, claims that can fail, and a function that measures one seed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from workbench.types import Embeddings, Relevance

Size = Literal["tiny", "small", "full"]
SIZES: tuple[Size, ...] = ("tiny", "small", "full")
FEWEST_SEEDS = 5

#: condition -> arm -> value. One seed of a study, in the units of its claims.
Arms = Mapping[str, Mapping[str, float]]
#: condition -> arm -> published values, several where a paper gives several seeds.
Facts = Mapping[str, Mapping[str, tuple[float, ...]]]


@dataclass(frozen=True)
class Card:
    """A paper and what is asked of it.

    key : "S06". claim : one sentence, as the paper has it. conditions : under which the paper says so. expected : what
    should be seen, direction and size. refuses : the imitation that would look alike and prove nothing. tuned : how the
    baselines were given the same care as the method. deviations : where the official code does something else than the
    paper. prior : what an earlier, separate trial of the mechanism found, "" if there was none.
    """

    key: str
    title: str
    authors: tuple[str, ...]
    venue: str
    year: int
    link: str
    claim: str
    conditions: str
    expected: str
    refuses: str
    tuned: str
    deviations: tuple[str, ...] = ()
    prior: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"S\d\d", self.key):
            raise ValueError(f"a card's key is S and two digits, such as S06; got {self.key!r}")
        empty = [name for name, value in vars(self).items() if not value and name not in ("deviations", "prior")]
        if empty:
            raise ValueError(f"the card of {self.key} lacks {', '.join(empty)}")
        if not self.link.startswith("https://"):
            raise ValueError(f"the link of {self.key} must be an https address; got {self.link!r}")


@dataclass(frozen=True)
class Claim:
    """``arm`` beats the strongest of ``controls`` by at least ``least`` under ``condition``.

    says : the claim as half a sentence. better : which way is better. least : smallest difference that counts, in
    ``unit``; negative for "loses no more than". fake : the arm that stands in for ``arm`` when the study is asked
    whether it can fail; the claim must then not hold. check : not the paper's claim but what must hold for the
    experiment to see anything; a check that does not hold makes the study inconclusive.
    """

    says: str
    condition: str
    arm: str
    controls: tuple[str, ...]
    fake: str
    unit: str
    least: float = 0.0
    better: Literal["higher", "lower"] = "higher"
    check: bool = False

    def __post_init__(self) -> None:
        if not self.controls or self.arm in self.controls:
            raise ValueError(f"{self.says!r} needs controls other than its own arm; got {self.controls}")
        if self.fake == self.arm:
            raise ValueError(f"{self.says!r}: the fake is the arm itself")


@dataclass(frozen=True)
class Study:
    """A paper's mechanism as an experiment.

    measure : (seed, size) -> arms; the same numbers for the same arguments. seconds : of processor, stated by size,
    all seeds together. blind : the arms that know nothing (shuffled, constant, random, centroid): at least one.
    facts : published numbers that need no seed. own : measures one seed on somebody's own embeddings, (texts, images,
    relevance (n_texts, n_images), seed) -> arms, where the mechanism allows; ``own_claims`` are judged on it.
    """

    card: Card
    claims: tuple[Claim, ...]
    measure: Callable[[int, Size], Arms]
    seconds: Mapping[Size, float]
    blind: tuple[str, ...]
    seeds: Mapping[Size, int] = field(default_factory=lambda: {"tiny": 5, "small": 5, "full": 10})
    facts: Callable[[], Facts] | None = None
    own: Callable[[Embeddings, Embeddings, Relevance, int], Arms] | None = None
    own_claims: tuple[Claim, ...] = ()

    def __post_init__(self) -> None:
        if not self.blind:
            raise ValueError(f"{self.card.key} needs an arm that knows nothing: shuffled, constant, random or centroid")
        few = [size for size in SIZES if self.seeds.get(size, 0) < FEWEST_SEEDS]
        if few:
            raise ValueError(f"{self.card.key} needs {FEWEST_SEEDS} seeds or more at every size; too few at {few}")
        if set(self.seconds) != set(SIZES):
            raise ValueError(f"{self.card.key} must state its cost in seconds for {', '.join(SIZES)}")
        if (self.own is None) != (not self.own_claims):
            raise ValueError(f"{self.card.key}: own and own_claims belong together")

    @property
    def key(self) -> str:
        """The key of the paper."""
        return self.card.key

    @property
    def family(self) -> str:
        """The folder the study lives in, which is the notebook it is told in."""
        return "".join(self.measure.__module__.split(".")[-2:-1])
