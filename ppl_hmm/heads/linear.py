"""The linear head on masked conditionals, learned by logistic regression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ppl_hmm import _moved, schema
from ppl_hmm.base.arrays import require_unmasked
from ppl_hmm.base.labels import require_same_rows
from ppl_hmm.errors import InvalidInput, one_of
from ppl_hmm.heads import stored
from ppl_hmm.heads.logistic import DEFAULT_GRID, decide, fit_logistic, logistic_path, most_accurate, probabilities

_KIND = "a LinearHead"


class LinearHead(ClassifierMixin, BaseEstimator):
    """Linear classifier on masked conditionals G (B,V): a scikit-learn estimator.

    Parameters
    ----------
    C
        Inverse strength of the L2 penalty. Conditionals of nearly deterministic models differ by little, so useful
        values reach 1e6.
    features
        ``'probability'``: G itself, the theorems' class of heads. ``'log'``: log max(G, floor), a stronger class.
    floor
        Smallest probability that ``'log'`` tells from zero.

    Attributes
    ----------
    coef_, intercept_, classes_, n_features_in_
        As in ``sklearn.linear_model.LogisticRegression``.

    See Also
    --------
    ppl_hmm.probe_features : The features that it reads.
    ppl_hmm.constructed_head : Its weights by a theorem, without training.
    ppl_hmm.AttentionHead : A head that reads all positions.

    Notes
    -----
    ``predict`` gives the higher class on ties: score ≥ 0 for two classes. Training costs O(iterations·B·V²), and
    O(B²·V + iterations·B³) for more features than texts, whose span it is done in.
    Source: Wei, Xie & Ma (2021), §3: head tuning.

    Examples
    --------
    >>> from ppl_hmm import LinearHead, OracleLM, example, posterior, probe_features, sample
    >>> model, task = example("aliased")
    >>> text = sample(model, 200, length=10, seed=0).tokens
    >>> features, labels = probe_features(OracleLM(model), text), task.labels(posterior(model, text))
    >>> head = LinearHead(C=1e6).fit(features, labels)
    >>> head.score(features, labels)
    0.72
    """

    coef_: np.ndarray
    intercept_: np.ndarray
    classes_: np.ndarray
    n_features_in_: int

    def __init__(
        self, C: float = 1.0, features: Literal["probability", "log"] = "probability", floor: float = 1e-30
    ) -> None:
        self.C = C
        self.features = features
        self.floor = floor

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit to features X (B,V) and labels y (B,) by penalised logistic regression.

        A row of weight w in ``sample_weight`` (B,) counts as w rows, one of weight zero as none.

        Raises
        ------
        InvalidInput
            A bad option; rows of different lengths; weights of another shape, negative or not finite; none above zero;
            masked entries; labels of one class. Labels or weights whose rows are named as those of X are, in another
            order: rows are taken by position, as in scikit-learn.
        """
        self._check_features()
        require_unmasked(X=X, y=y, sample_weight=sample_weight)
        require_same_rows(X, y=y, sample_weight=sample_weight)
        _require_features(X)
        X, y = validate_data(self, X, y)  # type: ignore[assignment]
        features, labels, weights = self._transform(np.asarray(X)), np.asarray(y), None
        if sample_weight is not None:
            weights = _checked_weights(sample_weight, len(labels))
            counted = weights > 0
            features, labels, weights = features[counted], labels[counted], weights[counted]
        classes = np.unique(labels)
        if len(classes) < 2:
            raise InvalidInput("labels", "at least two classes", f"one class, {classes[0]}", "relabel")
        regression = fit_logistic(features, labels, self.C, weights)
        self.coef_, self.classes_ = regression.coef_, regression.classes_
        self.intercept_ = np.atleast_1d(regression.intercept_)
        return self

    @classmethod
    def select(
        cls,
        X: ArrayLike,
        y: ArrayLike,
        X_val: ArrayLike,
        y_val: ArrayLike,
        grid: Sequence[float] = DEFAULT_GRID,
        **options: Any,
    ) -> Self:
        """Return the head of the ``C`` in ``grid`` with the best validation accuracy, the strongest penalty on ties."""
        if not len(grid):
            raise InvalidInput("grid", "at least one value of C", "none", "pass e.g. (1.0, 1e6)")
        return most_accurate((cls(C=C, **options).fit(X, y) for C in sorted(grid)), X_val, y_val)

    @classmethod
    def from_weights(cls, weights: ArrayLike) -> Self:
        """Return the head with given weights b, (V,) for classes 0 and 1 or (C,V), and no intercept.

        Raises
        ------
        InvalidInput
            Weights of another rank, or that are no finite numbers.
        """
        coefficients = np.atleast_2d(stored.finite(weights, f"weights of {_KIND}"))
        if coefficients.ndim != 2 or not coefficients.size:
            raise InvalidInput(f"weights of {_KIND}", "shape (V,) or (C, V)", f"shape {np.shape(weights)}", "reshape")
        head = cls()
        head.coef_ = coefficients
        head.intercept_ = np.zeros(len(coefficients))
        head.classes_ = np.arange(max(2, len(coefficients)))
        head.n_features_in_ = coefficients.shape[1]
        return head

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Return scores: (B,) for two classes, (B,C) for more."""
        check_is_fitted(self, "coef_")
        require_unmasked(X=X)
        _require_features(X)
        X = validate_data(self, X, reset=False)  # type: ignore[assignment]
        scores = self._transform(np.asarray(X)) @ self.coef_.T + self.intercept_
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return the class of each row; ties go to the higher class."""
        return decide(self.decision_function(X), self.classes_)

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the probability of each class (B,C) by logistic regression; ``predict`` takes the largest.

        Constructed heads have the right sign, but were fitted to no probabilities.
        """
        return probabilities(self.decision_function(X))

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy on features X (B,V) and labels y (B,); errors as :meth:`fit`."""
        require_unmasked(y=y, sample_weight=sample_weight)
        require_same_rows(X, y=y, sample_weight=sample_weight)
        return super().score(X, y, sample_weight)

    def to_dataset(self) -> xr.Dataset:
        """Return the fitted head as a labelled dataset."""
        check_is_fitted(self, "coef_")
        return xr.Dataset(
            {
                "coefficients": ((schema.SCORE, schema.TOKEN), self.coef_),
                "intercepts": (schema.SCORE, self.intercept_),
                "classes": (schema.CLASS, self.classes_),
            },
            attrs={"kind": "LinearHead", "C": self.C, "features": self.features, "floor": self.floor},
        )

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> Self:
        """Return the head of a dataset that ``to_dataset`` made.

        Raises
        ------
        InvalidInput
            A variable or an attribute is missing or not valid (which, why).
        """
        head = cls(
            C=stored.number(dataset, "C", 1.0, _KIND, above=0),
            features=dataset.attrs.get("features", "probability"),
            floor=stored.number(dataset, "floor", 1e-30, _KIND, above=0),
        )
        head._check_features()
        head.coef_ = stored.weights(dataset, "coefficients", (schema.SCORE, schema.TOKEN), _KIND)
        head.intercept_ = stored.weights(dataset, "intercepts", (schema.SCORE,), _KIND)
        head.classes_ = stored.classes(dataset, _KIND)
        head.n_features_in_ = head.coef_.shape[1]
        n_classes, n_scores = len(head.classes_), len(head.coef_)
        if len(head.intercept_) != n_scores or (n_scores != n_classes and (n_scores, n_classes) != (1, 2)):
            raise InvalidInput(
                f"scores of {_KIND}",
                f"{1 if n_classes == 2 else n_classes} for {n_classes} classes",
                f"{n_scores} and {len(head.intercept_)} intercepts",
                "fit the head again",
            )
        return head

    def _check_features(self) -> None:
        one_of("value of 'features'", self.features, ("probability", "log"))
        if not 0 < self.floor < 1:
            raise InvalidInput("floor", "a probability above 0", repr(self.floor), "pass e.g. 1e-30")

    def _transform(self, X: np.ndarray) -> np.ndarray:
        return np.log(np.maximum(X, self.floor)) if self.features == "log" else X


