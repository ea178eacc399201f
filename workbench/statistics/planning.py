"""How many queries a comparison needs, before it is made."""

from __future__ import annotations

import numpy as np
from scipy.special import nctdtrinc, ndtri, stdtrit


def _check_plan(n_clusters: float, alpha: float, power: float) -> None:
    if n_clusters < 2:
        raise ValueError(f"n_clusters must be at least 2, or nothing says how much they vary; got {n_clusters}")
    if not (0 < alpha < 0.5 and alpha < power < 1):
        raise ValueError(
            f"alpha must lie in 0..0.5 and power between alpha and 1, such as 0.05 and 0.8; got {alpha} and {power}"
        )


def minimum_detectable(n_clusters: int, sd: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference that a two-sided paired comparison of this many clusters finds in 80 % of studies.

        difference = delta * sd / sqrt(n_clusters),   P(t'_{C-1}(delta) > t_{C-1, 1 - alpha / 2}) = power

    sd : standard deviation, over clusters, of the mean difference of a cluster (its queries scored by both systems);
    with m queries a cluster that correlate by rho: the sd of one query's difference * sqrt((1 + (m - 1) rho) / m).
    t' is Student's t with non-centrality delta; for many clusters delta = z_{1 - alpha/2} + z_power = 2.80.
    Errors: fewer than two clusters, negative sd, alpha or power outside their range.
    J. Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd edition, 1988, chapter 2.

    >>> round(minimum_detectable(1000, 0.5), 4)
    0.0443
    """
    _check_plan(n_clusters, alpha, power)
    if not sd >= 0:
        raise ValueError(f"sd must be a number of at least 0; got {sd}")
    df = n_clusters - 1
    return float(nctdtrinc(df, 1 - power, stdtrit(df, 1 - alpha / 2)) * sd / np.sqrt(n_clusters))


def minimum_detectable_hits(n_clusters: int, discordant: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference of two hit rates that a paired comparison of this many queries finds.

        difference = z * sqrt(discordant / (n + z^2)),   z = z_{1 - alpha/2} + z_power

    It solves difference = z * sqrt(discordant - difference^2) / sqrt(n). discordant : share of queries that exactly one
    of the two systems gets right, 0..1; two systems with rates p and q that err independently have p(1-q) + q(1-p),
    alike ones far fewer. One query per cluster. A result above ``discordant`` cannot occur: then no true difference is
    found that often, and the answer is NaN. Errors: as :func:`minimum_detectable`.
    O. S. Miettinen, "The matched pairs design in the case of all-or-none responses", Biometrics 24, 1968,
    https://doi.org/10.2307/2528039.

    >>> round(minimum_detectable_hits(1000, 0.1), 4), minimum_detectable_hits(50, 0.1)
    (0.0279, nan)
    """
    _check_plan(n_clusters, alpha, power)
    if not 0 <= discordant <= 1:
        raise ValueError(f"discordant must be a share in 0..1; got {discordant}")
    z = ndtri(1 - alpha / 2) + ndtri(power)
    difference = float(z * np.sqrt(discordant / (n_clusters + z**2)))
    return difference if difference <= discordant else float("nan")


def clusters_needed(difference: float, sd: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """The fewest clusters with which a true difference is found in 80 % of studies: the inverse reading.

        min { C : minimum_detectable(C, sd) <= difference }

    difference, sd : as in :func:`minimum_detectable`, in the same unit. Errors: difference not above zero.

    >>> clusters_needed(0.05, 0.5), clusters_needed(0.025, 0.5)
    (787, 3142)
    """
    if not difference > 0:
        raise ValueError(f"difference must be above 0; got {difference}")
    low, high = 1, 2
    while minimum_detectable(high, sd, alpha=alpha, power=power) > difference:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        found = minimum_detectable(middle, sd, alpha=alpha, power=power) <= difference
        low, high = (low, middle) if found else (middle, high)
    return high
