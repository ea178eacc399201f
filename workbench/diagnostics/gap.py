"""The modality gap: how far the two sides lie apart, and whether that touches the ranking.

A gap alone moves no ranking: what every item of a gallery shares cancels when the items of one query are compared. It
matters as far as some items lie closer to the other side's centre than others, because closeness to the centre of the
queries is added to an item's score for every query alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from workbench.statistics import Interval, cluster_bootstrap
from workbench.types import Finding, FloatArray, IntArray, Verdict, unit_vectors

if TYPE_CHECKING:
    import pandas as pd

CENTRE_LOOK = 0.5
CENTRE_SOURCE = (
    "convention of this project: trained CLIP models read 0.13 to 0.15 on small photo sets, a model that fails on its "
    "data 1.1; 'look' from one half of the distance between right and wrong pairs"
)
SEPARATION_LOOK = 0.9
SEPARATION_SOURCE = (
    "chance is 0.5 (problem when the interval reaches it); 0.9 for 'look' is a convention of this project"
)


@dataclass(frozen=True, eq=False)
class ModalityGap:
    """Where the two sides lie, and how well right pairs stand out from wrong ones.

    centroid_distance : Euclidean distance of the two means of unit vectors, 0 to 2.
    paired : (n_pairs,) cosine of each text with its own image. unpaired : cosines of sampled wrong pairs
        (n_unpaired_possible says of how many; all of them when sampled is False).
    separation : probability that a right pair is closer than a wrong one, over all texts, ties counted half. A ranking
        compares within a text: where some texts are closer to everything, this is lower than what it sees.
    within_image, within_text : mean cosine of two different items of one side, how narrow its cone is (NaN: one item).
    centre_spread_image, centre_spread_text : standard deviation over the items of one side of their dot product with
        the other side's centroid: what closeness to the centre adds to scores, item by item, whatever the query.
    modality_auc : a linear classifier of image against text, fitted on half of the images with their texts and scored
        on the other half. 1.000 for trained and for random networks alike: it sets no verdict. NaN for too few pairs.
    map_images (n_images, 2), map_texts (n_texts, 2) : the two main directions (PCA) of both sides together;
        map_variance : the share of variance each of them holds.
    """

    n_images: int
    n_texts: int
    centroid_distance: float
    paired: FloatArray
    paired_clusters: IntArray
    unpaired: FloatArray
    n_unpaired_possible: int
    paired_mean: Interval
    separation: Interval
    within_image: float
    within_text: float
    centre_spread_image: float
    centre_spread_text: float
    modality_auc: float
    map_images: FloatArray
    map_texts: FloatArray
    map_variance: tuple[float, float]
    seed: int

    @property
    def sampled(self) -> bool:
        """Whether the wrong pairs are a sample."""
        return len(self.unpaired) < self.n_unpaired_possible

    @property
    def margin(self) -> float:
        """Mean cosine of right pairs minus mean cosine of wrong pairs."""
        return self.paired_mean.value - float(self.unpaired.mean())

    @property
    def centre_ratio(self) -> float:
        """The larger of the two centre spreads over the margin; infinite when right pairs are no closer."""
        spread = max(self.centre_spread_image, self.centre_spread_text)
        return spread / self.margin if self.margin > 0 else float("inf")

    @property
    def relative_gap(self) -> float:
        """Relative modality gap, 0 to 1: distance of right pairs against that plus the distance within the sides.

            RMG = d_paired / (d_paired + (d_images + d_texts) / 2),   d = 1 - mean cosine

        0: right pairs coincide; 1/2: they lie as far apart as two items of one side, what a random network with no gap
        reads; near 1: both sides are narrow cones far from each other. NaN for one item or constant vectors. Formula as
        in the authors' code, where d is (1 - cosine) / 2; the factor cancels.
        Source: S. Schrodi, D. T. Hoffmann, M. Argus, V. Fischer, T. Brox, "Two Effects, One Trigger: On the Modality
        Gap, Object Bias, and Information Imbalance in Contrastive Vision-Language Models", ICLR 2025,
        https://arxiv.org/abs/2404.07983.
        """
        paired, within = 1 - self.paired_mean.value, 1 - (self.within_image + self.within_text) / 2
        return paired / (paired + within) if paired + within > 1e-6 else float("nan")

    def table(self) -> pd.DataFrame:
        """One row per number, with its interval where it has one."""
        import pandas as pd

        wrong = (
            f"{len(self.unpaired):,} of {self.n_unpaired_possible:,} wrong pairs, {'sample' if self.sampled else 'all'}"
        )
        blank = float("nan")
        rows = [
            ("distance of the centroids", self.centroid_distance, blank, blank, "0 to 2"),
            ("mean cosine, right pairs", self.paired_mean.value, self.paired_mean.low, self.paired_mean.high,
             f"{len(self.paired):,} pairs"),
            ("mean cosine, wrong pairs", float(self.unpaired.mean()), blank, blank, wrong),
            ("P(right pair closer than wrong)", self.separation.value, self.separation.low, self.separation.high,
             "chance 0.5"),
            ("mean cosine within images", self.within_image, blank, blank, "how narrow their cone is"),
            ("mean cosine within texts", self.within_text, blank, blank, "how narrow their cone is"),
            ("relative gap", self.relative_gap, blank, blank, "0.5: right pairs as far apart as two of one side"),
            ("centre spread / margin", self.centre_ratio, blank, blank, "what the gap can do to a ranking"),
            ("AUC image against text, held out", self.modality_auc, blank, blank,
             "1.000 for trained and random networks alike: no verdict"),
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=["measure", "value", "low", "high", "note"]).set_index("measure")

    def plot(self, ax: Any = None) -> Any:
        """Histograms of the cosines of right and wrong pairs."""
        from workbench.plots import space

        return space.cosine_histograms(self, ax)

    def plot_map(self, ax: Any = None) -> Any:
        """Both sides on their two main directions."""
        from workbench.plots import space

        return space.pca_map(self.map_images, self.map_texts, ax, variance=self.map_variance)

    def findings(self) -> list[Finding]:
        """One finding about the gap, one about how far right pairs stand out."""
        return [_gap_finding(self), _separation_finding(self)]

    def flat(self) -> dict[str, float]:
        """Numbers by ``gap/name``; undefined values are left out."""
        values = {
            "centroid_distance": self.centroid_distance, "paired_cosine": self.paired_mean.value,
            "unpaired_cosine": float(self.unpaired.mean()), "separation": self.separation.value,
            "within_image": self.within_image, "within_text": self.within_text, "relative": self.relative_gap,
            "centre_ratio": self.centre_ratio, "modality_auc": self.modality_auc,
        }  # fmt: skip
        return {f"gap/{name}": float(value) for name, value in values.items() if np.isfinite(value)}

    def _repr_html_(self) -> str:
        return self.table().to_html(float_format=lambda value: f"{value:.3g}", na_rep="")


def modality_gap(
    images: npt.ArrayLike,
    texts: npt.ArrayLike,
    text_image: npt.ArrayLike,
    *,
    seed: int = 0,
    max_pairs: int = 100_000,
    n_resamples: int = 2000,
) -> ModalityGap:
    """Measure the gap between image and text vectors, and what it can do to a ranking.

    centroid distance = || mean_i image_i - mean_t text_t ||, all vectors scaled to length one
    centre ratio      = sd_g(item_g . centroid of the other side) / (mean paired - mean unpaired cosine), worst side

    images : (n_images, dim). texts : (n_texts, dim). text_image : (n_texts,) index of each text's own image, -1 for
    none (such a text counts for its side only). max_pairs : wrong pairs drawn with the seed, or all if there are fewer.
    Intervals: cluster bootstrap over images (captions of one image move together), the wrong pairs held fixed.
    Raises ValueError for wrong shapes, vectors of length zero, fewer than two images, or no text with an image.
    Reference: W. Liang, Y. Zhang, Y. Kwon, S. Yeung, J. Zou, "Mind the Gap: Understanding the Modality Gap in
    Multi-modal Contrastive Representation Learning", NeurIPS 2022, https://arxiv.org/abs/2203.02053 (the distance).

    >>> gap = modality_gap([[1.0, 0.0], [0.8, 0.6]], [[0.0, 1.0], [0.0, 1.0], [0.6, 0.8]], [0, 0, 1])
    >>> round(gap.centroid_distance, 3), gap.paired.round(2), len(gap.unpaired)
    (0.944, array([0.  , 0.  , 0.96]), 3)
    """
    image_vectors, text_vectors, own = _checked(images, texts, text_image)
    rng = np.random.default_rng(seed)
    with_image = np.flatnonzero(own >= 0)
    clusters = own[with_image]
    paired = np.einsum("ij,ij->i", image_vectors[clusters], text_vectors[with_image])
    possible = len(with_image) * (len(image_vectors) - 1)
    unpaired = _unpaired(image_vectors, text_vectors[with_image], clusters, rng, min(max_pairs, possible), possible)
    image_centre, text_centre = image_vectors.mean(axis=0), text_vectors.mean(axis=0)
    map_images, map_texts, variance = _map(image_vectors, text_vectors)
    return ModalityGap(
        n_images=len(image_vectors), n_texts=len(text_vectors),
        centroid_distance=float(np.linalg.norm(image_centre - text_centre)),
        paired=paired, paired_clusters=clusters, unpaired=unpaired, n_unpaired_possible=possible,
        paired_mean=cluster_bootstrap(paired, clusters, seed=seed, n_resamples=n_resamples),
        separation=cluster_bootstrap(share_below(paired, unpaired), clusters, seed=seed, n_resamples=n_resamples),
        within_image=_within(image_vectors), within_text=_within(text_vectors),
        centre_spread_image=float(np.std(image_vectors @ text_centre)),
        centre_spread_text=float(np.std(text_vectors @ image_centre)),
        modality_auc=_held_out_auc(image_vectors, text_vectors[with_image], clusters, rng),
        map_images=map_images, map_texts=map_texts, map_variance=variance, seed=seed,
    )  # fmt: skip


def share_below(values: npt.ArrayLike, sample: npt.ArrayLike) -> FloatArray:
    """For each value the share of the sample below it, equal ones counted half; the mean is the Mann-Whitney AUC.

    >>> share_below([0.5, 3.0], [0.0, 0.5, 1.0])
    array([0.5, 1. ])
    """
    ordered = np.sort(np.asarray(sample, np.float64))
    below, up_to = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return (below + up_to) / (2 * len(ordered))


def _checked(
    images: npt.ArrayLike, texts: npt.ArrayLike, text_image: npt.ArrayLike
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Unit vectors in float64 and the owner of each text, or an error."""
    image_vectors, text_vectors = unit_vectors(images).astype(np.float64), unit_vectors(texts).astype(np.float64)
    own = np.asarray(text_image, np.int64)
    if image_vectors.shape[1] != text_vectors.shape[1] or own.shape != (len(text_vectors),):
        raise ValueError(
            f"images {image_vectors.shape}, texts {text_vectors.shape} and text_image {own.shape} do not fit: the "
            "vectors need one width, text_image one entry per text"
        )
    if len(own) and not (-1 <= own.min() and own.max() < len(image_vectors)):
        raise ValueError(
            f"text_image must lie in -1..{len(image_vectors) - 1} (-1: no image); got {own.min()}..{own.max()}"
        )
    if len(image_vectors) < 2 or not (own >= 0).any():
        raise ValueError(
            f"{len(image_vectors)} images and {int((own >= 0).sum())} texts with an image; a wrong pair needs at least "
            "two images and one text"
        )
    return image_vectors, text_vectors, own


