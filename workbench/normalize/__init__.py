"""Repairs for hubness: what a few items that are close to everything cost, and how to take it back.

A repair is one of four things: a *bias* per gallery item that is subtracted from its scores; a bias *gated* by the
nearest item of the query; a *transform of the scores* of a query; a *transform of the vectors*. :class:`Repair` is one
estimator for all of them, :data:`METHODS` the registry; ``softmax`` and ``local`` hold the biases as formulas on a
matrix of bank scores, to be read.

    bank = Bank(train_texts, "inductive", "train")
    repaired = Repair("inverted softmax", beta=50.0).fit(images, bank).transform(texts)
    lists, ranks = repaired.search(10, relevance)

A repair is only as honest as its bank: see :data:`Provenance`, :func:`cross_fit_folds` and :func:`tune`.
"""

from workbench.normalize.bank import Bank, Provenance, cross_fit_folds
from workbench.normalize.bias import BankStatistic, bank_bias, tied_for_equal_items
from workbench.normalize.domain import BankDomain, bank_domain
from workbench.normalize.gate import activation_set
from workbench.normalize.local import csls, mean_centering, nnn
from workbench.normalize.methods import Method
from workbench.normalize.registry import METHODS
from workbench.normalize.repair import Repair
from workbench.normalize.repaired import Repaired, search_all
from workbench.normalize.softmax import dual_inverted_softmax, inverted_softmax
from workbench.normalize.transport import Sinkhorn, sinkhorn, sinkhorn_bias
from workbench.normalize.tuning import Tuned, tune

__all__ = [
    "METHODS",
    "Bank",
    "BankDomain",
    "BankStatistic",
    "Method",
    "Provenance",
    "Repair",
    "Repaired",
    "Sinkhorn",
    "Tuned",
    "activation_set",
    "bank_bias",
    "bank_domain",
    "cross_fit_folds",
    "csls",
    "dual_inverted_softmax",
    "inverted_softmax",
    "mean_centering",
    "nnn",
    "search_all",
    "sinkhorn",
    "sinkhorn_bias",
    "tied_for_equal_items",
    "tune",
]
