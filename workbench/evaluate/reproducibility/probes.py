"""One thing changed, everything else kept: how far a number moves when only the seed, the batch, ... is another."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.datasets import Side
from workbench.encoders.encode import encode
from workbench.evaluate.prepare import Prepared
from workbench.evaluate.reproducibility.probe_changes import PROBES, Probe, World, again, own_vectors, world_of
from workbench.statistics import paired_difference
from workbench.types import Finding

if TYPE_CHECKING:
    import pandas as pd

NULL = "the same again"
VISIBLE = 0.0005
"""Half of the last digit that is printed in per cent with one decimal."""


@dataclass(frozen=True)
class ProbeRow:
    """What one change did to one metric of one direction.

    changed : from what to what. difference, low, high : after minus before, paired clustered interval, NaN where no
    query has a right item. n : queries scored. replaced, reordered : how many of all ``lists`` hold other items in
    their first k places, or the same in another order. angle : largest turn of a vector, degrees. reason : why it was
    not measurable; the numbers are then NaN.
    """

    probe: str
    changed: str
    direction: str = ""
    metric: str = ""
    before: float = np.nan
    after: float = np.nan
    difference: float = np.nan
    low: float = np.nan
    high: float = np.nan
    n: int = 0
    lists: int = 0
    k: int = 0
    replaced: int = 0
    reordered: int = 0
    angle: float = np.nan
    reason: str = ""

    @property
    def still(self) -> bool:
        """Whether nothing moved at all."""
        return not (self.reason or self.size > 0 or self.replaced or self.reordered or self.angle)

    @property
    def size(self) -> float:
        """How far the metric moved, 0 or more; -1 where it could not be measured."""
        return abs(self.difference) if np.isfinite(self.difference) else -1.0


@dataclass(frozen=True, eq=False)
class Probes:
    """All probes that were asked for, the null control first. n_images : how many images were probed."""

    rows: tuple[ProbeRow, ...]
    n_images: int = 0

    def table(self) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame([vars(row) for row in self.rows])

    def largest(self) -> list[ProbeRow]:
        """Per probe and direction the metric that moved most."""
        best: dict[tuple[str, str], ProbeRow] = {}
        for row in self.rows:
            key = row.probe, row.direction
            if key not in best or row.size > best[key].size:
                best[key] = row
        return list(best.values())

    def findings(self) -> list[Finding]:
        """One per probe."""
        names = dict.fromkeys(row.probe for row in self.rows)
        return [_finding(name, [row for row in self.rows if row.probe == name]) for name in names]


def check_probes(names: Sequence[str]) -> None:
    """ValueError for a name that is no probe, with those there are.

    >>> check_probes(["tie_order", "sede"])
    Traceback (most recent call last):
    ValueError: no probe is called 'sede'; there are seed, threads, batch_size, precision, resize, item_order, ...
    """
    unknown = sorted(set(names) - {*PROBES, "all"})
    if unknown:
        raise ValueError(f"no probe is called {unknown[0]!r}; there are {', '.join(PROBES)}, and all")


def probe(
    prepared: Prepared, names: Sequence[str], parameters: Mapping[str, Any], *,
    say: Callable[[str], None] = lambda line: None,
) -> Probes:  # fmt: skip
    """Run the probes, after the null control; the cost is said before any of them runs.

    names : keys of :data:`PROBES`, or "all"; none: nothing is done. ``probe_images`` limits all probes to the first
    images and their texts. ValueError for a name that is no probe.
    """
    check_probes(names)
    if not names:
        return Probes(())
    chosen = [name for name in PROBES if name in names or "all" in names]
    world = world_of(prepared, parameters)
    say(_cost(world, chosen))
    rows: list[ProbeRow] = []
    for name, one in ((NULL, Probe("nothing", True, again)), *((name, PROBES[name]) for name in chosen)):
        say(f"probe: {name}")
        rows += _rows(name, one, world, parameters)
    return Probes(tuple(rows), len(world.prepared.images))


def _cost(world: World, names: Sequence[str]) -> str:
    """One sentence, from a measured batch of either side."""
    sides = world.prepared.collection.images, world.prepared.collection.texts
    sizes = f"{len(sides[0]):,} {sides[0].plural} and {len(sides[1]):,} {sides[1].plural}"
    if world.encoder is None or world.withheld:
        return f"probes: {sizes} searched {len(names) + 1} times, seconds"
    times = 1 + sum(PROBES[name].encodes for name in names)
    seconds = 0.0
    for side in sides:
        some = Side(side.modality, side.ids[: world.batch_size], list(side.content[: world.batch_size]))
        start = time.perf_counter()
        encode(world.encoder, some, batch_size=world.batch_size, store="off", progress=False)
        seconds += (time.perf_counter() - start) * len(side) / len(some)
    return f"probes: {sizes} encoded {times} times, about {max(0.1, times * seconds / 60):.1f} minutes"


def _rows(name: str, one: Probe, world: World, parameters: Mapping[str, Any]) -> list[ProbeRow]:
    try:
        found = one.run(world)
    except ValueError as reason:
        return [ProbeRow(name, one.summary, reason=str(reason))]
    before, angle, rows = found.before or world.before, _largest_angle(world, found.vectors), []
    for place, direction in enumerate(world.prepared.directions()):
        old, new = before.lists[place], found.measured.lists[place]
        others = (np.sort(old, axis=1) != np.sort(new, axis=1)).any(axis=1)
        reordered = (old != new).any(axis=1) & ~others
        for metric, values in found.measured.values[place].items():
            base = before.values[place][metric]
            paired = paired_difference(
                base, values, direction.clusters, n_resamples=parameters["n_resamples"], n_permutations=99,
                seed=parameters["seed"],
            )  # fmt: skip
            means = [float(np.nanmean(each)) if paired.n else np.nan for each in (base, values)]
            row = ProbeRow(name, found.what, direction.name, metric, means[0], means[1], n=paired.n, k=world.k)
            row = replace(row, difference=paired.value, low=paired.low, high=paired.high, angle=angle, lists=len(old))
            rows.append(replace(row, replaced=int(others.sum()), reordered=int(reordered.sum())))
    return rows or [
        ProbeRow(name, found.what, reason="none of the metrics asked for looks at a fixed number of places")
    ]


def _largest_angle(world: World, vectors: tuple[np.ndarray, np.ndarray] | None) -> float:
    """Degrees, from chords in float64: exactly 0 for equal vectors; a vector of length zero has no angle."""
    if vectors is None:
        return 0.0
    largest = 0.0
    for old, new in zip(own_vectors(world), vectors, strict=True):
        a, b = (side.astype(np.float64) for side in (old, new))
        lengths = [np.linalg.norm(side, axis=1, keepdims=True) for side in (a, b)]
        known = ((lengths[0] > 0) & (lengths[1] > 0)).ravel() & (a != b).any(axis=1)
        if known.any():
            chords = np.linalg.norm(a[known] / lengths[0][known] - b[known] / lengths[1][known], axis=1)
            largest = max(largest, float(np.degrees(2 * np.arcsin(np.minimum(1.0, chords.max() / 2)))))
    return largest


def _finding(name: str, rows: Sequence[ProbeRow]) -> Finding:
    label, source = f"probe/{name}", "half of the last digit that is printed"
    changed, reason = (text[:1].upper() + text[1:] for text in (rows[0].changed, rows[0].reason))
    if reason:
        return Finding(label, None, None, VISIBLE, source, "not measurable", f"{reason}.", "points")
    worst = max(rows, key=lambda row: row.size)
    if worst.size < 0 and (name != NULL or all(row.still for row in rows)):
        return Finding(label, None, None, VISIBLE, source, "not measurable", f"{_unscored(changed, rows)}.", "points")
    if all(row.still for row in rows):
        advice = f"{changed}: not one vector, list or number moved."
        return Finding(label, 0.0, None, VISIBLE, source, "ok", advice, "points")
    moved = _unscored(changed, rows)
    if worst.size >= 0:
        number = f"{worst.direction}/{worst.metric} moves by {100 * worst.difference:+.2f} points"
        moved = f"{changed}: {_lists_moved(rows)}, and {number}"
    interval = (worst.low, worst.high)
    if name == NULL and worst.size < 0:
        advice = f"{moved}, although nothing was changed: every other probe holds at least this much of it."
        changes = float(max(row.replaced + row.reordered for row in rows))
        return Finding(label, changes, None, 0.0, "nothing may move", "problem", advice)
    if name == NULL:
        advice = f"{moved} although nothing was changed: every other probe holds at least this much of it."
        return Finding(label, worst.difference, interval, 0.0, "nothing may move", "problem", advice, "points")
    if abs(worst.difference) < VISIBLE:
        return Finding(label, worst.difference, interval, VISIBLE, source, "ok", f"{moved}.", "points")
    return Finding(
        label, worst.difference, interval, VISIBLE, source, "look", f"{moved}: state this setting.", "points"
    )


def _lists_moved(rows: Sequence[ProbeRow]) -> str:
    """How far vectors turn, and how many lists change in the direction in which most of them do."""
    most = max(rows, key=lambda row: row.replaced + row.reordered)
    turned = f"vectors turn by up to {most.angle:.2g} degrees, " if most.angle else ""
    return f"{turned}{most.replaced + most.reordered:,} of {most.lists:,} lists of {most.k} change"


def _unscored(changed: str, rows: Sequence[ProbeRow]) -> str:
    return f"{changed}: {_lists_moved(rows)}; no query has a right item, so no number could move"
