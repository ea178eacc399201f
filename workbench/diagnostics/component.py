"""Is the component alive? Whether a part of a model is trained, is listened to, and earns anything.

A published module can be disconnected in its code: detached, multiplied by zero, saturated, or deaf to its input, while
the rest of the model carries the result. Three questions find that, each answered by measuring: does a gradient reach
its parameters, does the output of the model change when the component does, and what does the score lose when its input
is shuffled or its output is replaced by something that knows nothing of the item.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from workbench.diagnostics.interventions import change, tensors_in, watched
from workbench.statistics import PairedDifference, holm, paired_difference
from workbench.types import Finding, FloatArray, Verdict

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

CONTROLS = {
    "shuffled input": "the component sees another item of the batch",
    "shuffled output": "what it says of another item",
    "random": "Gaussian numbers with the mean and spread that each output has",
    "mean": "its mean output over the batch, for every item",
    "centroid": "the same mean, at the length that its outputs have",
    "constant": "one number, the mean of all its outputs",
    "zero": "nothing",
}
DEPENDENCE = ("shuffled input", "other parameters", "shuffled output", "zero")
BY_CHANCE = ("shuffled input", "other parameters", "shuffled output", "random")
VANISHING = 1e-6
MOVES = 1e-5
LEVEL = 0.05
SOURCE = "convention of this project"
NO_ITEMS = (
    "Nothing it is given has one row per item of the batch (sequence first?), so items cannot be exchanged in it."
)


@dataclass(frozen=True)
class GradientReach:
    """Where the gradient of the loss arrives.

    name, n : parameter tensor and its numbers. trainable : requires_grad. nonzero : share of its numbers with a finite
    gradient other than zero. finite : none is NaN or infinite. size : length of the gradient over that of all gradients
    of the model.
    """

    name: str
    n: int
    trainable: bool
    nonzero: float
    finite: bool
    size: float

    @property
    def reached(self) -> bool:
        return self.trainable and self.finite and self.nonzero > 0 and self.size >= VANISHING


@dataclass(frozen=True, eq=False)
class ComponentAlive:
    """What was seen of one component of a model.

    calls : how often a forward pass calls it. gradient : one entry per parameter tensor.
    moves : how far the output of the model moves, as root mean square over its spread across the batch, by what was
        changed; noise : the same between two unchanged passes.
    score : mean score of the model as it is, NaN without a score. costs : score of the model as it is minus its score
        under a control, paired by item. p_holm : of these, corrected. seeds : of everything random.
    """

    component: str
    calls: int
    gradient: tuple[GradientReach, ...]
    moves: Mapping[str, float]
    noise: float
    score: float
    costs: Mapping[str, PairedDifference]
    p_holm: Mapping[str, float]
    seeds: tuple[int, ...]

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Verdict by check: gradient, output, input, score."""
        return {found.name.partition("/")[2].split(" ")[0]: found.verdict for found in self.findings()}

    @property
    def alive(self) -> bool:
        """No check ends in "problem"."""
        return "problem" not in self.verdicts.values()

    def table(self) -> pd.DataFrame:
        """One row per change: how far the output moves, and what the score loses."""
        import pandas as pd

        rows = []
        for name in dict.fromkeys([*self.moves, *self.costs]):
            cost = self.costs.get(name)
            numbers = [np.nan] * 4 if cost is None else [-cost.value, -cost.high, -cost.low, self.p_holm[name]]
            rows.append([name, self.moves.get(name, np.nan), *numbers, CONTROLS.get(name, "10 % noise on each")])
        names = ["change", "output moves", "score lost", "low", "high", "p (Holm)", "what"]
        return pd.DataFrame(rows, columns=names).set_index("change")

    def plot(self, ax: Any = None) -> Any:
        """What each control costs, with intervals."""
        from workbench.plots import consistency

        return consistency.costs(self, ax)

    def findings(self) -> list[Finding]:
        """One finding per check: gradient, output, input, and score where one was given."""
        found = [_gradient_finding(self), _output_finding(self), _input_finding(self)]
        return found + ([_score_finding(self)] if self.costs else [])

    def flat(self) -> dict[str, float]:
        """Numbers by ``component/name measure``."""
        values = {f"moved by {name}": value for name, value in self.moves.items()}
        values |= {f"lost by {name}": -cost.value for name, cost in self.costs.items()}
        return {f"component/{self.component} {name}": value for name, value in values.items() if np.isfinite(value)}

    def _repr_html_(self) -> str:
        return str(self.table().to_html(float_format=lambda value: f"{value:.3g}", na_rep=""))


