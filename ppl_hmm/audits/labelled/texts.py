"""Labelled texts as heads read them: features, classes, groups, and which texts are held out."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.arrays import as_tensor, require_unmasked
from ppl_hmm.base.labels import Order, matched, read
from ppl_hmm.base.randomness import CPU, Seed, generator
from ppl_hmm.errors import InvalidInput

#: Share of the texts that is held out, for accuracies alone.
TEST_SHARE = 0.3
# Fewer labelled texts say nothing that an interval would not swallow.
_FEWEST_TEXTS = 20
_SUM_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledTexts:
    """What heads read of texts, and the classes of these.

    Attributes
    ----------
    features
        (B,n) finite numbers.
    labels
        (B,): numbers of the classes, 0..C−1.
    classes
        (C,): their names, as they were given, in order.
    groups
        (B,) numbers: texts of one group are never on both sides of the split; None without groups.
    learn, test
        Texts that heads are learned from, in random order, and texts held out.
    """

    features: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    groups: np.ndarray | None
    learn: np.ndarray
    test: np.ndarray

    @classmethod
    def of(cls, features: ArrayLike | Tensor, labels: Any, groups: Any, seed: Seed) -> LabelledTexts:
        """Check features (B,n), labels (B,) and groups (B,), and hold texts out at random: of each class, or by groups.

        Raises
        ------
        InvalidInput
            Features that are NaN or of another rank, labels of one class, of more than half as many as texts, missing,
            or of real numbers, rows of other names; no more texts than features, or fewer than 20; groups that leave
            one class to learn from.
        """
        rows, order = _rows(features, "features")
        names = per_text(labels, len(rows), order, "labels")
        try:
            with warnings.catch_warnings(action="ignore"):  # of many classes, which are an error below
                check_classification_targets(names)
            classes, numbers = np.unique(names, return_inverse=True)
        except (ValueError, TypeError) as error:
            raise InvalidInput("labels", "classes", str(error).split(".")[0], "name each class") from None
        if len(classes) < 2:
            raise InvalidInput("labels", "at least two classes", f"one class, {classes[0]}", "label other texts, too")
        fewest = max(rows.shape[1] + 1, _FEWEST_TEXTS)
        if len(rows) < fewest:
            raise InvalidInput(
                "labelled texts",
                f"at least {fewest}: some head tells any {rows.shape[1]} texts apart by {rows.shape[1]} features",
                str(len(rows)),
                "label more texts, or read fewer features, such as the probabilities of a few label words",
            )
        if 2 * len(classes) > len(rows):
            got = f"{len(classes)} classes of {len(rows)} texts"
            raise InvalidInput("labels", "several texts of each class", got, "are these row numbers?")
        together = None
        if groups is not None:
            together = np.unique(per_text(groups, len(rows), order, "groups"), return_inverse=True)[1]
        learn, test = _split(numbers, together, seed)
        if len(np.unique(numbers[learn])) < 2 or not len(test):
            raise InvalidInput("groups", "some to hold out, two classes to learn from", "fewer", "make smaller groups")
        return cls(rows, numbers, classes, together, learn, test)

    def reading(self, features: ArrayLike | Tensor, what: str) -> np.ndarray:
        """Return other features (B,m) of the same texts.

        Raises
        ------
        InvalidInput
            Another number of texts, NaN.
        """
        rows, _ = _rows(features, what)
        if len(rows) != len(self.features):
            raise InvalidInput(what, f"{len(self.features)} texts, as features have", str(len(rows)), "read the same")
        return rows

    @property
    def test_groups(self) -> np.ndarray | None:
        """Groups of the texts held out."""
        return None if self.groups is None else self.groups[self.test]


def per_text(values: Any, n_texts: int, order: Order | None, what: str) -> np.ndarray:
    """Return a value for each text (B,), in the order of the features' rows where both are named."""
    require_unmasked(**{what: values})
    array = read(values, (schema.SEQUENCE,), what)
    own = array.values.detach().cpu().numpy() if isinstance(array.values, Tensor) else array.values
    found = np.asarray(own)
    if found.shape != (n_texts,):
        raise InvalidInput(what, f"shape {(n_texts,)}", f"shape {found.shape}", "give one for each text")
    objects = np.asarray(own, dtype=object)  # beside words NumPy makes NaN and None words, too
    missing = pd.isna(objects)
    missing[~missing] = objects[~missing] == ""
    if missing.any():
        expected = "a class for each text" if what == "labels" else "one for each text"
        raise InvalidInput(what, expected, f"none for text {missing.argmax()}", "drop the text")
    places = torch.arange(n_texts, device=CPU)
    return found[matched(places, array.labels.get(schema.SEQUENCE), order, what, "features").numpy()]


def affine(features: np.ndarray) -> np.ndarray:
    """Return non-negative features (B,·) whose linear heads are the heads with intercept on these (B,n).

    Laws stay as they are: they sum to one. Others get the smallest of each subtracted, and a column of ones.
    """
    if features.min() >= 0 and np.abs(features.sum(1) - 1).max() <= _SUM_TOLERANCE:
        return features
    return np.c_[features - features.min(0), np.ones(len(features))]


def _rows(features: ArrayLike | Tensor, what: str) -> tuple[np.ndarray, Order | None]:
    array = read(features, (schema.SEQUENCE, schema.FEATURE), what)
    rows = as_tensor(array.values, torch.device("cpu"), what=what).detach().double().numpy()
    if rows.ndim != 2 or not rows.size:
        raise InvalidInput(what, "shape (B, n), a row a text", f"shape {rows.shape}", "reshape to two dimensions")
    if not np.isfinite(rows).all():
        text = int(np.flatnonzero(~np.isfinite(rows).all(1))[0])
        raise InvalidInput(what, "finite numbers", f"NaN or infinity in text {text}", "drop the texts")
    return rows, array.labels.get(schema.SEQUENCE)


def _split(labels: np.ndarray, groups: np.ndarray | None, seed: Seed) -> tuple[np.ndarray, np.ndarray]:
    """Return texts to learn from, in random order, and a share of each class, or whole groups, to test on."""
    stream = generator(seed, "audit: split")
    order = torch.randperm(len(labels), generator=stream, device=CPU).numpy()
    if groups is None:
        rank = np.empty(len(labels))
        for c in np.unique(labels):
            own = order[labels[order] == c]
            rank[own] = np.arange(len(own)) / len(own)
        held = rank < TEST_SHARE
    else:
        of_groups = torch.randperm(int(groups.max()) + 1, generator=stream, device=CPU).numpy()
        sizes = np.bincount(groups)[np.argsort(of_groups)]
        n_held = 1 + int(np.searchsorted(np.cumsum(sizes), TEST_SHARE * len(labels)))
        held = of_groups[groups] < min(n_held, len(sizes) - 1)
    return order[~held[order]], np.flatnonzero(held)