def _unpaired(
    images: FloatArray,
    texts: FloatArray,
    own: IntArray,
    rng: np.random.Generator,
    size: int,
    possible: int,
) -> FloatArray:
    """Cosines of wrong pairs: pair number p is text p // (n_images - 1) with its p % (n_images - 1)-th other image."""
    others = len(images) - 1
    if size == possible:
        return np.asarray((texts @ images.T)[np.arange(len(images)) != own[:, None]], np.float64)
    pairs = rng.integers(possible, size=size)
    text, image = pairs // others, pairs % others
    image = image + (image >= own[text])
    cosines = [
        np.einsum("ij,ij->i", images[image[start : start + 8192]], texts[text[start : start + 8192]])
        for start in range(0, size, 8192)
    ]
    return np.concatenate(cosines)


def _within(vectors: FloatArray) -> float:
    """Mean dot product of two different rows, from the length of their sum: (|sum|^2 - sum |v|^2) / (n (n - 1))."""
    n = len(vectors)
    if n < 2:
        return float("nan")
    return float((np.sum(vectors.sum(axis=0) ** 2) - np.sum(vectors**2)) / (n * (n - 1)))


def _held_out_auc(images: FloatArray, texts: FloatArray, own: IntArray, rng: np.random.Generator) -> float:
    """AUC of projecting on the difference of the centroids, fitted on other images and their texts."""
    train_image = np.zeros(len(images), dtype=bool)
    train_image[rng.permutation(len(images))[: len(images) // 2]] = True
    train_text = train_image[own]
    if min(train_image.sum(), (~train_image).sum(), train_text.sum(), (~train_text).sum()) < 1:
        return float("nan")
    direction = images[train_image].mean(axis=0) - texts[train_text].mean(axis=0)
    return float(share_below(images[~train_image] @ direction, texts[~train_text] @ direction).mean())


def _map(images: FloatArray, texts: FloatArray) -> tuple[FloatArray, FloatArray, tuple[float, float]]:
    """Coordinates on the first two principal directions of both sides together, each side weighing one half.

    The sign is fixed: the largest loading of a direction is positive. Directions that do not exist are zero.
    """
    centre = (images.mean(axis=0) + texts.mean(axis=0)) / 2
    sides = [images - centre, texts - centre]
    covariance = sum(side.T @ side / (2 * len(side)) for side in sides)
    variances, directions = np.linalg.eigh(covariance)
    directions = directions[:, ::-1][:, :2]
    largest = np.abs(directions).argmax(axis=0)
    directions = directions * np.where(directions[largest, np.arange(directions.shape[1])] < 0, -1.0, 1.0)
    total = max(float(variances.sum()), np.finfo(float).tiny)
    shares = [max(float(v), 0.0) / total for v in variances[::-1][:2]]
    width = ((0, 0), (0, 2 - directions.shape[1]))
    maps = [np.pad(side @ directions, width) for side in sides]
    return maps[0], maps[1], (shares[0], shares[1] if len(shares) > 1 else 0.0)


def _gap_finding(gap: ModalityGap) -> Finding:
    name, distance = "gap/centre_ratio", f"The centroids of images and texts are {gap.centroid_distance:.3g} apart."
    caveat = (
        " The distance itself shows neither good nor bad retrieval: random networks have one too, and closing it need "
        "not raise a score."
    )
    if gap.margin <= 0 or not gap.separation.low > 0.5:
        advice = (
            " Right pairs are not clearly closer than wrong ones: the effect of the gap has no scale to be read on."
        )
        return Finding(name, None, None, CENTRE_LOOK, CENTRE_SOURCE, "not measurable", distance + advice + caveat)
    verdict: Verdict = "look" if gap.centre_ratio >= CENTRE_LOOK else "ok"
    size = (
        " Closeness to the other side's centre, which counts for every query alike, varies between items by "
        f"{gap.centre_ratio:.2g} of what separates right pairs from wrong ones"
    )
    advice = {
        "ok": size + ": for most items the gap hardly touches the ranking; a few that lie closer show as hubs.",
        "look": size
        + ": some items gain or lose for every query. Read it with the hubness findings; a gallery bias or "
        "centring removes it.",
    }[verdict]
    return Finding(name, gap.centre_ratio, None, CENTRE_LOOK, CENTRE_SOURCE, verdict, distance + advice + caveat)


def _separation_finding(gap: ModalityGap) -> Finding:
    found = gap.separation
    says = (
        f"A right pair is closer than a wrong one, of whichever text, with probability {found.value:.3f} "
        f"({'a sample of ' if gap.sampled else ''}{len(gap.unpaired):,} wrong pairs)."
    )
    verdict: Verdict
    if not np.isfinite(found.low):
        return Finding(
            "gap/separation", None, None, 0.5, SEPARATION_SOURCE, "not measurable",
            f"{says} All texts belong to one image, so there is no interval; bring texts of more images.",
        )  # fmt: skip
    if found.low <= 0.5:
        verdict, threshold = "problem", 0.5
        advice = (
            " That cannot be told from chance: check that vectors and pairs are in the same order and weights loaded."
        )
    elif found.value < SEPARATION_LOOK:
        verdict, threshold = "look", SEPARATION_LOOK
        advice = (
            " Right pairs stand out only weakly: the encoder may not suit these data, some pairs are wrong, or some "
            "texts are closer than others to every image, which no ranking of images sees: compare the recall."
        )
    else:
        verdict, threshold = "ok", SEPARATION_LOOK
        advice = " Right pairs stand out from random ones; this says nothing about close distractors, as recall does."
    return Finding(
        "gap/separation", found.value, (found.low, found.high), threshold, SEPARATION_SOURCE, verdict, says + advice
    )
