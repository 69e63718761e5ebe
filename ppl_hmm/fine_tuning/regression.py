"""Classifiers on kernel rows: least squares, ridge, logistic regression, and a support vector machine without symmetry.

Each takes precomputed kernels, as scikit-learn's ``kernel='precomputed'``: of training examples to fit, rows of test
against training examples to predict. ``offset`` is the scores f₀ before fine-tuning, which the kernel's are added to.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from ppl_hmm.errors import InvalidInput, within
from ppl_hmm.fine_tuning.precomputed import as_blocks, as_kernel, factor, flat, require_square, require_symmetric
from ppl_hmm.heads.logistic import decide

_MAX_ITERATIONS = 500


class KernelClassifier(ClassifierMixin, BaseEstimator):
    """Base of classifiers f(x) = f₀(x) + b + Σ_i K(x, x_i) a_i.

    Attributes
    ----------
    dual_coef_
        a (M,S): S = 1 for two classes, C for more.
    intercept_
        b (S,).
    classes_, n_features_in_
        As in scikit-learn; the features are the training examples.
    """

    dual_coef_: np.ndarray
    intercept_: np.ndarray
    classes_: np.ndarray
    n_features_in_: int

    def fit(self, X: ArrayLike, y: ArrayLike, offset: ArrayLike | None = None) -> Self:
        """Fit to the kernel of training examples (N,N), or blocks (N,C,N,C), labels (N,) and scores f₀ (N,) or (N,C).

        Raises
        ------
        InvalidInput
            A kernel that is not square, or not symmetric where it must be; labels of one class.
        """
        kernel = as_kernel(X)
        require_square(kernel)
        y = column_or_1d(y, warn=True)
        check_consistent_length(kernel, y)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InvalidInput("labels", "at least two classes", f"one class, {self.classes_[0]}", "relabel")
        rows = as_blocks(kernel, self._n_scores)
        self.n_features_in_ = len(rows)
        signs = np.where(numbers[:, None] == np.arange(len(self.classes_)), 1.0, -1.0)
        signs = signs[:, 1:] if self._n_scores == 1 else signs
        size = abs(np.trace(flat(rows))) / len(flat(rows)) or 1.0  # so that penalties are shares of the kernel's size
        dual, self.intercept_ = self._fitted(rows / size, signs, numbers, self._offset(offset, len(rows)))
        self.dual_coef_ = dual / size
        return self

    def decision_function(self, X: ArrayLike, offset: ArrayLike | None = None) -> np.ndarray:
        """Return scores of kernel rows (N,M) or (N,C,M,C): (N,) for two classes, (N,C) for more."""
        check_is_fitted(self, "dual_coef_")
        rows = as_blocks(as_kernel(X), self._n_scores)
        if rows.shape[2] != self.n_features_in_:
            name = type(self).__name__
            raise ValueError(
                f"X has {rows.shape[2]} features, but {name} is expecting {self.n_features_in_} features as input"
            )
        scores = np.tensordot(rows, self.dual_coef_, 2) + self.intercept_ + self._offset(offset, len(rows))
        return scores[:, 0] if self._n_scores == 1 else scores

    def predict(self, X: ArrayLike, offset: ArrayLike | None = None) -> np.ndarray:
        """Return the class of each row; ties go to the higher class."""
        return decide(self.decision_function(X, offset), self.classes_)

    def __sklearn_tags__(self) -> Any:
        """Say that the features are a kernel."""
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = True
        return tags

    @property
    def _n_scores(self) -> int:
        return 1 if len(self.classes_) == 2 else len(self.classes_)

    def _offset(self, offset: ArrayLike | None, n: int) -> np.ndarray:
        if offset is None:
            return np.zeros((n, self._n_scores))
        found = offset.detach().cpu().numpy() if hasattr(offset, "detach") else offset  # type: ignore[union-attr]
        found = np.asarray(found, dtype=float)
        if found.size != n * self._n_scores:
            got = f"shape {found.shape}"
            raise InvalidInput("offset", f"scores of shape ({n}, {self._n_scores})", got, "pass those of X")
        if not np.isfinite(found).all():
            raise InvalidInput("offset", "finite numbers", "NaN or infinity", "pass the scores of X")
        return found.reshape(n, self._n_scores)

    def _fitted(
        self, rows: np.ndarray, signs: np.ndarray, numbers: np.ndarray, offset: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a (N,S) and b (S,) of a kernel of mean diagonal one."""
        raise NotImplementedError