def component_alive(
    model: nn.Module,
    component: str,
    batch: Sequence[Any],
    loss: Callable[[Any], Tensor],
    *,
    score: Callable[[Any], npt.ArrayLike] | None = None,
    clusters: npt.ArrayLike | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    n_resamples: int = 2000,
) -> ComponentAlive:
    """Look whether a submodule is trained, is listened to, and earns its place; the model is left as it was.

    model : called as ``model(*batch)``, in evaluation mode. component : dotted name of a submodule, as in
    ``model.named_modules()``. batch : tensors whose first axis is the item, or anything else the model takes. Where a
    component has the items on another axis (sequence first), controls that cannot be made are left out.
    loss(output) : a scalar to train on. score(output) : (n_items,) per item, higher is better, such as a reciprocal
    rank. clusters (n_items,) : items that belong together. seeds : of shuffles and noise; costs are means over them.

    gradient : every parameter of the component gets a finite gradient that is not zero (and not a millionth of all).
    output : the model's output moves when the component's parameters or its output change.
    input : the model's output moves when the component is shown other items of the batch.
    score : the controls (see ``CONTROLS``) cost score: paired by item, sign flips, corrected by Holm.
    Errors: no such submodule, fewer than two items, a loss that is no scalar, a score of another length, NaN in the
    output or a score.

    >>> import torch
    >>> head = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh())
    >>> found = component_alive(head, "0", [torch.eye(4, 3)], lambda output: output.sum())
    >>> found.alive, found.verdicts
    (True, {'gradient': 'ok', 'output': 'ok', 'input': 'ok'})
    """
    import torch

    part = _part(model, component)
    training = {module: module.training for module in model.modules()}
    with torch.random.fork_rng(devices=[]):
        try:
            model.eval()
            torch.default_generator.manual_seed(seeds[0])
            calls, gradient = _gradient(model, part, batch, loss)
            with torch.no_grad():
                moves, noise, scores = _changed(model, part, batch, score, seeds)
        finally:
            for module, mode in training.items():
                module.training = mode
    costs = _costs(scores, clusters, n_resamples, seeds[0])
    corrected = holm([cost.p_value for cost in costs.values()]) if costs else []
    return ComponentAlive(
        component, calls, gradient, moves, noise, float(scores["as it is"].mean()) if scores else float("nan"), costs,
        dict(zip(costs, map(float, corrected), strict=True)), tuple(seeds),
    )  # fmt: skip


def _part(model: nn.Module, component: str) -> nn.Module:
    names = dict(model.named_modules())
    if component not in names or not component:
        known = ", ".join(name for name in names if name)
        raise ValueError(f"the model has no submodule {component!r}; it has {known or 'none'}")
    return names[component]


def _gradient(
    model: nn.Module, part: nn.Module, batch: Sequence[Any], loss: Callable[[Any], Tensor]
) -> tuple[int, tuple[GradientReach, ...]]:
    """How often the component is called, and what of the gradient arrives at its parameters."""
    import torch

    calls: list[int] = []
    handle = part.register_forward_hook(lambda *_: calls.append(1))
    with torch.enable_grad():
        try:
            value = loss(model(*batch))
        finally:
            handle.remove()
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            raise ValueError(f"loss must give one number as a tensor; got {type(value).__name__}")
        trained = [one for one in model.parameters() if one.requires_grad]
        known = torch.autograd.grad(value, trained, allow_unused=True) if value.requires_grad and trained else ()
    arrived = {id(one): slope for one, slope in zip(trained, known, strict=False) if slope is not None}
    total = float(sum(float((slope.double() ** 2).nansum()) for slope in arrived.values())) ** 0.5
    return len(calls), tuple(_reach(name, one, arrived, total) for name, one in part.named_parameters())


