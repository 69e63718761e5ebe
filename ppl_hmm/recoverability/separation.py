"""The largest smallest margin of linear heads on some texts.

Heads b_c (C,V) classify text i, of class y_i and features G_i, iff (b_{y_i} − b_c)ᵀG_i > 0 for all other classes c.
A bias is included, as ΣG = 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.optimize import linprog

from ppl_hmm import schema
from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.base.labels import matched, read
from ppl_hmm.base.quiet import stdout_to_stderr
from ppl_hmm.errors import InvalidInput, PplHmmError

#: Margins above this count as separation; ten times the solver's own tolerance.
SEPARATION = 1e-9
_SOLVER_TOLERANCE = 1e-10
# Forms of the first programme, and forms added to it at a time.
_WORKING_SET = 200


class Separability(NamedTuple):
    """Best margin of linear heads with ‖b‖_∞ ≤ 1: ``separable`` iff it exceeds :data:`SEPARATION`.

    See Also
    --------
    separability : Of features and labels.

    Examples
    --------
    >>> from ppl_hmm import separability
    >>> separability([[0.7, 0.3], [0.4, 0.6]], [0, 1]).separable
    True
    """

    separable: bool
    margin: float  # max over b of the smallest (b_{y_i} − b_c)ᵀG_i, or y_i bᵀG_i for two classes; 0 at least
    weights: np.ndarray  # the b (V,), or (C,V) for more than two classes, that attains it


def separability(features: ArrayLike, labels: ArrayLike) -> Separability:
    """Return whether some head 1(bᵀG ≥ 0), or argmax_c b_cᵀG, classifies every text: the largest smallest margin.

    Parameters
    ----------
    features
        G (B,V); rows of conditionals sum to one, so a bias is already included.
    labels
        (B,) classes 0, 1, …. Leave undecidable texts out.

    Returns
    -------
    Separability
        ``separable=False`` says that no head has a margin above 1e-9: texts that nearly coincide may still be told
        apart by one with a smaller margin. :func:`find_witness` says whether no head does at all.

    Raises
    ------
    InvalidInput
        Shapes that do not match, rows of other names, labels that are no classes, non-finite features.

    See Also
    --------
    find_witness : Texts that prove that no head does.
    probe_features : The features of texts.

    Notes
    -----
    Solved by HiGHS with tolerances 1e-10, or its own where those fail; 5000 texts of V = 10 take some hundredths of a
    second.

    Examples
    --------
    >>> from ppl_hmm import separability
    >>> round(separability([[0.7, 0.3], [0.4, 0.6]], [0, 1]).margin, 3)
    0.273
    """
    rows, classes = checked_texts(features, labels)
    _, forms = margin_forms(rows, classes)
    weights = widest(forms)
    margin = max(0.0, float((forms @ weights).min()))  # what the head attains, whatever the solver's tolerance
    n_features = rows.shape[1]
    shaped = weights if len(weights) == n_features else weights.reshape(-1, n_features)
    return Separability(margin > SEPARATION, margin, shaped)


def widest(forms: np.ndarray) -> np.ndarray:
    """Return the b, ‖b‖_∞ ≤ 1, that maximises the smallest of forms (n,·) in b.

    A few forms decide: programmes of :data:`_WORKING_SET` of them, to which the smallest of all are added until none is
    smaller than theirs.
    """
    chosen = np.unique(np.linspace(0, len(forms) - 1, _WORKING_SET).astype(int))
    while True:
        weights = _widest(forms[chosen])
        values = forms @ weights
        smaller = np.flatnonzero(values < values[chosen].min() - _SOLVER_TOLERANCE)
        if not len(smaller):
            return weights
        chosen = np.union1d(chosen, smaller[np.argsort(values[smaller])[:_WORKING_SET]])


def _widest(forms: np.ndarray) -> np.ndarray:
    """Return the same by one programme."""
    n_margins, n_weights = forms.shape
    strict = {"primal_feasibility_tolerance": _SOLVER_TOLERANCE, "dual_feasibility_tolerance": _SOLVER_TOLERANCE}
    for options in (strict, {}):  # nearly dependent columns may be too much for the strict tolerance
        with stdout_to_stderr():
            programme = linprog(
                c=np.r_[np.zeros(n_weights), -1.0],
                A_ub=np.c_[-forms, np.ones(n_margins)],
                b_ub=np.zeros(n_margins),
                bounds=[(-1, 1)] * n_weights + [(0, None)],
                method="highs",
                options=options,
            )
        if programme.x is not None:
            return np.clip(programme.x[:-1], -1, 1)
    raise PplHmmError("separability programme", "an optimum", programme.message, "rescale the features")


def margin_forms(rows: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs (n,2) of a text and a class that is not its own, and the linear forms (n,·) of their margins.

    Margins are (b_{y_i} − b_c)ᵀG_i, linear in b (C·V); y_i bᵀG_i for two classes, linear in b (V,).
    """
    n_classes, n_features = max(int(classes.max()) + 1, 2), rows.shape[1]
    pairs = np.argwhere(np.arange(n_classes) != classes[:, None])
    text, other = pairs.T
    if n_classes == 2:
        return pairs, rows[text] * np.where(other == 0, 1.0, -1.0)[:, None]
    forms = np.zeros((len(pairs), n_classes, n_features))
    forms[np.arange(len(pairs)), classes[text]] = rows[text]
    forms[np.arange(len(pairs)), other] = -rows[text]
    return pairs, forms.reshape(len(pairs), -1)


def checked_texts(features: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return features (B,V) and classes (B,), as NumPy arrays; raise :class:`InvalidInput` where they do not fit."""
    array = read(features, (schema.SEQUENCE, schema.TOKEN), "features")
    rows = as_tensor(array.values, torch.device("cpu"), what="features").detach().double().numpy()
    named = read(labels, (schema.SEQUENCE,), "labels")
    classes = as_tensor(named.values, torch.device("cpu"), what="labels")
    if rows.ndim != 2 or tuple(classes.shape) != rows.shape[:1] or not len(rows):
        raise InvalidInput(
            "features and labels",
            "shapes (B, V) and (B,), B at least 1",
            f"{rows.shape} and {tuple(classes.shape)}",
            "give one label for each row",
        )
    if not np.isfinite(rows).all():
        raise InvalidInput("features", "finite numbers", "NaN or infinity", "drop the rows")
    own, wanted = named.labels.get(schema.SEQUENCE), array.labels.get(schema.SEQUENCE)
    classes = matched(classes, own, wanted, "labels", "features").numpy()
    whole = classes.astype(int)
    if (whole != classes).any() or (whole < 0).any():
        raise InvalidInput("labels", "classes 0, 1, …", str(np.unique(classes).tolist()), "number the classes from 0")
    return rows, whole
