"""The attention head on masked conditionals: learned, or constructed by Theorem M.

At each position i of a text the head has a score s_i, and values v_i = B[x_i]ᵀG_i, one for each class contrast, that
depend on the token: what tells a position's own token from its context. The scores decide the attention, the decision
is Σ_i α_i v_i + c. Scores are Q[x_i]ᵀG_i, with the same row of Q for all tokens where they come from G alone.

For given attention the values are a logistic regression on Σ_i α_i e_{x_i} ⊗ G_i, convex in (V+1)·V weights. So they
are not trained beside the scores but solved for: one Newton step for each gradient step on the scores, as for prompts
(docs/decisions/0004-prompts-by-variable-projection.md). Scores start at zero: uniform attention, no randomness.

Source: Wei, Xie & Ma (2021), §4, the attention head. Values that depend on the token turn P(·|x_{-i}) into P(·|x).
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, Literal, Self

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.nn.functional import one_hot

from ppl_hmm import schema
from ppl_hmm.base.arrays import require_unmasked
from ppl_hmm.errors import InvalidInput, one_of
from ppl_hmm.heads import stored
from ppl_hmm.heads.logistic import DEFAULT_GRID, decide, fit_logistic, logistic_loss, newton, probabilities
from ppl_hmm.language_models.probe import MaskedFeatures
from ppl_hmm.models import MemoryHMM
from ppl_hmm.models.kinds import Prompt
from ppl_hmm.recoverability.attention import hard_attention, observed, of_token, read, soft_attention
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE, ConditionNotMet
from ppl_hmm.recoverability.memory import memory_certificate
from ppl_hmm.tasks import MemoryTask

Attention = Literal["softmax", "hard"]
Scores = Literal["conditional", "token", "posterior"]

_STEPS = 80
_LEARNING_RATE = 0.3
_WARM_UP = 5  # Newton steps before the first gradient
# Few weights place the attention; the values are fitted to all texts afterwards.
_TRAINING_TEXTS = 1000
_SHARPEST = 30.0  # hard attention is trained as a softmax that sharpens up to this factor
_TEXTS_AT_ONCE = 1024  # pooled features are ten times the size of G

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

    Notes
    -----
    ``predict`` gives the higher class on ties. Training costs O(80·(1000·(T·V² + V⁴) + V⁶)): for tens of tokens.
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
        with torch.device("cpu"):  # the optimiser's own tensors, wherever others are placed by default
            self._fit_scores(X, labels)
        return self._fit_values(self._pooled(X), labels)

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
        with torch.device("cpu"):
            first._fit_scores(X, labels)
        pooled, heads = first._pooled(X), []
        for C in sorted(grid):
            head = cls(**{**options, "C": C})
            head.score_weights_, head.position_bias_ = first.score_weights_, first.position_bias_
            heads.append(head._fit_values(pooled, labels))
        scores = [head.score(X_val, y_val) for head in heads]
        return heads[int(np.argmax(scores))]

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
        """Learn the scores on the first texts: Adam, the values solved for at every step."""
        X, labels = X[:_TRAINING_TEXTS], labels[:_TRAINING_TEXTS]
        conditionals = X.conditionals.detach().double().cpu()
        n_tokens, present = conditionals.shape[-1], X.present.cpu()
        rows = observed(X.tokens.cpu(), n_tokens)
        own_token = _indicators(rows, n_tokens)
        of_class = torch.from_numpy(labels[None] == self._contrasted_classes[:, None])
        sign = 2.0 * of_class.double() - 1.0  # (1 or C,B)
        weights = conditionals.new_zeros(n_tokens + 1 if self.scores == "token" else 1, n_tokens, requires_grad=True)
        bias = conditionals.new_zeros(conditionals.shape[1], requires_grad=self.positional)
        learned = [weights, bias] if self.positional else [weights]
        optimiser = torch.optim.Adam(learned, lr=_LEARNING_RATE)
        values = conditionals.new_zeros(len(sign), (n_tokens + 1) * n_tokens)
        best, best_loss = [part.detach().clone() for part in learned], torch.inf
        for step in range(_STEPS):
            # A softmax that sharpens ends near the hard attention that it stands for.
            sharpness = _SHARPEST ** (step / _STEPS) if self.attention == "hard" else 1.0
            scores = conditionals @ weights.mT  # (B,T,1), or (B,T,V+1)
            scores = scores[..., 0] if len(weights) == 1 else scores.gather(-1, rows[..., None])[..., 0]
            attention = soft_attention(sharpness * (scores + bias), present)
            with torch.no_grad():
                pooled = _pool(attention, conditionals, own_token)
                values = newton(pooled.expand(len(sign), -1, -1), sign, values, steps=1 if step else _WARM_UP)
                given = read(values.unflatten(1, (n_tokens + 1, n_tokens)), conditionals, rows)  # (1 or C,B,T)
            decision = (attention * given).sum(-1)
            loss = logistic_loss(decision[..., None], sign, decision.new_ones(len(sign), 1)).sum()
            if loss.item() < best_loss or self.attention == "hard":
                best, best_loss = [part.detach().clone() for part in learned], loss.item()
            for part, gradient in zip(learned, torch.autograd.grad(loss, learned), strict=True):
                part.grad = gradient
            optimiser.step()
        self.score_weights_ = best[0].expand(n_tokens + 1, -1).contiguous().numpy()
        self.position_bias_ = best[1].numpy() if self.positional else None

    def _fit_values(self, pooled: np.ndarray, labels: np.ndarray) -> Self:
        """Fit the values to pooled features (B,(V+1)·V) of all texts."""
        regression = fit_logistic(pooled, labels, self.C)
        self.classes_, self.intercept_ = regression.classes_, np.atleast_1d(regression.intercept_)
        self.value_weights_ = regression.coef_.reshape(len(self.intercept_), *self.score_weights_.shape)
        return self

    def _pooled(self, X: MaskedFeatures) -> np.ndarray:
        """Return Σ_i α_i e_{x_i} ⊗ G_i (B,(V+1)·V)."""
        parts = (X[start : start + _TEXTS_AT_ONCE] for start in range(0, len(X), _TEXTS_AT_ONCE))
        pooled = []
        for part in parts:
            own_token = _indicators(observed(part.tokens.cpu(), self._vocabulary_size), self._vocabulary_size)
            pooled.append(_pool(self._attention(part), part.conditionals.detach().double().cpu(), own_token))
        return torch.cat(pooled).numpy()

    def _attention(self, X: MaskedFeatures) -> Tensor:
        conditionals, present = X.conditionals.detach().double().cpu(), X.present.cpu()
        rows = observed(X.tokens.cpu(), self._vocabulary_size)
        scores = read(torch.from_numpy(self.score_weights_), conditionals, rows)
        if self.scores == "posterior":
            scores = scores / of_token(conditionals, rows).clamp(min=torch.finfo(scores.dtype).tiny)
        if self.position_bias_ is not None:
            scores = scores + torch.from_numpy(self.position_bias_)
        if self.attention == "softmax":
            return soft_attention(scores, present)
        return hard_attention(scores, present, self.tolerance)

    @property
    def _vocabulary_size(self) -> int:
        return self.score_weights_.shape[1]

    @property
    def _contrasted_classes(self) -> np.ndarray:
        """The classes that have a score of their own: the higher of two, or all."""
        return self.classes_[1:] if len(self.classes_) == 2 else self.classes_

    def _check_options(self) -> None:
        one_of("value of 'attention'", self.attention, ("softmax", "hard"))
        one_of("value of 'scores'", self.scores, ("conditional", "token", "posterior"))
        if not isinstance(self.tolerance, Real) or not self.tolerance >= 0:
            raise InvalidInput("tolerance", "a non-negative number", repr(self.tolerance), "pass e.g. 1e-9")

    def _check_fitted(self) -> None:
        n_tokens = self.score_weights_.shape[-1]
        n_scores = 1 if len(self.classes_) == 2 else len(self.classes_)
        shapes = {
            "score_weights": (self.score_weights_, (n_tokens + 1, n_tokens)),
            "value_weights": (self.value_weights_, (n_scores, n_tokens + 1, n_tokens)),
            "intercepts": (self.intercept_, (n_scores,)),
        }
        for name, (array, expected) in shapes.items():
            if array.shape != expected or not np.isfinite(array).all():
                raise InvalidInput(
                    f"{name} of an AttentionHead",
                    f"finite numbers of shape {expected}",
                    f"shape {array.shape}" if array.shape != expected else "NaN or infinity",
                    "fit the head again",
                )

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


def constructed_attention(
    model: MemoryHMM,
    task: MemoryTask,
    prompt: Prompt | None = None,
    *,
    scores: Literal["posterior", "conditional"] = "posterior",
    support_threshold: float = 0.0,
    tolerance: float = RESIDUAL_TOLERANCE,
) -> AttentionHead:
    """Return the head of Theorem M, on features after ``prompt`` if there is one: it recovers the task.

    A text is classified right if its |margin| exceeds ‖μ‖_∞ P(H_i∉H* | x) at the positions attended to; so for every
    text in which some position surely is in a state of H*.

    Parameters
    ----------
    model, task, prompt, support_threshold, tolerance
        As in :func:`ppl_hmm.recoverability.memory.memory_certificate`.
    scores
        ``'posterior'``: P(H_i∈H* | x). ``'conditional'``: P(H_i∈H* | x_{-i}), from G alone as in the paper; fewer
        positions reach 1, and a score below it promises nothing: ``support_threshold`` must then be zero.

    Raises
    ------
    ConditionNotMet
        The theorem's condition fails; ``.certificate`` says which part, by how much.
    InvalidInput
        As the certificate; a support threshold with conditional scores.

    Notes
    -----
    Source: Wei, Xie & Ma (2021), Theorems 4.3 and 4.6; posterior scores are ours. Cost O((mK)²·V).
    """
    one_of("value of 'scores'", scores, ("posterior", "conditional"))
    if scores == "conditional" and support_threshold != 0:
        raise InvalidInput(
            "support_threshold with conditional scores",
            "0",
            str(support_threshold),
            "use scores='posterior': P(H_i∈H* | x) may be small where P(H_i∈H* | x_{-i}) is near one",
        )
    certificate = memory_certificate(model, task, prompt, support_threshold=support_threshold, tolerance=tolerance)
    if not certificate.recoverable:
        raise ConditionNotMet(certificate, "learn a head instead, or try a prompt that restricts the memory")
    weights = certificate.score_weights if scores == "posterior" else certificate.context_score_weights
    return AttentionHead.from_weights(
        weights.cpu().numpy(),
        certificate.value_weights.cpu().numpy(),
        attention="hard",
        scores=scores,
        tolerance=certificate.attention_tolerance,
    )


def _indicators(rows: Tensor, n_tokens: int) -> Tensor:
    """Return e_{x_i} (B,T,V+1)."""
    return one_hot(rows, n_tokens + 1).double()


def _pool(attention: Tensor, conditionals: Tensor, own_token: Tensor) -> Tensor:
    """Return Σ_i α_i e_{x_i} ⊗ G_i (B,(V+1)·V)."""
    return ((own_token * attention[..., None]).mT @ conditionals).flatten(1)