def _reach(name: str, parameter: Tensor, arrived: Mapping[int, Tensor], total: float) -> GradientReach:
    slope = arrived.get(id(parameter))
    if slope is None:
        return GradientReach(name, parameter.numel(), bool(parameter.requires_grad), 0.0, True, 0.0)
    finite = slope.isfinite()
    size = float((slope.double() ** 2).nansum()) ** 0.5 / total if total > 0 else 0.0
    share = float(((slope != 0) & finite).double().mean())
    return GradientReach(name, parameter.numel(), bool(parameter.requires_grad), share, bool(finite.all()), size)


def _changed(
    model: nn.Module, part: nn.Module, batch: Sequence[Any], score: Any, seeds: Sequence[int]
) -> tuple[dict[str, float], float, dict[str, FloatArray]]:
    """Movement of the output by change, movement between equal passes, and scores (n_items,) by change."""
    n = next((len(one) for one in batch if hasattr(one, "shape") and len(one.shape)), 0)
    if n < 2:
        raise ValueError(f"a batch needs two items or more, to be exchanged; got {n}")
    plain = model(*batch)
    unseen: set[str] = set()
    if not all(bool(one.isfinite().all()) for one in tensors_in(plain)):
        raise ValueError("the model's output holds NaN or infinity, so it cannot be seen whether it moves")
    with watched(part, n, unseen):
        noise = _moved(plain, model(*batch))
    moves: dict[str, list[float]] = {}
    scores = {} if score is None else {"as it is": [_scored(score, plain, "as it is")]}
    for name in dict.fromkeys((*DEPENDENCE, *CONTROLS)) if score is not None else DEPENDENCE:
        if name in unseen:
            continue
        for seed in seeds if name in BY_CHANCE else seeds[:1]:
            with change(part, name, n, seed):
                output = model(*batch)
            if name in DEPENDENCE:
                moves.setdefault(name, []).append(_moved(plain, output))
            if score is not None and name in CONTROLS:
                scores.setdefault(name, []).append(_scored(score, output, name))
    means = {name: np.mean(values, axis=0) for name, values in scores.items()}
    return {name: max(values) for name, values in moves.items()}, noise, means


def _scored(score: Any, output: Any, name: str) -> FloatArray:
    values = score(output)
    values = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, np.float64)
    if values.ndim != 1 or np.isnan(values).any():
        nans = int(np.isnan(values).sum())
        raise ValueError(
            f"score must give one number per item, none NaN; got shape {values.shape} with {nans} NaN for the model "
            f"{name if name == 'as it is' else f'under {name!r}'}"
        )
    return values


def _moved(before: Any, after: Any) -> float:
    """Root mean square difference over the spread of the outputs across the batch, the largest of all tensors."""
    found = [0.0]
    for old, new in zip(tensors_in(before), tensors_in(after), strict=True):
        if not old.is_floating_point():
            continue
        apart = float((new.double() - old.double()).square().mean().nan_to_num(float("inf"))) ** 0.5
        wide = old.double()
        scale = float(((wide - wide.mean(0)) ** 2).mean()) ** 0.5 if wide.ndim and len(wide) > 1 else 0.0
        scale = scale or float((wide**2).mean()) ** 0.5
        found.append(apart / scale if scale > 0 else float(apart > 0))
    return max(found)


def _costs(
    scores: Mapping[str, FloatArray], clusters: npt.ArrayLike | None, n_resamples: int, seed: int
) -> dict[str, PairedDifference]:
    """Score under each control minus the score as it is, paired by item."""
    if not scores:
        return {}
    plain = scores["as it is"]
    owner = np.arange(len(plain)) if clusters is None else np.asarray(clusters)
    return {
        name: paired_difference(plain, scores[name], owner, n_resamples=n_resamples, seed=seed)
        for name in CONTROLS
        if name in scores
    }


