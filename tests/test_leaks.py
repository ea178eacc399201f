"""Copies by level and leaks between splits: planted ones are all found, groups are those of a plain search."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from workbench import codec
from workbench.datasets import content_digest
from workbench.datasets.scenes import scenes
from workbench.diagnostics.leaks import (
    CopyLevel,
    CopyLevels,
    equal_items,
    joined,
    level_between,
    level_close,
    level_of_groups,
    level_of_pairs,
    shared_keys,
)
from workbench.diagnostics.perceptual import fingerprints, look_alikes


def linked(n: int, pairs: list[tuple[int, int]]) -> list[int]:
    """The smallest item that each one reaches, by walking."""
    found = []
    for start in range(n):
        seen, todo = {start}, [start]
        while todo:
            here = todo.pop()
            for a, b in pairs:
                for other in ({a: b, b: a}.get(here),):
                    if other is not None and other not in seen:
                        seen.add(other)
                        todo.append(other)
        found.append(min(seen))
    return found


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_those_of_a_walk(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = [(int(a), int(b)) for a, b in rng.integers(0, 30, (14, 2))]
    first, second = np.array(pairs).T
    assert joined(30, (first[:5], second[:5]), (first[5:], second[5:])).tolist() == linked(30, pairs)


def test_nothing_joined_and_positions_out_of_range() -> None:
    assert joined(3, ([], [])).tolist() == [0, 1, 2]
    assert joined(1, ([0], [0])).tolist() == [0]
    with pytest.raises(ValueError, match=r"0\.\.2; got 0\.\.3"):
        joined(3, ([0], [3]))


def test_levels_count_pairs_groups_and_chains() -> None:
    groups = equal_items(["a", "b", "a", "a", "", "", "b", "c"])
    same = level_of_groups("content", "", groups)
    assert (same.n_pairs, same.items.tolist(), same.n_groups, same.largest) == (4, [0, 1, 2, 3, 6], 2, 3)
    near = level_of_pairs("looks", "", 8, np.array([0, 4, 5]), np.array([4, 5, 7]), told=same.items)
    assert (near.n_pairs, near.items.tolist(), near.n_new) == (3, [0, 4, 5, 7], 3)
    assert (near.n_groups, near.largest, near.n_chained) == (1, 4, 6 - 3)
    none = level_of_pairs("looks", "", 4, np.zeros(0, int), np.zeros(0, int))
    assert (none.n_pairs, none.n_groups, none.largest, none.n_chained) == (0, 0, 0, 0)


def test_a_chain_is_said_and_a_clique_is_not() -> None:
    chain = level_of_pairs("looks", "", 6, np.arange(5), np.arange(1, 6))
    (finding,) = CopyLevels("image", 6, (chain,)).findings()
    assert (finding.name, finding.verdict) == ("copies/chains", "look")
    assert finding.value == pytest.approx(10 / 15)
    clique = level_of_pairs("looks", "", 6, *np.triu_indices(4, 1))
    assert CopyLevels("image", 6, (clique,)).findings() == []
    vectors = level_of_pairs("vectors", "", 6, np.arange(5), np.arange(1, 6))
    assert CopyLevels("image", 6, (vectors,)).findings() == []


def test_two_copies_near_a_third_are_no_chain() -> None:
    """Equal items are in no pair of looks, so they must not be missed as one."""
    same = equal_items(["x", "x", "y", "z", "x"])
    near = level_of_pairs("looks", "", 5, np.array([0, 1, 2]), np.array([2, 2, 4]), same=same)
    assert (near.n_pairs, near.n_groups, near.largest, near.n_chained) == (3, 1, 4, 0)
    assert CopyLevels("image", 5, (near,)).findings() == []
    chained = level_of_pairs("looks", "", 5, np.array([0, 1, 2, 2]), np.array([2, 2, 4, 3]), same=same)
    assert chained.n_chained == 3
    assert level_of_pairs("looks", "", 5, np.array([0, 1, 2]), np.array([2, 2, 4])).n_chained == 3


def test_shared_keys_are_all_pairs_of_equal_keys() -> None:
    keys, others = ["a", "b", "", "a"], ["a", "", "a", "c", "b"]
    first, second = shared_keys(keys, others)
    pairs = [(i, j) for i, a in enumerate(keys) for j, b in enumerate(others) if a and a == b]
    assert list(zip(first, second, strict=True)) == pairs
    level = level_between("content", "", first, second, told=np.array([3]))
    assert (level.n_pairs, level.items.tolist(), level.n_new, level.n_others) == (5, [0, 1, 3], 2, 3)
    assert [len(part) for part in shared_keys([], ["a"])] == [0, 0]


@pytest.mark.parametrize("threshold", [0.8, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("block", [1, 5, 2048])
def test_close_vectors_between_two_sets_by_plain_loops(block: int, threshold: float) -> None:
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(13, 5)) + 1.5, rng.normal(size=(9, 5)) + 1.5
    right[3] = 7 * left[4]
    level = level_close("vectors", "", left, right, threshold=threshold, told=np.array([4]), block=block)
    unit = [rows.astype(np.float32).astype(float) for rows in (left, right)]
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in unit]
    truth = {(i, j) for i in range(13) for j in range(9) if unit[0][i] @ unit[1][j] >= threshold - 1e-9}
    assert (4, 3) in truth
    assert level.n_pairs == len(truth)
    assert level.items.tolist() == sorted({i for i, _ in truth})
    assert (level.n_others, level.n_new) == (len({j for _, j in truth}), len(level.items) - 1)


def test_close_vectors_of_nothing_and_of_everything_in_bounded_memory() -> None:
    for left, right in ((np.zeros((0, 4)), np.eye(4)), (np.eye(4), np.zeros((0, 4)))):
        none = level_close("vectors", "", left, right, threshold=0.9)
        assert (none.n_pairs, len(none.items), none.n_others) == (0, 0, 0)
    together = 1 + 0.01 * np.random.default_rng(0).normal(size=(1200, 64))
    tracemalloc.start()
    level = level_close("vectors", "", together, together[:1100], threshold=0.98, block=512)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (level.n_pairs, level.n_others) == (1200 * 1100, 1100)
    assert peak < 8 * 2**20


def leaked(seed: int, share: float, n: int = 150) -> tuple[CopyLevels, set[int]]:
    """Scenes with planted train images held against the train split: (what is found, what was planted)."""
    test = scenes(n_images=n, split_leaks=share, seed=seed)
    train = scenes(n_images=n + 40, split="train", seed=seed)
    sides = [[content_digest(picture) for picture in world.images.content] for world in (test, train)]
    level = level_between("content", "equal bytes", *shared_keys(*sides))
    planted = {row for row, kind in enumerate(test.images.columns["planted"]) if kind == "leak"}
    return CopyLevels("image", n, (level,), "train", n + 40, tuple(level.items.tolist())), planted


def test_every_planted_leak_is_found_and_nothing_else() -> None:
    for seed in range(3):
        found, planted = leaked(seed, 0.1)
        assert set(found.leaked or ()) == planted
        assert len(planted) == 15


def test_a_leak_in_another_encoding_is_found_by_its_looks() -> None:
    test = scenes(n_images=60, split_leaks=0.1, seed=3)
    train = scenes(n_images=80, split="train", seed=3)
    lighter = [np.minimum(picture.astype(int) + 6, 255).astype(np.uint8) for picture in train.images.content]
    prints = [fingerprints(content, ids=side.images.ids) for content, side in
              ((test.images.content, test), (lighter, train))]  # fmt: skip
    assert len(shared_keys(prints[0].pixels, prints[1].pixels)[0]) == 0
    found = look_alikes(*prints)
    truth = {str(source) for kind, source in zip(test.images.columns["planted"], test.images.columns["source_id"],
                                                 strict=True) if kind == "leak"}  # fmt: skip
    assert {train.images.ids[row] for row in found.second} == truth
    assert found.findings()[0].name == "leaks/near"
    assert found.flat() == {"leaks/near_pairs": 6.0, "leaks/near_items": 6.0}


@pytest.mark.slow
def test_fires_and_stays_quiet_on_leaks() -> None:
    fired = sum(leaked(seed, 0.04, n=50)[0].findings()[0].verdict == "problem" for seed in range(20))
    quiet = sum(leaked(seed, 0.0, n=50)[0].findings()[0].verdict == "ok" for seed in range(20))
    assert (fired, quiet) == (20, 20), f"missed {20 - fired} of 20, false alarms {20 - quiet} of 20"


def test_verdicts_by_share_and_when_nothing_can_be_said() -> None:
    def verdict(rows: tuple[int, ...], n: int, **more: str) -> tuple[str, str, float | None]:
        (finding,) = CopyLevels("image", n, (), "train", 10, rows, **more).findings()
        return finding.name, finding.verdict, finding.value

    assert verdict((), 200) == ("leaks/items", "ok", 0.0)
    assert verdict((3, 4), 200) == ("leaks/items", "look", 0.01)
    assert verdict((3, 4, 5), 200) == ("leaks/items", "problem", 0.015)
    assert verdict((), 200, reason="no contents") == ("leaks/items", "not measurable", None)
    assert CopyLevels("text", 5, (), "train", 3).findings() == []


def test_results_survive_the_run_folder_and_are_drawn() -> None:
    found = leaked(0, 0.1)[0]
    back = codec.from_plain(codec.to_plain(found), {"CopyLevels": CopyLevels, "CopyLevel": CopyLevel})
    assert back.levels[0].items.tolist() == found.levels[0].items.tolist()
    assert back.table().to_dict() == found.table().to_dict()
    assert found.flat() == {"leaks/image_content_pairs": 15.0, "leaks/image_content_items": 15.0}
    outline, bar = (patch.get_width() for patch in found.plot().patches)
    assert (outline, bar) == (15, 15)
