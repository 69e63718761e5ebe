"""How many labelled texts an accuracy takes, by a learning curve on held-out texts."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.audits.labelled.curve import learning_curve, needed
from ppl_hmm.audits.labelled.learned import Approach
from ppl_hmm.audits.labelled.texts import LabelledTexts
from ppl_hmm.base.randomness import Seed
from ppl_hmm.errors import InvalidInput, one_of, within


@dataclasses.dataclass(frozen=True, eq=False)
class TextsNeeded:
    """How many labelled texts a linear head needs for an accuracy.

    Attributes
    ----------
    accuracy
        On held-out texts, in 0..1.
    n_texts, low, high
        Labelled texts, and the ends of an interval at 95 %; infinite where the learning texts do not reach the
        accuracy: nothing is extrapolated.
    n_learned
        The most texts that were learned from.
    curve
        ``mean``, ``low``, ``high`` (n_texts) and ``accuracy`` (n_texts, draw): the learning curve.

    See Also
    --------
    ppl_hmm.texts_needed : Makes one, with an example.

    Examples
    --------
    >>> from ppl_hmm import texts_needed
    >>> features = [[0.9, 0.1], [0.2, 0.8]] * 50
    >>> texts_needed(features, [0, 1] * 50, 0.9, seed=0).n_learned
    70
    """

    accuracy: float
    n_texts: float
    low: float
    high: float
    n_learned: int
    curve: xr.Dataset

    def __str__(self) -> str:
        """Return the number of texts in a sentence."""
        return f"{self.accuracy:.0%} accuracy takes {in_words(self.n_texts, self.low, self.high, self.n_learned)}"


def texts_needed(
    features: ArrayLike | Tensor,
    labels: Any,
    accuracy: float,
    *,
    scale: Literal["probability", "log"] = "probability",
    groups: Any = None,
    seed: Seed,
) -> TextsNeeded:
    """Return how many labelled texts a linear head needs for an accuracy.

    Parameters
    ----------
    features, labels, groups
        As for :func:`audit_features`.
    accuracy
        To reach on held-out texts, in 0..1.
    scale
        What the head reads: the features, or their logarithms.
    seed
        Of the texts held out and of the parts that are learned from.

    Raises
    ------
    InvalidInput
        As :func:`audit_features`; an accuracy beyond 0..1.

    See Also
    --------
    audit_features, audit_language_model : Say the same of several accuracies.

    Notes
    -----
    Heads are learned from five random parts of each of six sizes, to seven tenths of the texts, and tested on the
    rest. Texts do no harm on average, so that means and limits are made monotone. The number's interval holds the sizes
    where the curve's interval at 95 % holds the accuracy.

    Examples
    --------
    >>> from ppl_hmm import OracleLM, example, posterior, probe_features, sample, texts_needed
    >>> model, task = example("aliased")
    >>> text = sample(model, 500, length=10, seed=0).tokens
    >>> features = probe_features(OracleLM(model), text, prompt=[[1.0, 1.0, 0.0]])
    >>> found = texts_needed(features, task.labels(posterior(model, text)), 0.9, seed=0)
    >>> found.low <= found.n_texts <= found.high
    True
    """
    within("accuracy", accuracy, 0, 1)
    one_of("value of 'scale'", scale, ("probability", "log"))
    texts = LabelledTexts.of(features, labels, groups, seed)
    if scale == "log" and texts.features.min() < 0:
        raise InvalidInput("features of scale='log'", "probabilities", "a negative number", "take scale='probability'")
    approach = Approach(schema.HEAD, texts.features, scale)
    curve = learning_curve(texts, [approach], seed).sel({schema.APPROACH: approach.name})
    return TextsNeeded(float(accuracy), *needed(curve, accuracy), len(texts.learn), curve)


def in_words(n_texts: float, low: float, high: float, n_learned: int) -> str:
    """Return a number of labelled texts and its interval in words."""
    if not np.isfinite(n_texts):
        least = f"(at least {low:.0f})" if np.isfinite(low) else "(with 95 % confidence)"
        return f"more than the {n_learned} labelled texts there are to learn from {least}"
    most = f"{high:.0f}" if np.isfinite(high) else f"more than {n_learned}"
    return f"about {n_texts:.0f} labelled texts (between {low:.0f} and {most})"
