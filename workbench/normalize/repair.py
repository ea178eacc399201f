"""One estimator for all repairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from workbench.normalize.bank import Bank
from workbench.normalize.bias import Of
from workbench.normalize.methods import BiasRepair, Fitted, Ingredients, Method, Vectors
from workbench.normalize.registry import METHODS
from workbench.normalize.repaired import Repaired
from workbench.types import FloatArray


class Repair:
    """A repair by name, with the interface of scikit-learn: parameters, ``fit``, ``transform``, ``clone``.

    name : a key of :data:`METHODS`. parameters : as in ``METHODS[name].defaults``; left out ones take these.

    >>> bank = Bank(np.array([[0.6, 0.8], [1.0, 0.0]]), "inductive")
    >>> repair = Repair("csls", k=1).fit(np.eye(2), bank)
    >>> repair.bias, repair
    (array([0.5, 0.4]), Repair('csls', k=1))
    """

    def __init__(self, name: str, **parameters: float) -> None:
        if name not in METHODS:
            raise ValueError(f"no repair {name!r}; there are {', '.join(METHODS)}")
        self.name, self.parameters = name, parameters
        unknown = [each for each in parameters if each not in self.method.defaults]
        if unknown:
            known = ", ".join(self.method.defaults) or "none"
            raise ValueError(f"{name!r} has no parameter {unknown[0]!r}; its parameters: {known}")

    @property
    def method(self) -> Method:
        return METHODS[self.name]

    @property
    def settings(self) -> dict[str, float]:
        """All parameters, defaults included."""
        return {**self.method.defaults, **self.parameters}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {"name": self.name, **self.parameters}

    def set_params(self, **parameters: Any) -> Self:
        name = parameters.pop("name", self.name)
        own = self.parameters if name == self.name else {}
        Repair.__init__(self, name, **{**own, **parameters})
        return self

    def fit(
        self,
        gallery: Vectors,
        bank: Bank | None = None,
        gallery_bank: Bank | None = None,
        *,
        keys: Sequence[str] | None = None,
        memory: int = 2**28,
    ) -> Self:
        """Learn what is needed of the gallery (n_gallery, dim) from a bank of queries and one of other items.

        Refuses a gallery bank that holds items of the gallery; ``keys`` of the gallery are held against those of the
        bank. Nothing is changed in place.
        """
        given: dict[Of, Bank | None] = {"query bank": bank, "gallery bank": gallery_bank}
        missing = [each for each in self.method.needs if given[each] is None]
        if missing:
            raise ValueError(f"{self.name!r} needs a {' and a '.join(missing)}; give fit(gallery, bank, gallery_bank)")
        gallery = np.asanyarray(gallery)
        if gallery_bank is not None and "gallery bank" in self.method.needs:
            gallery_bank.refuse_overlap(gallery, "gallery items", keys)
        vectors = [None if each is None else each.vectors for each in (bank, gallery_bank)]
        self.bank, self.gallery_bank = bank, gallery_bank
        self.fitted: Fitted = self.method.fit(Ingredients(gallery, vectors[0], vectors[1], memory), **self.settings)
        return self

    def transform(self, queries: Vectors, *, keys: Sequence[str] | None = None, memory: int = 2**28) -> Repaired:
        """The repaired search of some queries (n_queries, dim).

        Refuses queries that are in the bank, unless the bank says that it is transductive.
        """
        if not hasattr(self, "fitted"):
            raise ValueError(f"{self!r} is not fitted; call fit(gallery, bank) first")
        if self.bank is not None and "query bank" in self.method.needs:
            self.bank.refuse_overlap(queries, "scored queries", keys)
        return self.fitted(np.asanyarray(queries), memory)

    @property
    def bias(self) -> FloatArray:
        """(n_gallery,) of a fitted repair that is a bias."""
        fitted = getattr(self, "fitted", None)
        if not isinstance(fitted, BiasRepair):
            raise ValueError(f"{self!r} has no bias: it is " + ("not fitted" if fitted is None else self.method.kind))
        return fitted.bias

    @property
    def note(self) -> str:
        """What the fit has to say, such as whether it converged; empty if nothing."""
        return getattr(getattr(self, "fitted", None), "note", "")

    def __repr__(self) -> str:
        return f"Repair({', '.join([repr(self.name), *(f'{key}={value:g}' for key, value in self.settings.items())])})"
