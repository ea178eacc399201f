"""The registry of repairs: what each needs, costs and comes from, and how it is fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from workbench.normalize import bias as biases
from workbench.normalize.bias import BankStatistic, Of, bank_bias, tied_for_equal_items
from workbench.normalize.embedding import EmbeddingTransform
from workbench.normalize.gate import Gates, activation_set
from workbench.normalize.repaired import Repaired, score_blocks
from workbench.normalize.transport import sinkhorn
from workbench.types import FloatArray

Vectors = npt.NDArray[np.floating]
Kind = Literal["bias", "gated", "score transform", "embedding transform"]


class Fitted(Protocol):
    """A repair that has seen the gallery and its banks: gives the repaired search of any queries."""

    def __call__(self, queries: Vectors, memory: int) -> Repaired: ...


@dataclass(frozen=True, eq=False)
class Ingredients:
    """What a repair may learn from."""

    gallery: Vectors
    query_bank: Vectors | None
    gallery_bank: Vectors | None
    memory: int

    def blocks(self, more: Vectors | None = None) -> Iterable[FloatArray]:
        """Scores of the query bank against the gallery, and more items after it, block by block."""
        assert self.query_bank is not None
        items = self.gallery if more is None else np.concatenate([self.gallery, more])
        return score_blocks(self.query_bank, items)


@dataclass(frozen=True)
class Method:
    """One repair. needs : the banks without which it cannot be fitted. defaults : its parameters. grid : the parameter
    that belongs to validation data and the values to try. cost : beyond a search without it. source : paper, link."""

    kind: Kind
    summary: str
    needs: tuple[Of, ...]
    defaults: Mapping[str, float]
    cost: str
    source: str
    fit: Callable[..., Fitted] = field(repr=False)
    grid: tuple[str, tuple[float, ...]] | None = None


@dataclass(frozen=True, eq=False)
class BiasRepair:
    """One number per gallery item. note : what the fit has to say, such as whether it converged."""

    gallery: Vectors
    bias: FloatArray
    note: str = ""

    def __call__(self, queries: Vectors, memory: int) -> Repaired:
        return Repaired(queries, self.gallery, self.bias)


@dataclass(frozen=True, eq=False)
class GatedRepair:
    """Biases that a query uses or not, by its nearest item."""

    gallery: Vectors
    gates: Gates

    def __call__(self, queries: Vectors, memory: int) -> Repaired:
        return Repaired(queries, self.gallery, self.gates.stack, self.gates.rows(queries, self.gallery, memory=memory))


@dataclass(frozen=True, eq=False)
class ScoreRepair:
    """A function of a query's scores."""

    gallery: Vectors
    transform: Callable[[FloatArray], FloatArray]

    def __call__(self, queries: Vectors, memory: int) -> Repaired:
        return Repaired(queries, self.gallery, transform=self.transform)


@dataclass(frozen=True, eq=False)
class EmbeddingRepair:
    """Other vectors."""

    transform: EmbeddingTransform

    def __call__(self, queries: Vectors, memory: int) -> Repaired:
        return Repaired(self.transform(queries), self.transform.gallery)


def by_statistics(statistics: Callable[..., tuple[BankStatistic, ...]]) -> Callable[..., Fitted]:
    def fit(given: Ingredients, **parameters: Any) -> BiasRepair:
        wanted = statistics(**parameters)
        banks = given.query_bank, given.gallery_bank
        return BiasRepair(given.gallery, bank_bias(given.gallery, *banks, wanted, memory=given.memory))

    return fit


def by_sinkhorn(given: Ingredients, *, beta: float, max_iter: int, tolerance: float, dual: bool = False) -> BiasRepair:
    more = given.gallery_bank if dual else None
    assert given.query_bank is not None
    n_scores = len(given.query_bank) * (len(given.gallery) + (0 if more is None else len(more)))
    kept = list(given.blocks(more)) if 8 * n_scores <= given.memory else None
    found = sinkhorn(
        lambda: given.blocks(more) if kept is None else kept, beta=beta, max_iter=int(max_iter), tolerance=tolerance
    )
    state = "converged" if found.converged else f"not converged: last change {found.change:.1e}"
    note = f"{found.iterations} iterations, {state}"
    return BiasRepair(given.gallery, tied_for_equal_items(found.bias[: len(given.gallery)], given.gallery), note)


def by_dual_sinkhorn(given: Ingredients, **parameters: Any) -> BiasRepair:
    return by_sinkhorn(given, **parameters, dual=True)


def by_gates(given: Ingredients, *, beta: float, k: int, beta_gallery: float | None = None) -> GatedRepair:
    banks = [(given.query_bank, beta)] + ([] if beta_gallery is None else [(given.gallery_bank, beta_gallery)])
    parts, active = [], []
    for bank, own in banks:
        assert bank is not None
        wanted = biases.inverted_softmax_statistics(beta=own)
        parts.append(bank_bias(given.gallery, bank, None, wanted, memory=given.memory))
        active.append(activation_set(bank, given.gallery, k=int(k), memory=given.memory))
    return GatedRepair(given.gallery, Gates(tuple(parts), tuple(own for _, own in banks), tuple(active)))


def by_scores(transform: Any) -> Callable[..., Fitted]:
    def fit(given: Ingredients, **parameters: Any) -> ScoreRepair:
        return ScoreRepair(given.gallery, transform.fit(given.blocks(), **parameters))

    return fit


def by_vectors(transform: Callable[..., EmbeddingTransform]) -> Callable[..., Fitted]:
    def fit(given: Ingredients, **parameters: Any) -> EmbeddingRepair:
        return EmbeddingRepair(transform(given.gallery, given.query_bank, given.gallery_bank, **parameters))

    return fit