def best_on_path(
    X: np.ndarray, y: np.ndarray, X_val: np.ndarray, y_val: np.ndarray, grid: Sequence[float] = DEFAULT_GRID
) -> LinearHead:
    """Return what :meth:`LinearHead.select` does for classes 0 and 1 of conditionals, in a quarter of its time.

    Each penalty's head starts from that of the one before. There is no intercept, as conditionals sum to one.
    """

    def heads() -> Iterator[LinearHead]:
        for C, weights in zip(sorted(grid), logistic_path(X, y, grid), strict=True):
            head = LinearHead.from_weights(weights)
            head.C = C
            yield head

    return most_accurate(heads(), X_val, y_val)


def _require_features(X: ArrayLike) -> None:
    """Raise :class:`InvalidInput` for rows of different lengths: texts, not what a head reads of them."""
    try:
        array = np.asarray(X)
        ragged = array.ndim == 1 and array.dtype.kind == "O" and any(np.ndim(row) for row in array)
    except ValueError:  # of lists
        ragged = True
    if ragged:
        remedy = "pass probe_features(lm, tokens)"
        raise InvalidInput(f"features of {_KIND}", "shape (B, V)", "rows of different lengths", remedy)


def _checked_weights(sample_weight: ArrayLike, n_texts: int) -> np.ndarray:
    """Return weights (B,), finite, non-negative and not all zero; one number stands for all."""
    weights = np.asarray(sample_weight, dtype=float)
    weights = np.full(n_texts, weights) if weights.ndim == 0 else weights
    if weights.shape != (n_texts,) or not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        got = f"shape {weights.shape}" if weights.shape != (n_texts,) else f"{weights.min()}..{weights.max()}"
        raise InvalidInput("sample_weight", f"{n_texts} finite numbers ≥ 0, not all zero", got, "check the weights")
    return weights


if not TYPE_CHECKING:
    __getattr__ = _moved.former_names(__name__)
