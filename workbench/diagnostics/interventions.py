"""One thing about a submodule changed for a while: other items to its input, something else in place of its output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

_OF_THE_BATCH = ("shuffled output", "random", "mean", "centroid")


@contextmanager
def change(part: nn.Module, name: str, n: int, seed: int) -> Iterator[None]:
    """The component with one thing changed, and as before afterwards."""
    import torch

    dice = torch.Generator().manual_seed(seed)
    if name == "other parameters":
        kept = [(one, one.detach().clone()) for one in part.parameters()]
        try:
            for one, value in kept:
                size = float(value.double().pow(2).mean()) ** 0.5 or 1.0
                one.add_(0.1 * size * torch.randn(one.shape, generator=dice).to(one))
            yield
        finally:
            for one, value in kept:
                one.copy_(value)
        return
    order = _without_fixed_points(n, dice)
    if name == "shuffled input":
        handle = part.register_forward_pre_hook(
            lambda _, given, named: _mapped((given, named), lambda one: _exchanged(one, order)), with_kwargs=True
        )
    else:
        handle = part.register_forward_hook(lambda _, __, output: _mapped(output, _replaced(name, order, dice)))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def watched(part: nn.Module, n: int, unseen: set[str]) -> Iterator[None]:
    """Adds changes that find no item to exchange: tensors come in (or out), none in any call with a row per item."""
    given: list[int] = []
    said: list[int] = []

    def look(_: Any, args: Any, named: Any, output: Any) -> None:
        given.extend(len(one) if one.ndim else 0 for one in tensors_in((args, named)))
        said.extend(len(one) if one.ndim else 0 for one in tensors_in(output))

    handle = part.register_forward_hook(look, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
    for rows, names in ((given, ("shuffled input",)), (said, _OF_THE_BATCH)):
        if rows and n not in rows:
            unseen.update(names)


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors inside tuples, lists and mappings."""
    if hasattr(value, "is_floating_point"):
        return [value]
    if isinstance(value, Mapping):
        return [one for part in value.values() for one in tensors_in(part)]
    return [one for part in value for one in tensors_in(part)] if isinstance(value, list | tuple) else []


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same value with every tensor of one axis or more changed; a mapping keeps its type."""
    if hasattr(value, "is_floating_point"):
        return change(value) if value.ndim else value
    if isinstance(value, Mapping):
        changed: Any = copy(value)
        for name, one in value.items():
            changed[name] = _mapped(one, change)
        return changed
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_mapped(part, change) for part in value))
    return type(value)(_mapped(part, change) for part in value) if isinstance(value, list | tuple) else value


def _exchanged(given: Tensor, order: Tensor) -> Tensor:
    """The items exchanged in a tensor, of numbers or tokens, that has as many rows as the batch."""
    return given[order.to(given.device)] if len(given) == len(order) else given


def _without_fixed_points(n: int, dice: Any) -> Tensor:
    """An order in which no item keeps its place: one random cycle."""
    import torch

    cycle, order = torch.randperm(n, generator=dice), torch.empty(n, dtype=torch.long)
    order[cycle] = cycle.roll(1)
    return order


def _replaced(name: str, order: Tensor, dice: Any) -> Callable[[Tensor], Tensor]:
    import torch

    def replace(output: Tensor) -> Tensor:
        if name == "shuffled output":
            return _exchanged(output, order)
        if not output.is_floating_point():
            return output
        mean = output.mean(0, keepdim=True).expand_as(output)
        if name == "random":
            noise = torch.randn(output.shape, generator=dice).to(output)
            return mean + noise * output.std(0, correction=0, keepdim=True)
        if name == "centroid":
            lengths = output.flatten(1).norm(dim=1).mean() if output.ndim > 1 else output.abs().mean()
            own = mean[:1].norm()
            return mean * (lengths / own) if own > 0 else mean
        return {"mean": mean, "constant": torch.full_like(output, float(output.mean()))}.get(
            name, torch.zeros_like(output)
        )

    return replace
