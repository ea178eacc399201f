"""What training on one task does to the others: models against tasks, and what each model gained and forgot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from workbench.types import FloatArray


@dataclass(frozen=True, eq=False)
class Transfer:
    """accuracy (n_models, n_tasks) in 0..1; baseline : the model that nobody trained; trained : model -> its tasks."""

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    accuracy: FloatArray
    baseline: str
    trained: Mapping[str, tuple[str, ...]]

    @property
    def change(self) -> FloatArray:
        """(n_models, n_tasks) accuracy above that of the baseline."""
        return self.accuracy - self.accuracy[self.models.index(self.baseline)]

    def gained(self, model: str) -> float:
        """Least change over the tasks that the model was trained on."""
        row = self.change[self.models.index(model)]
        return float(min(row[self.tasks.index(task)] for task in self.trained[model]))

    def forgot(self, model: str) -> float:
        """Change on the task, not trained on, where the model lost most; nan when it was trained on all."""
        row = self.change[self.models.index(model)]
        others = [row[i] for i, task in enumerate(self.tasks) if task not in self.trained.get(model, ())]
        return float(min(others)) if others else float("nan")

    def table(self) -> list[dict[str, Any]]:
        """One row per model, one column per task, in points."""
        return [
            {"model": model, **{task: 100 * float(value) for task, value in zip(self.tasks, row, strict=True)}}
            for model, row in zip(self.models, self.accuracy, strict=True)
        ]

    def flat(self) -> dict[str, float]:
        """Accuracy by ``model/task``."""
        return {
            f"{model}/{task}": float(self.accuracy[i, j])
            for i, model in enumerate(self.models) for j, task in enumerate(self.tasks)
        }  # fmt: skip


def transfer_matrix(
    accuracy: Mapping[str, Mapping[str, npt.ArrayLike]], *, baseline: str, trained: Mapping[str, Sequence[str]]
) -> Transfer:
    """From the correctness of every model on every task to gains and losses against a baseline.

    accuracy : model -> task -> per-question correctness (n_questions,), ties counting a share, or one number in 0..1.
    trained : model -> the tasks it was trained on. Errors: models with other tasks, a value outside 0..1.

    >>> found = transfer_matrix({"zero-shot": {"a": 0.8, "b": 0.7}, "on a": {"a": 0.9, "b": 0.5}},
    ...                         baseline="zero-shot", trained={"on a": ["a"]})
    >>> round(found.gained("on a"), 2), round(found.forgot("on a"), 2)
    (0.1, -0.2)
    """
    tasks = tuple(next(iter(accuracy.values()), {}))
    if baseline not in accuracy or not tasks:
        raise ValueError(f"the baseline {baseline!r} is none of {', '.join(accuracy) or 'no models'}")
    for model, found in accuracy.items():
        if tuple(found) != tasks:
            raise ValueError(f"{model!r} was tried on {', '.join(found)}; expected {', '.join(tasks)}")
    unknown = {task for names in trained.values() for task in names} - set(tasks)
    if unknown or set(trained) - set(accuracy):
        raise ValueError(f"trained names {sorted(unknown | (set(trained) - set(accuracy)))}, which were not tried")
    table = np.array([[np.mean(np.asarray(found[task], np.float64)) for task in tasks] for found in accuracy.values()])
    if not ((table >= 0) & (table <= 1)).all():
        raise ValueError("accuracies must lie in 0..1")
    return Transfer(tuple(accuracy), tasks, table, baseline, {name: tuple(given) for name, given in trained.items()})
