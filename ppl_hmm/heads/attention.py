"""The attention head on masked conditionals, learned from labelled text.

At each position i of a text the head has a score s_i, and values v_i = B[x_i]ᵀG_i, one for each class contrast, that
depend on the token: what tells a position's own token from its context. The scores decide the attention, the decision
is Σ_i α_i v_i + c. Scores are Q[x_i]ᵀG_i, with the same row of Q for all tokens where they come from G alone.

Source: Wei, Xie & Ma (2021), §4, the attention head. Values that depend on the token turn P(·|x_{-i}) into P(·|x).
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ppl_hmm import _moved, schema
from ppl_hmm.base.arrays import require_unmasked
from ppl_hmm.errors import InvalidInput, one_of
from ppl_hmm.heads import stored
from ppl_hmm.heads.attending import ScoreWeights, learn_scores, pooled
from ppl_hmm.heads.logistic import DEFAULT_GRID, decide, fit_logistic, most_accurate, probabilities
from ppl_hmm.language_models.probe import MaskedFeatures
from ppl_hmm.recoverability.attention import observed, read

Attention = Literal["softmax", "hard"]
Scores = Literal["conditional", "token", "posterior"]

_KIND = "an AttentionHead"


class AttentionHead(ClassifierMixin, BaseEstimator):
    """Attention classifier on :class:`~ppl_hmm.language_models.probe.MaskedFeatures`: a scikit-learn estimator.

    Parameters
    ----------
    attention
        ``'softmax'``, or ``'hard'``: equal weights on the positions with the best score.
    scores
        ``'conditional'``: from G_i alone. ``'token'``: from G_i and x_i. ``'posterior'``: Q[x_i]ᵀG_i / G_i[x_i], the
        form of Theorem M; constructed, not learned.
    positional
        Whether each position has a learned bias as well; texts must then keep their number of positions.
    C
        Inverse strength of the L2 penalty on the values.
    tolerance
        Positions whose score is within it of the best count as best; for hard attention.

    Attributes
    ----------
    score_weights_
        Q (V+1,V): row x is read at token x, the last at ``MASK``.
    position_bias_
        (T,), or None.
    value_weights_
        B (1,V+1,V) for two classes, (C,V+1,V) for more.
    intercept_, classes_
        (1,) or (C,), and (C,).

    See Also
    --------
    ppl_hmm.masked_features : The features that it reads.
    ppl_hmm.constructed_attention : Its weights by a theorem, without training.
    ppl_hmm.LinearHead : A head that reads one mask.

    Notes
    -----
    ``predict`` gives the higher class on ties. Training costs O(80·(1000·(T·V² + V⁴) + V⁶)): for tens of tokens.

    Examples
    --------
    >>> from ppl_hmm import AttentionHead, OracleLM, example, masked_features, posterior
    >>> model, task = example("memory")
    >>> text = [[0, 3, 3], [1, 0, 3], [0, 4, 4], [4, 0, 1]]
    >>> features, labels = masked_features(OracleLM(model), text), task.labels(posterior(model, text))
    >>> head = AttentionHead(C=1e6).fit(features, labels)
    >>> head.score(features, labels)
    1.0
    """

    score_weights_: np.ndarray
    position_bias_: np.ndarray | None
    value_weights_: np.ndarray
    intercept_: np.ndarray
    classes_: np.ndarray

    def __init__(
        self,
        attention: Attention = "softmax",
        scores: Scores = "conditional",
        positional: bool = False,
        C: float = 1.0,
        tolerance: float = 1e-9,
    ) -> None:
        self.attention = attention
        self.scores = scores
        self.positional = positional
        self.C = C
        self.tolerance = tolerance

    def fit(self, X: MaskedFeatures, y: ArrayLike) -> Self:
        """Fit scores and values to features X of B texts and labels y (B,)."""
        labels = self._checked(X, y)
        self._fit_scores(X, labels)
        return self._fit_values(pooled(X, self._attention).numpy(), labels)

    @classmethod
    def select(
        cls,
        X: MaskedFeatures,
        y: ArrayLike,
        X_val: MaskedFeatures,
        y_val: ArrayLike,
        grid: Sequence[float] = DEFAULT_GRID,
        **options: Any,
    ) -> Self:
        """Return the head of the ``C`` in ``grid`` with the best validation accuracy, the strongest penalty on ties.

        Scores do not depend on C: they are learned once.
        """
        if not len(grid):
            raise InvalidInput("grid", "at least one value of C", "none", "pass e.g. (1.0, 1e6)")
        first = cls(**options)
        labels = first._checked(X, y)
        first._fit_scores(X, labels)
        features = pooled(X, first._attention).numpy()

        def fitted(C: float) -> Self:
            head = cls(**{**options, "C": C})
            head.score_weights_, head.position_bias_ = first.score_weights_, first.position_bias_
            return head._fit_values(features, labels)

        return most_accurate(map(fitted, sorted(grid)), X_val, y_val)

    @classmethod
    def from_weights(cls, score_weights: ArrayLike, value_weights: ArrayLike, **options: Any) -> Self:
        """Return the head with given Q (V+1,V) and B (1,V+1,V) or (C,V+1,V), classes 0..C−1 and no intercept."""
        head = cls(**options)
        head.score_weights_ = np.atleast_1d(stored.finite(score_weights, f"score_weights of {_KIND}"))
        head.value_weights_ = np.atleast_1d(stored.finite(value_weights, f"value_weights of {_KIND}"))
        n_scores = len(head.value_weights_)
        head.position_bias_, head.intercept_ = None, np.zeros(n_scores)
        head.classes_ = np.arange(max(2, n_scores))
        head._check_options()
        head._check_fitted()
        return head

    def attend(self, X: MaskedFeatures) -> np.ndarray:
        """Return the attention α (B,T): non-negative, of sum one over the positions of a text; zeros without any."""
        self._check_features(X)
        return self._attention(X).numpy()

    def decision_function(self, X: MaskedFeatures) -> np.ndarray:
        """Return scores: (B,) for two classes, (B,C) for more."""
        self._check_features(X)
        conditionals, rows = X.conditionals.detach().double().cpu(), observed(X.tokens.cpu(), self._vocabulary_size)
        values = read(torch.from_numpy(self.value_weights_), conditionals, rows)  # (C,B,T)
        decision = (self._attention(X) * values).sum(-1).T.numpy() + self.intercept_
        return decision[:, 0] if decision.shape[1] == 1 else decision

    def predict(self, X: MaskedFeatures) -> np.ndarray:
        """Return the class of each text; ties go to the higher class."""
        return decide(self.decision_function(X), self.classes_)

    def predict_proba(self, X: MaskedFeatures) -> np.ndarray:
        """Return the probability of each class (B,C) by logistic regression; ``predict`` takes the largest."""
        return probabilities(self.decision_function(X))

    def to_dataset(self) -> xr.Dataset:
        """Return the fitted head as a labelled dataset."""
        check_is_fitted(self, "value_weights_")
        variables = {
            "score_weights": ((schema.OBSERVED_TOKEN, schema.TOKEN), self.score_weights_),
            "value_weights": ((schema.SCORE, schema.OBSERVED_TOKEN, schema.TOKEN), self.value_weights_),
            "intercepts": (schema.SCORE, self.intercept_),
            "classes": (schema.CLASS, self.classes_),
        }
        if self.position_bias_ is not None:
            variables["position_bias"] = (schema.POSITION, self.position_bias_)
        options = {name: int(value) if isinstance(value, bool) else value for name, value in self.get_params().items()}
        return xr.Dataset(variables, attrs={"kind": "AttentionHead", **options})

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset) -> Self:
        """Return the head of a dataset that ``to_dataset`` made.

        Raises
        ------
        InvalidInput
            A variable or an attribute is missing or not valid (which, why).
        """
        head = cls(
            attention=dataset.attrs.get("attention", "softmax"),
            scores=dataset.attrs.get("scores", "conditional"),
            positional="position_bias" in dataset,
            C=stored.number(dataset, "C", 1.0, _KIND, above=0),
            tolerance=stored.number(dataset, "tolerance", 1e-9, _KIND),
        )
        rows = (schema.OBSERVED_TOKEN, schema.TOKEN)
        head.score_weights_ = stored.weights(dataset, "score_weights", rows, _KIND)
        head.value_weights_ = stored.weights(dataset, "value_weights", (schema.SCORE, *rows), _KIND)
        head.intercept_ = stored.weights(dataset, "intercepts", (schema.SCORE,), _KIND)
        head.position_bias_ = None
        if head.positional:
            head.position_bias_ = stored.weights(dataset, "position_bias", (schema.POSITION,), _KIND)
        head.classes_ = stored.classes(dataset, _KIND)
        head._check_options()
        head._check_fitted()
        return head

    def _checked(self, X: MaskedFeatures, y: ArrayLike) -> np.ndarray:
        """Return the labels, after a check of options, features and labels; sets the classes."""
        self._check_options()
        if self.scores == "posterior":
            raise InvalidInput(
                "scores of a learned head", "'conditional' or 'token'", "'posterior'", "use constructed_attention"
            )
        require_unmasked(labels=y)
        labels = np.asarray(y)
        if not isinstance(X, MaskedFeatures) or labels.shape != (len(X),):
            got = f"{type(X).__name__} and labels of shape {labels.shape}"
            raise InvalidInput("data of an AttentionHead", "MaskedFeatures of B texts, labels (B,)", got, "check sizes")
        check_classification_targets(labels)
        self.classes_ = np.unique(labels)
        if len(self.classes_) < 2:
            raise InvalidInput("labels", "at least two classes", f"{self.classes_.tolist()} only", "relabel")
        return labels

    def _fit_scores(self, X: MaskedFeatures, labels: np.ndarray) -> None:
        """Learn the scores; the values that they were learned with are left to :meth:`_fit_values`."""
        contrasted = self.classes_[1:] if len(self.classes_) == 2 else self.classes_  # the higher of two, or all
        of_class = torch.from_numpy(labels[None] == contrasted[:, None])
        learned = learn_scores(
            X,
            2.0 * of_class.double() - 1.0,
            by_token=self.scores == "token",
            positional=self.positional,
            hard=self.attention == "hard",
        )
        self.score_weights_ = learned.weights.numpy()
        self.position_bias_ = None if learned.bias is None else learned.bias.numpy()

    def _fit_values(self, features: np.ndarray, labels: np.ndarray) -> Self:
        """Fit the values to pooled features (B,(V+1)·V) of all texts."""
        regression = fit_logistic(features, labels, self.C)
        self.classes_, self.intercept_ = regression.classes_, np.atleast_1d(regression.intercept_)
        self.value_weights_ = regression.coef_.reshape(len(self.intercept_), *self.score_weights_.shape)
        return self

    def _attention(self, X: MaskedFeatures) -> Tensor:
        bias = None if self.position_bias_ is None else torch.from_numpy(self.position_bias_)
        hard_within = self.tolerance if self.attention == "hard" else None
        scores = ScoreWeights(torch.from_numpy(self.score_weights_), bias)
        return scores.attention(X, divided=self.scores == "posterior", hard_within=hard_within)

    @property
    def _vocabulary_size(self) -> int:
        return self.score_weights_.shape[1]

    def _check_options(self) -> None:
        one_of("value of 'attention'", self.attention, ("softmax", "hard"))
        one_of("value of 'scores'", self.scores, ("conditional", "token", "posterior"))
        if not isinstance(self.tolerance, Real) or not self.tolerance >= 0:
            raise InvalidInput("tolerance", "a non-negative number", repr(self.tolerance), "pass e.g. 1e-9")

    def _check_fitted(self) -> None:
        n_tokens = self.score_weights_.shape[-1]
        n_scores = 1 if len(self.classes_) == 2 else len(self.classes_)
        stored.require_shape(self.score_weights_, (n_tokens + 1, n_tokens), f"score_weights of {_KIND}")
        stored.require_shape(self.value_weights_, (n_scores, n_tokens + 1, n_tokens), f"value_weights of {_KIND}")
        stored.require_shape(self.intercept_, (n_scores,), f"intercepts of {_KIND}")

    def _check_features(self, X: MaskedFeatures) -> None:
        check_is_fitted(self, "value_weights_")
        if not isinstance(X, MaskedFeatures) or X.conditionals.shape[-1] != self._vocabulary_size:
            got = tuple(X.conditionals.shape) if isinstance(X, MaskedFeatures) else type(X).__name__
            expected = f"MaskedFeatures (B, T, {self._vocabulary_size})"
            raise InvalidInput("features of an AttentionHead", expected, str(got), "use masked_features(lm, tokens)")
        if self.position_bias_ is not None and X.tokens.shape[1] != len(self.position_bias_):
            raise InvalidInput(
                "positions of an AttentionHead with positional scores",
                str(len(self.position_bias_)),
                str(X.tokens.shape[1]),
                "pad the text and give lengths",
            )


if not TYPE_CHECKING:
    __getattr__ = _moved.former_names(__name__)
