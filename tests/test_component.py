"""Is the component alive: planted dead and living parts of small models, and what the controls must give exactly."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import pytest

from workbench.diagnostics.component import CONTROLS, ComponentAlive, component_alive

torch = pytest.importorskip("torch")
N, DIM = 96, 12


def gate(kind: str, seed: int):
    """A model that adds ``part(x)``, seen through a planted defect, to a plain path."""
    torch.manual_seed(seed)

    class Deaf(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.said = torch.nn.Parameter(torch.randn(DIM))
            self.weight = torch.nn.Parameter(torch.randn(DIM, DIM))

        def forward(self, x):
            return self.said + 0.0 * (x @ self.weight)

    class Saturated(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(DIM, DIM)
            torch.nn.init.constant_(self.linear.bias, 200.0)

        def forward(self, x):
            return torch.sigmoid(self.linear(x))

    parts = {
        "deaf": Deaf, "saturated": Saturated,
        "mlp": lambda: torch.nn.Sequential(torch.nn.Linear(DIM, 24), torch.nn.ReLU(), torch.nn.Linear(24, DIM)),
    }  # fmt: skip

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = parts.get(kind, lambda: torch.nn.Linear(DIM, DIM))()
            self.plain = torch.nn.Linear(DIM, DIM)
            if kind == "frozen":
                self.part.requires_grad_(False)

        def forward(self, x):
            if kind == "never called":
                return self.plain(x)
            said = self.part(x)
            said = said.detach() if kind == "detached" else 0.0 * said if kind == "times zero" else said
            return self.plain(x) * said if kind in ("saturated", "gate") else self.plain(x) + said

    return Model()


def looked(kind: str, seed: int) -> ComponentAlive:
    rng = torch.Generator().manual_seed(seed)
    x, y = torch.randn(N, DIM, generator=rng), torch.randn(N, DIM, generator=rng)
    return component_alive(gate(kind, seed), "part", [x], lambda out: ((out - y) ** 2).mean(), seeds=(0, 1))


DEAD = {
    "detached": {"gradient": "problem", "output": "ok", "input": "ok"},
    "frozen": {"gradient": "problem", "output": "ok", "input": "ok"},
    "times zero": {"gradient": "problem", "output": "problem", "input": "problem"},
    "never called": {"gradient": "problem", "output": "problem", "input": "problem"},
    "deaf": {"gradient": "look", "output": "ok", "input": "problem"},
    "saturated": {"gradient": "problem", "output": "look", "input": "problem"},
}


@pytest.mark.slow
def test_fires_on_every_planted_death_and_is_quiet_on_the_living() -> None:
    missed = {kind: sum(looked(kind, seed).verdicts != DEAD[kind] for seed in range(20)) for kind in DEAD}
    alive = {kind: sum(set(looked(kind, seed).verdicts.values()) != {"ok"} for seed in range(20))
             for kind in ("linear", "mlp", "gate")}  # fmt: skip
    assert not any((*missed.values(), *alive.values())), (
        f"of 20 models each: other verdicts than planted {missed}, false alarms on living parts {alive}"
    )


@pytest.mark.parametrize("kind", [*DEAD, "linear"])
def test_a_planted_death_is_told_check_by_check(kind: str) -> None:
    assert looked(kind, 0).verdicts == DEAD.get(kind, dict.fromkeys(("gradient", "output", "input"), "ok"))
    assert looked(kind, 0).alive == (kind == "linear")


def test_what_was_found_is_said() -> None:
    said = {kind: " ".join(one.advice for one in looked(kind, 0).findings()) for kind in DEAD}
    assert "requires_grad is False" in said["frozen"]
    assert "gradient zero: weight, bias" in said["times zero"]
    assert "never calls it" in said["never called"]
    assert "gradient zero: weight" in said["deaf"]
    assert "not its parameters" in said["saturated"]
    assert looked("never called", 0).calls == 0
    assert looked("linear", 0).calls == 1


def test_the_gradient_is_that_of_torch() -> None:
    model, x = gate("linear", 3), torch.randn(N, DIM)
    found = component_alive(model, "part", [x], lambda out: (out**2).mean())
    (model(x) ** 2).mean().backward()
    total = np.sqrt(sum(float((one.grad.double() ** 2).sum()) for one in model.parameters()))
    for one, parameter in zip(found.gradient, model.part.parameters(), strict=True):
        assert one.size == pytest.approx(float(parameter.grad.double().norm()) / total, rel=1e-6)
        assert one.nonzero == float((parameter.grad != 0).double().mean())


def test_a_vanishing_and_a_broken_gradient() -> None:
    x = torch.randn(N, DIM)
    faint = component_alive(gate("linear", 0), "part", [x], lambda out: (out**2).mean())
    assert faint.verdicts["gradient"] == "ok"

    class Faint(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part, self.plain = torch.nn.Linear(DIM, DIM), torch.nn.Linear(DIM, DIM)

        def forward(self, x):
            return self.plain(x) + 1e-9 * self.part(x)

    found = component_alive(Faint(), "part", [x], lambda out: (out**2).mean())
    assert found.verdicts["gradient"] == "problem"
    assert "below a millionth" in found.findings()[0].advice
    broken = component_alive(gate("linear", 0), "part", [x], lambda out: torch.sqrt((out * 0).sum()))
    assert broken.verdicts["gradient"] == "problem"
    assert "NaN or infinite" in broken.findings()[0].advice


# ---- score ----------------------------------------------------------------------------------------------------------


def scored(uses: Callable, seed: int, *, n: int = N, clusters=None, **how) -> ComponentAlive:
    """Retrieval of the item itself: the model's output must be close to a noisy copy of x. part passes x on."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, DIM, generator=rng)
    target = x + 0.8 * torch.randn(n, DIM, generator=rng)

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = torch.nn.Linear(DIM, DIM)
            with torch.no_grad():
                self.part.weight.copy_(torch.eye(DIM))
                self.part.bias.zero_()

        def forward(self, given):
            return uses(self.part(given), given)

    def score(out):
        order = (out @ target.T).argsort(dim=1, descending=True)
        return 1 / (1 + (order == torch.arange(n)[:, None]).float().argmax(dim=1))

    return component_alive(
        Model(), "part", [x], lambda out: -(out * target).sum(), score=score, clusters=clusters, n_resamples=200, **how
    )