def _gradient_finding(found: ComponentAlive) -> Finding:
    name = f"{found.component}/gradient"
    if not found.gradient:
        why = "It has no parameters, so there is nothing to train."
        return Finding(name, None, None, 1.0, SOURCE, "not measurable", why, "%")
    total = sum(one.n for one in found.gradient)
    share = sum(one.n for one in found.gradient if one.reached) / total
    lost = [one for one in found.gradient if not one.reached]
    reasons = {
        "frozen (requires_grad is False)": [one.name for one in lost if not one.trainable],
        "gradient NaN or infinite": [one.name for one in lost if one.trainable and not one.finite],
        "gradient zero": [one.name for one in lost if one.trainable and one.finite and not one.nonzero],
        "gradient below a millionth of the model's": [
            one.name for one in lost if one.trainable and one.finite and one.nonzero
        ],
    }
    said = "; ".join(f"{reason}: {', '.join(names)}" for reason, names in reasons.items() if names)
    spoiled = bool(reasons["gradient NaN or infinite"])
    verdict: Verdict = "ok" if not lost else "problem" if spoiled or len(lost) == len(found.gradient) else "look"
    advice = "A gradient reaches every parameter." if not lost else f"Not trained by this loss: {said}."
    if reasons["frozen (requires_grad is False)"]:
        advice += " If it is frozen on purpose, read the other checks only."
    return Finding(name, share, None, 1.0, SOURCE, verdict, advice, "%")


def _verdict(found: ComponentAlive, moved: float) -> tuple[float, Verdict]:
    bound = max(MOVES, 10 * found.noise)
    return bound, "ok" if moved > bound else "problem"


def _output_finding(found: ComponentAlive) -> Finding:
    name = f"{found.component}/output"
    if not found.calls:
        why = "A forward pass never calls it: it is no part of what the model computes."
        return Finding(name, 0.0, None, MOVES, SOURCE, "problem", why)
    moved = max(found.moves["zero"], found.moves.get("shuffled output", 0.0))
    bound, verdict = _verdict(found, moved)
    tuned = found.moves["other parameters"]
    if verdict == "problem":
        advice = "The model's output is the same whatever the component says: nothing listens to it."
    elif found.gradient and not tuned > bound:
        verdict = "look"
        advice = "The output needs the component, but not its parameters: 10 % of noise on them changes nothing."
    else:
        advice = f"Without it the output moves by {moved:.2g} of its spread, with noise on it by {tuned:.2g}."
    return Finding(name, moved, None, bound, SOURCE, verdict, advice)


def _input_finding(found: ComponentAlive) -> Finding:
    name, moved = f"{found.component}/input", found.moves.get("shuffled input")
    if moved is None:
        return Finding(name, None, None, MOVES, SOURCE, "not measurable", NO_ITEMS)
    bound, verdict = _verdict(found, moved)
    advice = {
        "ok": f"Shown other items, it moves the output by {moved:.2g} of its spread.",
        "problem": "Shown other items, it leaves the output as it is: what it says does not depend on the item, or is "
        "not heard.",
    }[verdict]
    return Finding(name, moved, None, bound, SOURCE, verdict, advice)


def _score_finding(found: ComponentAlive) -> Finding:
    name, cost = f"{found.component}/score", found.costs.get("shuffled input")
    if cost is None or not np.isfinite(cost.low):
        why = NO_ITEMS if cost is None else "All items belong to one cluster, so how much a cost would vary is unknown."
        return Finding(name, None, None, 0.0, SOURCE, "not measurable", why)
    lost, interval = -cost.value, (-cost.high, -cost.low)
    hurts = [one for one in found.costs if found.p_holm[one] < LEVEL and found.costs[one].value < 0]
    helps = [one for one in found.costs if found.p_holm[one] < LEVEL and found.costs[one].value > 0]
    needed = "shuffled input" in hurts
    verdict: Verdict = "ok" if needed else "look" if cost.ties < cost.n else "problem"
    said = f"Of a score of {found.score:.3g}, showing it other items costs {lost:.3g}."
    detectable = cost.minimum_detectable
    if needed:
        said += f" Controls that cost: {', '.join(hurts)}."
        free = [one for one in CONTROLS if one in found.costs and one not in hurts]
        said += f" Not shown to cost: {', '.join(free)}; is it what the component knows that helps?" if free else ""
    elif verdict == "look":
        said += " That is not shown to be a loss"
        said += f"; one of {detectable:.2g} would be seen in four cases of five." if np.isfinite(detectable) else "."
    else:
        said += " No item's score changes: what it knows of an item earns nothing here."
    said += f" Better than the component: {', '.join(helps)}." if helps else ""
    return Finding(name, lost, interval, 0.0, f"no loss ({LEVEL:.0%} after Holm); {SOURCE}", verdict, said)
