"""The same vectors scored under every protocol in use: what each choice moves, and whether two systems change order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.evaluate.reproducibility.protocol_rules import (
    DEFAULT,
    PROTOCOLS,
    Asked,
    Protocol,
    Values,
    asked,
    other_reading,
)
from workbench.metrics import parse_metric
from workbench.statistics import GallerySize, cluster_bootstrap, gallery_curve
from workbench.types import Finding, FloatArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PROTOCOLS", "Asked", "ProtocolRow", "Protocols", "asked", "under_protocols"]
CURVE_SIZES = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
_BLOCK = 2_000_000
WITHOUT_EFFECT = ("ties", "definition")
"""Questions that a system leaves out where the answer changes nothing, so that its usual values are those it has."""


@dataclass(frozen=True)
class ProtocolRow:
    """One metric under one protocol.

    value, low, high : with the clustered interval; n : queries scored. difference : value minus that of the whole
    gallery, with a paired interval (clusters drawn together). second : the value of the other system under the same
    protocol, gap = second - value with a paired interval; NaN without another system. reason : why nothing is here.
    """

    direction: str
    metric: str
    question: str
    protocol: str
    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    n: int = 0
    difference: float = np.nan
    difference_low: float = np.nan
    difference_high: float = np.nan
    second: float = np.nan
    gap: float = np.nan
    gap_low: float = np.nan
    gap_high: float = np.nan
    reason: str = ""

    @property
    def leader(self) -> int:
        """1 or -1: the second or the first system is clearly ahead here; 0: not told apart, or not known."""
        return int(self.gap_low > 0) - int(self.gap_high < 0)


@dataclass(frozen=True, eq=False)
class Protocols:
    """Every metric of every direction under every protocol; the default protocol stands first in each group.

    curves : direction -> hit rate by gallery size. second : name of the other system, "" without one.
    """

    rows: tuple[ProtocolRow, ...]
    curves: Mapping[str, tuple[GallerySize, ...]]
    second: str = ""
    notes: tuple[str, ...] = ()

    def group(self, direction: str, metric: str) -> tuple[ProtocolRow, ...]:
        """The rows of one metric, the default protocol first."""
        return tuple(row for row in self.rows if (row.direction, row.metric) == (direction, metric))

    def groups(self) -> list[tuple[ProtocolRow, ...]]:
        """All groups, in order."""
        return [self.group(*key) for key in dict.fromkeys((row.direction, row.metric) for row in self.rows)]

    def table(self) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame([vars(row) for row in self.rows])

    def findings(self) -> list[Finding]:
        """Per direction, for its first metric: what moves the number most, and whether two systems change order."""
        found = []
        for direction in dict.fromkeys(row.direction for row in self.rows):
            metric = next(row.metric for row in self.rows if row.direction == direction)
            found.append(_spread(self.group(direction, metric)))
            if self.second:
                found.append(_order(direction, [row for row in self.rows if row.direction == direction], self.second))
        return found


def under_protocols(
    worlds: Sequence[Asked],
    others: Sequence[Asked] = (),
    *,
    second: str = "",
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Protocols:
    """Every direction under every protocol, each held against the whole gallery; paired, clusters drawn together.

    others : the same directions with the vectors of another system, whose name is ``second``: same queries, same items,
    same order.
    """
    rows: list[ProtocolRow] = []
    for place, world in enumerate(worlds):
        rival = others[place] if others else None
        scored = {key: _tried(protocol, world) for key, protocol in PROTOCOLS.items()}
        rivals = {key: _tried(protocol, rival) for key, protocol in PROTOCOLS.items()} if rival is not None else {}
        for metric in world.metrics:
            rows += _group(world, metric, scored, rivals, n_resamples=n_resamples, seed=seed, level=level)
    curves = {world.direction.name: _curve(world, n_resamples, seed, level) for world in worlds}
    return Protocols(tuple(rows), curves, second if others else "")


def _tried(protocol: Protocol, world: Asked) -> Values | str:
    try:
        return protocol.score(world)
    except ValueError as reason:
        return str(reason)


def _group(
    world: Asked, metric: str, scored: Mapping[str, Values | str], rivals: Mapping[str, Values | str], *,
    n_resamples: int, seed: int, level: float,
) -> list[ProtocolRow]:  # fmt: skip
    """All protocols for one metric; intervals of differences come from one set of draws."""
    base = [ProtocolRow(world.direction.name, metric, p.question, _label(key, metric)) for key, p in PROTOCOLS.items()]
    mine, theirs = ([_of(found.get(key, ""), metric, key) for key in PROTOCOLS] for found in (scored, rivals))
    if isinstance(mine[0], str):
        return [replace(row, reason=mine[0]) for row in base]
    for place, protocol in enumerate(PROTOCOLS.values()):
        if protocol.question in WITHOUT_EFFECT and isinstance(mine[place], str) != isinstance(theirs[place], str):
            mine[place], theirs[place] = (
                side[0] if isinstance(side[place], str) else side[place] for side in (mine, theirs)
            )
    columns = list({id(values): values for values in (*mine, *theirs) if not isinstance(values, str)}.values())
    at = {id(values): place for place, values in enumerate(columns)}
    draws = _drawn_means(columns, world.direction.clusters, n_resamples, seed)
    how: dict[str, Any] = {"level": level, "n_resamples": n_resamples, "seed": seed}
    rows: list[ProtocolRow] = []
    for row, values, rival in zip(base, mine, theirs, strict=True):
        if isinstance(values, str):
            rows.append(replace(row, reason=values))
            continue
        found = cluster_bootstrap(values, world.direction.clusters, **how)
        own = draws[at[id(values)]]
        moved = _between(own - draws[0], level)
        row = replace(
            row, value=found.value, low=found.low, high=found.high, n=found.n,
            difference=found.value - (rows[0].value if rows else found.value),
            difference_low=moved[0], difference_high=moved[1],
        )  # fmt: skip
        if not isinstance(rival, str):
            gap, value = _between(draws[at[id(rival)]] - own, level), float(np.nanmean(rival))
            row = replace(row, second=value, gap=value - found.value, gap_low=gap[0], gap_high=gap[1])
        rows.append(row)
    return rows


def _label(key: str, metric: str) -> str:
    other = other_reading(parse_metric(metric)) if key == "other definition" else None
    return f"{other} instead of {metric}" if other is not None else PROTOCOLS[key].name


def _of(found: Values | str, metric: str, key: str) -> FloatArray | str:
    """The values of one metric, or why there are none."""
    if isinstance(found, str):
        return found
    if metric not in found:
        fewer = PROTOCOLS[key].question in ("gallery", "captions", "duplicates")
        return "it leaves fewer items than the metric looks at" if fewer else "the metric is not changed by it"
    return found[metric] if np.isfinite(found[metric]).any() else "no query keeps a right item"


def _drawn_means(columns: Sequence[FloatArray], clusters: np.ndarray, n_resamples: int, seed: int) -> list[FloatArray]:
    """Means of every column over the same draws of whole clusters: (n_resamples,) each; a NaN is not scored."""
    codes = np.unique(clusters, return_inverse=True)[1].ravel()
    n = int(codes.max()) + 1
    values = np.stack(columns, axis=1)
    sums, counts = (
        np.stack([np.bincount(codes, column, minlength=n) for column in part.T], axis=1)
        for part in (np.nan_to_num(values), np.isfinite(values).astype(np.float64))
    )
    rng, parts = np.random.default_rng(seed), []
    step = max(1, _BLOCK // n)
    for start in range(0, n_resamples, step):
        drawn = rng.integers(0, n, size=(min(step, n_resamples - start), n))
        weights = np.stack([np.bincount(row, minlength=n) for row in drawn]).astype(np.float64)
        with np.errstate(invalid="ignore"):
            parts.append(np.einsum("rc,ck->rk", weights, sums) / np.einsum("rc,ck->rk", weights, counts))
    return list(np.concatenate(parts).T)


def _between(draws: FloatArray, level: float) -> tuple[float, float]:
    known = draws[np.isfinite(draws)]
    if not len(known):
        return np.nan, np.nan
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _curve(world: Asked, n_resamples: int, seed: int, level: float) -> tuple[GallerySize, ...]:
    """The hit rate at round gallery sizes up to the one searched, at the first cutoff of a hit rate."""
    cutoffs = [m.k for m in map(parse_metric, world.metrics) if m.name in ("hit", "R") and m.k is not None]
    k, positives = (cutoffs or [1])[0], int(world.ranks.positives_per_query.max(initial=0))
    n = world.ranks.n_gallery
    if not positives:
        return ()
    sizes = [size for size in CURVE_SIZES if max(k, positives) <= size < n]
    how: dict[str, Any] = {"k": k, "level": level, "n_resamples": n_resamples, "seed": seed}
    return gallery_curve(world.ranks, [*sizes, n], world.direction.clusters, **how)


def _spread(rows: Sequence[ProtocolRow]) -> Finding:
    """How far the number of one metric moves between protocols, against its own interval."""
    default, label = rows[0], f"{rows[0].direction}/{rows[0].metric} by protocol"
    source = "half the width of the interval of the default protocol"
    moved = [row for row in rows[1:] if not row.reason]
    if default.reason or not moved:
        reason = default.reason or "No other protocol applies to these data."
        return Finding(label, None, None, None, source, "not measurable", reason)
    most, half = max(moved, key=lambda row: abs(row.difference)), (default.high - default.low) / 2
    interval = (most.difference_low, most.difference_high)
    if not np.isfinite(half):
        reason = f"{default.protocol}: one cluster of queries has no interval, so nothing says what a large move is."
        return Finding(label, most.difference, None, None, source, "not measurable", reason, "points")
    words = f"{most.protocol}: {_points(most.value)}, against {_points(default.value)} on the whole gallery"
    if abs(most.difference) <= half:
        advice = f"No protocol moves the number beyond its own interval; the farthest is {words}."
        return Finding(label, most.difference, interval, half, source, "ok", advice, "points")
    beyond = sum(abs(row.difference) > half for row in moved)
    advice = (
        f"{beyond} of {len(moved)} other protocols in use move the number beyond its interval, the farthest {words}. "
        "Numbers of different protocols are not comparable: state yours beside every number."
    )
    return Finding(label, most.difference, interval, half, source, "look", advice, "points")


def _order(direction: str, rows: Sequence[ProtocolRow], second: str) -> Finding:
    """Whether the order of two systems depends on the protocol, in any metric."""
    label, source = f"{direction}/order of two systems", "no protocol may reverse a clear order"
    known = [row for row in rows if np.isfinite(row.gap)]
    if not known:
        return Finding(label, None, None, 0, source, "not measurable", "No protocol could score both systems.")
    default = {row.metric: row for row in rows if row.protocol == DEFAULT}
    turned = [row for row in known if row.gap * default[row.metric].gap < 0]
    clear = [row for row in turned if row.leader * default[row.metric].leader < 0]
    share = len(turned) / len(known)
    if clear:
        row = clear[0]
        advice = (
            f"{row.metric}: on the whole gallery {second} differs by {_points(default[row.metric].gap)} points, with "
            f"'{row.protocol}' by {_points(row.gap)}, and both intervals exclude zero. Which system is better depends "
            "on the protocol: report both, and say which one answers your question."
        )
        return Finding(label, share, None, 0, source, "problem", advice, "%")
    if turned:
        names = ", ".join(dict.fromkeys(f"{row.metric} with '{row.protocol}'" for row in turned))
        advice = f"The order turns round in {names}, within the intervals: these data do not tell the two apart there."
        return Finding(label, share, None, 0, source, "look", advice, "%")
    return Finding(label, 0.0, None, 0, source, "ok", f"{second} keeps its place under every protocol.", "%")


def _points(value: float) -> str:
    return f"{100 * value:.1f}"