@pytest.mark.slow
def test_fires_on_a_part_that_earns_nothing_and_is_quiet_on_one_that_does() -> None:
    """Idle: a whisper beside the plain path that reorders few items. It moves the output, not the score."""
    needed = sum(scored(lambda said, x: said, seed).verdicts["score"] != "ok" for seed in range(20))
    idle = sum(scored(lambda said, x: x + 1e-3 * said, seed).verdicts["score"] not in ("look", "problem")
               for seed in range(20))  # fmt: skip
    helped = [scored(lambda said, x: x + 1e-3 * said, seed).verdicts["output"] for seed in range(3)]
    assert (needed, idle <= 1) == (0, True), (
        f"of 20 models each: needed parts doubted {needed}, idle parts passed {idle}"
    )
    assert helped == ["ok"] * 3


def test_controls_that_know_nothing_of_the_item_score_as_chance() -> None:
    found = scored(lambda said, x: said, 0)
    chance = np.mean(1 / np.arange(1, N + 1))
    assert list(found.costs) == list(CONTROLS)
    assert found.score > 0.5
    for name in ("shuffled input", "shuffled output", "random", "mean", "centroid", "constant"):
        left = found.score + found.costs[name].value
        assert left == pytest.approx(chance, abs=0.035), name
        assert found.p_holm[name] < 0.01
    assert (found.costs["shuffled input"].value) == pytest.approx(found.costs["shuffled output"].value)