class KernelRegression(KernelClassifier):
    """Least squares and ridge regression of targets ±1, less f₀, on kernel rows.

    Parameters
    ----------
    penalty
        Ridge penalty as a share of the kernel's mean diagonal. 0: least squares of least norm, to which training a
        linear model by gradient descent converges; then the kernel need not be symmetric.

    See Also
    --------
    ppl_hmm.KernelLogistic : By logistic loss.
    ppl_hmm.AsymmetricSVM : For kernels without symmetry.
    ppl_hmm.tangent_kernel : The kernel.

    Notes
    -----
    Cost O((S·N)³). Source: Malladi et al. (2023), §3.

    Examples
    --------
    >>> from ppl_hmm import KernelRegression
    >>> kernel = [[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 1.0]]
    >>> KernelRegression().fit(kernel, [0, 0, 1]).predict([[1.0, 1.0, 0.1]]).tolist()
    [0]
    """

    def __init__(self, penalty: float = 0.0) -> None:
        self.penalty = penalty

    def _fitted(
        self,
        rows: np.ndarray,
        signs: np.ndarray,
        numbers: np.ndarray,  # noqa: ARG002 (the protocol)
        offset: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        within("penalty", self.penalty, 0.0, np.inf)
        kernel, target = flat(rows), (signs - offset).reshape(-1)
        if self.penalty:
            require_symmetric(kernel, "a ridge regression")
        dual = np.linalg.lstsq(kernel + self.penalty * np.eye(len(kernel)), target, rcond=1e-7)[0]
        return dual.reshape(signs.shape), np.zeros(signs.shape[1])


class KernelLogistic(KernelClassifier):
    """Penalised logistic regression, softmax for more than two classes, on kernel rows.

    Parameters
    ----------
    C
        Inverse penalty: Σ loss + aᵀKa/2C is least, the kernel's mean diagonal being one.

    See Also
    --------
    ppl_hmm.KernelRegression : By squared loss.
    ppl_hmm.tangent_kernel : The kernel.

    Notes
    -----
    Cost O((S·N)³), and O((S·N)²) for each step of L-BFGS. The kernel must be symmetric.

    Examples
    --------
    >>> from ppl_hmm import KernelLogistic
    >>> kernel = [[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 1.0]]
    >>> KernelLogistic().fit(kernel, [0, 0, 1]).predict([[1.0, 1.0, 0.1]]).tolist()
    [0]
    """

    def __init__(self, C: float = 1.0) -> None:
        self.C = C

    def _fitted(
        self, rows: np.ndarray, signs: np.ndarray, numbers: np.ndarray, offset: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        _require_positive("C", self.C)
        features, back = factor(flat(rows), "a logistic regression")  # (N·S,n): scores are f₀ + Φw, the penalty ‖w‖²/2C

        def objective(w: np.ndarray) -> tuple[float, np.ndarray]:
            scores = offset + (features @ w).reshape(signs.shape)
            loss, slope = _logistic(scores, signs, numbers)
            return loss + float(w @ w) / (2 * self.C), features.T @ slope.reshape(-1) + w / self.C

        options = {"maxiter": _MAX_ITERATIONS, "gtol": 1e-6}
        found = minimize(objective, np.zeros(features.shape[1]), jac=True, method="L-BFGS-B", options=options)
        return (back @ found.x).reshape(signs.shape), np.zeros(signs.shape[1])


class AsymmetricSVM(KernelClassifier):
    """Least-squares support vector machine on a kernel K(x, x′) = ⟨φ(x), ψ(x′)⟩ without symmetry.

    Two functions share their errors: ⟨w, φ(x)⟩ + b with w = Σ_i a_i ψ(x_i), which predicts, and ⟨v, ψ(x)⟩ + c with
    v = Σ_i d_i φ(x_i). For sign descent φ(x) = ∇f(x), ψ(x) = sign ∇f(x).

    Parameters
    ----------
    gamma
        Weight of the errors, the kernel's mean diagonal being one.

    See Also
    --------
    ppl_hmm.KernelRegression : For symmetric kernels.
    ppl_hmm.tangent_kernel : ``kind='asymmetric-sign'``.

    Notes
    -----
    Kernels (N,M) alone; more than two classes one against the rest. Cost O(C·N³).
    Source: He, He, Shi & Huang (2023), Learning with asymmetric kernels; Malladi et al. (2023), §3.

    Examples
    --------
    >>> from ppl_hmm import AsymmetricSVM
    >>> kernel = [[2.0, 1.0, 0.5], [0.9, 2.0, 0.0], [0.0, 0.2, 1.0]]
    >>> AsymmetricSVM().fit(kernel, [0, 0, 1]).predict([[1.0, 1.0, 0.1]]).tolist()
    [0]
    """

    def __init__(self, gamma: float = 100.0) -> None:
        self.gamma = gamma

    def _fitted(
        self,
        rows: np.ndarray,
        signs: np.ndarray,
        numbers: np.ndarray,  # noqa: ARG002 (the protocol)
        offset: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        _require_positive("gamma", self.gamma)
        kernel = rows[:, 0, :, 0]
        if rows.shape[1] > 1 and not np.array_equal(rows, kernel[:, None, :, None] * np.eye(rows.shape[1])[:, None]):
            got = f"blocks of {rows.shape[1]} classes"
            raise InvalidInput("kernel of an AsymmetricSVM", "(N, M)", got, "pass the kernel of one score")
        found = [self._one(kernel, sign, before) for sign, before in zip(signs.T, offset.T, strict=True)]
        return np.stack([dual for dual, _ in found], axis=1), np.array([intercept for _, intercept in found])

    def _one(self, kernel: np.ndarray, sign: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, float]:
        """Return a (N,) and b of one score: the stationary point of both functions' margins and shared errors.

        With errors e_i = (1 − y_i f₀ − y_i(⟨w, φ⟩ + b)) and the same of (v, c): e = d/γ, e′ = a/γ, yᵀa = yᵀd = 0.
        """
        n = len(sign)
        forms = sign[:, None] * kernel * sign  # y_i K(x_i, x_j) y_j, for a = y∘α and d = y∘δ
        system = np.zeros((2 * n + 2, 2 * n + 2))
        alpha, delta, b, c = slice(n), slice(n, 2 * n), 2 * n, 2 * n + 1
        system[alpha, alpha], system[alpha, delta], system[alpha, b] = forms, np.eye(n) / self.gamma, sign
        system[delta, delta], system[delta, alpha], system[delta, c] = forms.T, np.eye(n) / self.gamma, sign
        system[b, alpha], system[c, delta] = sign, sign
        target = np.concatenate([np.tile(1 - sign * offset, 2), [0.0, 0.0]])
        solution = np.linalg.lstsq(system, target, rcond=None)[0]
        return sign * solution[alpha], float(solution[b])


def _require_positive(what: str, value: float) -> None:
    if not within(what, value, 0.0, np.inf):
        raise InvalidInput(what, "a number above 0", repr(value), "pass e.g. 1.0")


def _logistic(scores: np.ndarray, signs: np.ndarray, numbers: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the logistic loss of scores (N,S), summed over examples, and its slope (N,S)."""
    if scores.shape[1] == 1:
        forms = signs * scores
        return float(np.logaddexp(0, -forms).sum()), -signs * expit(-forms)
    law = softmax(scores, axis=1)
    picked = np.arange(len(scores)), numbers
    slope = law.copy()
    slope[picked] -= 1
    return float(-np.log(law[picked].clip(min=np.finfo(float).tiny)).sum()), slope
