"""Learning curves: the accuracy that so many labelled texts lead to, and how many an accuracy takes."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from sklearn.isotonic import isotonic_regression

from ppl_hmm import schema
from ppl_hmm.audits.labelled.intervals import Interval, wilson
from ppl_hmm.audits.labelled.learned import Approach, accuracy_of
from ppl_hmm.audits.labelled.texts import LabelledTexts
from ppl_hmm.base.randomness import CPU, Seed, generator

#: Accuracies that every audit says the number of labelled texts for.
TARGETS = (0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_SIZES, _DRAWS = 6, 5
_FEWEST = 8


def learning_curve(texts: LabelledTexts, approaches: list[Approach], seed: Seed) -> xr.Dataset:
    """Return accuracies on held-out texts by number of labelled texts learned from, and how many accuracies take.

    ``accuracy`` (approach, n_texts, draw) of random parts of the learning texts; ``mean``, ``low`` and ``high``
    (approach, n_texts), made monotone: more texts do no harm on average. ``texts_needed`` and its ``_low`` and
    ``_high`` (approach, target), infinite where the learning texts do not reach an accuracy.
    """
    sizes = _sizes(len(texts.learn), len(texts.classes))
    stream = generator(seed, "audit: learning curve")

    def part(size: int) -> np.ndarray:
        return texts.learn[torch.randperm(len(texts.learn), generator=stream, device=CPU).numpy()[:size]]

    parts = [[part(size) for _ in range(_DRAWS)] for size in sizes]
    found = np.array(
        [
            [[accuracy_of(approach, texts.labels, each, texts.test) for each in draws] for draws in parts]
            for approach in approaches
        ]
    )
    bands = np.array([[_interval(draws, texts) for draws in of_size] for of_size in found])  # (approach, n_texts, 3)
    mean = np.array([isotonic_regression(each) for each in bands[..., 0]])
    low = np.maximum.accumulate(bands[..., 1], axis=1)
    high = np.minimum.accumulate(bands[:, ::-1, 2], axis=1)[:, ::-1]
    of_size = (schema.APPROACH, schema.N_TEXTS)
    curve = xr.Dataset(
        {
            schema.ACCURACY: ((*of_size, schema.DRAW), found),
            "mean": (of_size, mean),
            "low": (of_size, np.minimum(low, mean)),
            "high": (of_size, np.maximum(high, mean)),
        },
        coords={schema.APPROACH: [approach.name for approach in approaches], schema.N_TEXTS: sizes},
    )
    return _with_targets(curve)


def needed(curve: xr.Dataset, accuracy: float) -> Interval:
    """Return how many labelled texts an accuracy takes, by the curve (n_texts) of one approach, and its interval.

    The ends are where the upper and the lower limit of the curve reach it; between two sizes by straight lines in
    log n. The smallest size where it is reached there already, infinite where none reaches it.
    """
    sizes = curve[schema.N_TEXTS].values
    return Interval(*(_reached(sizes, curve[name].values, accuracy) for name in ("mean", "high", "low")))


def _with_targets(curve: xr.Dataset) -> xr.Dataset:
    of_approach = (curve.isel({schema.APPROACH: row}) for row in range(curve.sizes[schema.APPROACH]))
    found = np.array([[needed(own, each) for each in TARGETS] for own in of_approach])
    names = (schema.TEXTS_NEEDED, f"{schema.TEXTS_NEEDED}_low", f"{schema.TEXTS_NEEDED}_high")
    dimensions = (schema.APPROACH, schema.TARGET)
    columns = {name: (dimensions, found[..., part]) for part, name in enumerate(names)}
    return curve.assign(columns).assign_coords({schema.TARGET: list(TARGETS)})


def _reached(sizes: np.ndarray, curve: np.ndarray, accuracy: float) -> float:
    above = np.flatnonzero(curve >= accuracy)
    if not len(above):
        return float("inf")
    after = above[0]
    if after == 0:
        return float(sizes[0])
    rise = (accuracy - curve[after - 1]) / (curve[after] - curve[after - 1])
    logs = np.log(sizes)
    return float(np.exp(logs[after - 1] + rise * (logs[after] - logs[after - 1])))


def _interval(draws: np.ndarray, texts: LabelledTexts) -> Interval:
    """Return the mean of accuracies, with an interval that holds the draws of both learning and test texts."""
    share = draws.mean()
    n_test = len(texts.test) if texts.test_groups is None else len(np.unique(texts.test_groups))  # errors go by groups
    binomial = share * (1 - share)
    size = binomial / (binomial / n_test + draws.var(ddof=1) / len(draws)) if binomial > 0 else n_test
    return wilson(float(share), float(size))


def _sizes(n_learn: int, n_classes: int) -> list[int]:
    fewest = min(max(_FEWEST, 2 * n_classes), n_learn)
    return np.unique(np.geomspace(fewest, n_learn, _SIZES).round().astype(int)).tolist()
