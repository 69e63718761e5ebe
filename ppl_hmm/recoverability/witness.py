"""Is there any linear head that separates these texts? A linear programme answers for a sample."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linprog

from ppl_hmm.errors import InvalidInput, PplHmmError

#: Margins above this count as separation; ten times the solver's own tolerance.
SEPARATION = 1e-9
_SOLVER_TOLERANCE = 1e-10


class Separability(NamedTuple):
    """Best margin of a linear head with ‖b‖_∞ ≤ 1: ``separable`` iff it exceeds :data:`SEPARATION`."""

    separable: bool
    margin: float  # max over b of min_i y_i bᵀG_i; 0 at least
    weights: np.ndarray  # the b (V,) that attains it


def separability(features: ArrayLike, labels: ArrayLike) -> Separability:
    """Return whether some head 1(bᵀG ≥ 0) classifies every text: max t with y_i bᵀG_i ≥ t, ‖b‖_∞ ≤ 1.

    Parameters
    ----------
    features
        G (B,V); rows of conditionals sum to one, so a bias is already included.
    labels
        (B,) in {0, 1}. Leave undecidable texts out.

    Returns
    -------
    Separability
        ``separable=False`` says that no head has a margin above 1e-9: texts that nearly coincide may still be told
        apart by one with a smaller margin.

    Raises
    ------
    InvalidInput
        Shapes that do not match, labels other than 0 and 1, non-finite features.

    Notes
    -----
    Solved by HiGHS with tolerances 1e-10; 5000 texts of V = 10 take some hundredths of a second.
    """
    rows, sign = _checked(features, labels)
    n_texts, n_weights = rows.shape
    programme = linprog(
        c=np.r_[np.zeros(n_weights), -1.0],
        A_ub=np.c_[-sign[:, None] * rows, np.ones(n_texts)],
        b_ub=np.zeros(n_texts),
        bounds=[(-1, 1)] * n_weights + [(0, None)],
        method="highs",
        options={"primal_feasibility_tolerance": _SOLVER_TOLERANCE, "dual_feasibility_tolerance": _SOLVER_TOLERANCE},
    )
    if programme.x is None:
        raise PplHmmError("separability programme", "an optimum", programme.message, "rescale the features")
    margin = max(float(programme.x[-1]), 0.0)
    return Separability(margin > SEPARATION, margin, programme.x[:-1])


def _checked(features: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    rows, classes = np.asarray(features, dtype=float), np.asarray(labels)
    if rows.ndim != 2 or classes.shape != rows.shape[:1] or not len(rows):
        raise InvalidInput(
            "features and labels",
            "shapes (B, V) and (B,), B at least 1",
            f"{rows.shape} and {classes.shape}",
            "give one label for each row",
        )
    if not np.isfinite(rows).all():
        raise InvalidInput("features", "finite numbers", "NaN or infinity", "drop the rows")
    if not np.isin(classes, (0, 1)).all():
        raise InvalidInput("labels", "0 and 1", str(np.unique(classes).tolist()), "compare two classes at a time")
    return rows, 2.0 * classes - 1.0