def test_what_a_control_puts_in_place() -> None:
    from workbench.diagnostics.interventions import _replaced, _without_fixed_points

    output, order = torch.tensor([[3.0, 4.0], [1.0, 0.0], [2.0, 2.0]]), torch.tensor([1, 2, 0])
    dice = torch.Generator().manual_seed(0)
    put = {name: _replaced(name, order, dice)(output) for name in list(CONTROLS)[1:]}
    assert put["mean"].tolist() == [[2.0, 2.0]] * 3
    assert put["constant"].tolist() == [[2.0, 2.0]] * 3
    assert put["zero"].abs().sum() == 0
    assert put["shuffled output"].tolist() == [[1, 0], [2, 2], [3, 4]]
    lengths = (5 + 1 + 8**0.5) / 3
    assert put["centroid"].norm(dim=1).tolist() == pytest.approx([lengths] * 3)
    many = torch.randn(4000, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([1.0, 5.0]) + 7
    drawn = _replaced("random", torch.arange(4000), torch.Generator().manual_seed(2))(many)
    assert drawn.mean(0).tolist() == pytest.approx([7, 7], abs=0.3)
    assert drawn.std(0).tolist() == pytest.approx([1, 5], rel=0.05)
    for n in (2, 3, 9):
        mixed = _without_fixed_points(n, torch.Generator().manual_seed(n))
        assert sorted(mixed.tolist()) == list(range(n))
        assert (mixed != torch.arange(n)).all()


def test_items_of_one_cluster_count_once() -> None:
    alone, paired = scored(lambda said, x: said, 1), scored(lambda said, x: said, 1, clusters=np.arange(N) // 4)
    assert paired.costs["zero"].n_clusters == N // 4
    assert alone.costs["zero"].value == paired.costs["zero"].value


# ---- manners --------------------------------------------------------------------------------------------------------


def test_the_model_and_the_dice_are_left_as_they_were() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(DIM, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5))
    model.train()
    model[2].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    dice, modes = torch.get_rng_state(), [one.training for one in model.modules()]
    component_alive(model, "0", [torch.randn(N, DIM, generator=torch.Generator())], lambda out: out.sum(),
                    score=lambda out: out.sum(1))  # fmt: skip
    assert torch.equal(dice, torch.get_rng_state())
    assert [one.training for one in model.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(one.grad is None for one in model.parameters())
    assert not model[0]._forward_hooks
    assert not model[0]._forward_pre_hooks


def test_parts_without_parameters_and_with_several_outputs() -> None:
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twice = torch.nn.Identity()
            self.linear = torch.nn.Linear(DIM, 3)

        def forward(self, tokens, mask=None):
            x = self.twice(torch.nn.functional.one_hot(tokens, DIM).float())
            return {"vectors": self.linear(x), "more": (x.sum(1), [x])}

    tokens = torch.arange(30) % DIM
    found = component_alive(Two(), "twice", [tokens], lambda out: out["vectors"].sum(), seeds=(0,))
    assert found.verdicts == {"gradient": "not measurable", "output": "ok", "input": "ok"}
    assert "no parameters" in found.findings()[0].advice


def test_items_on_another_axis_are_not_taken_for_deafness() -> None:
    """Sequence first, as in the transformers of CLIP: six places, four items."""

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=False)
            self.twice = torch.nn.Identity()

        def forward(self, x):
            places = self.twice(self.twice(x).transpose(0, 1))
            return self.layer(places).mean(0)

    torch.manual_seed(0)
    asked = [torch.randn(4, 6, 8)], lambda out: (out**2).sum()
    found = component_alive(Model(), "layer", *asked, score=lambda out: out[:, 0], seeds=(0,))
    assert found.verdicts == {"gradient": "ok", "output": "ok", "input": "not measurable", "score": "not measurable"}
    assert set(found.costs) == {"constant", "zero"}
    assert "sequence first" in found.findings()[2].advice
    assert component_alive(Model(), "twice", *asked, seeds=(0,)).verdicts["input"] == "ok"  # one of its calls has items


def test_outputs_keep_their_type_and_numbers_of_a_kind_stay() -> None:
    class Named(OrderedDict):
        said = property(lambda self: self["said"])
        code = property(lambda self: self["code"])

    class Part(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(3, 4)

        def forward(self, x):
            said = self.linear(x)
            return Named(said=said, code=said.argmax(-1))

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = Part()

        def forward(self, x):
            out = self.part(x)
            return out.said * torch.nn.functional.one_hot(out.code, 4)

    torch.manual_seed(0)
    found = component_alive(Model(), "part", [torch.randn(6, 3)], lambda out: out.sum(), score=lambda out: out.sum(1))
    assert set(found.costs) == set(CONTROLS)
    assert {found.verdicts[check] for check in ("gradient", "output", "input")} == {"ok"}


def test_a_change_that_breaks_the_output_moves_it_and_a_score_of_it_is_named() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = torch.nn.Linear(3, 4)

        def forward(self, x):
            said = self.part(x)
            return said / said.norm(dim=1, keepdim=True)

    batch = [torch.randn(5, 3, generator=torch.Generator().manual_seed(0))]
    assert component_alive(Model(), "part", batch, lambda out: out[:, 0].sum()).moves["zero"] == float("inf")
    with pytest.raises(ValueError, match="5 NaN for the model under 'zero'"):
        component_alive(Model(), "part", batch, lambda out: out[:, 0].sum(), score=lambda out: out[:, 0])


def test_one_cluster_has_no_cost_to_judge() -> None:
    found = scored(lambda said, x: said, 1, clusters=np.zeros(N, int))
    assert found.verdicts["score"] == "not measurable"
    assert "one cluster" in found.findings()[-1].advice


def test_same_seeds_same_numbers_and_a_table() -> None:
    first, second = (scored(lambda said, x: said, 2, seeds=(4, 5)) for _ in range(2))
    assert first.flat() == second.flat()
    assert first.table().equals(second.table())
    assert set(first.table().index) == {*CONTROLS, "other parameters"}
    drawn = [x for line in first.plot().lines[1:] for x in np.atleast_1d(line.get_xdata()).tolist()]
    assert sorted(drawn) == pytest.approx(sorted(-100 * one.value for one in first.costs.values()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"component": "gone"}, "no submodule 'gone'; it has part, plain"),
        ({"component": ""}, "no submodule ''"),
        ({"batch": [torch.randn(1, DIM)]}, "two items or more.*got 1"),
        ({"loss": lambda out: out}, "one number"),
        ({"score": lambda out: out}, r"one number per item.*\(96, 12\)"),
        ({"score": lambda out: out[:, 0] * float("nan")}, "none NaN.*96 NaN for the model as it is"),
        ({"batch": [torch.full((N, DIM), float("nan"))]}, "output holds NaN"),
    ],
)
def test_what_cannot_be_asked_is_refused(change: dict, message: str) -> None:
    asked = {"component": "part", "batch": [torch.randn(N, DIM)], "loss": lambda out: out.sum(), **change}
    with pytest.raises(ValueError, match=message):
        component_alive(gate("linear", 0), **asked)
