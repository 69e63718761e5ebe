"""Is there a linear head for given labels? A margin, or a witness of few texts, on each reading of the texts."""

from __future__ import annotations

import dataclasses

import numpy as np
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.audits.labelled.learned import Approach, Learned
from ppl_hmm.audits.labelled.texts import LabelledTexts, affine
from ppl_hmm.recoverability.separation import SEPARATION
from ppl_hmm.recoverability.witness import Witness, find_witness, separability
from ppl_hmm.schema import Cause, Remedy, Verdict

_HULLS = "convex hulls"
_SEPARATES = "a head with |b| ≤ 1 has all {n} texts right, by {margin:.2g} at least"
_WITNESS = "{n} texts have classes whose convex hulls meet: no linear head has all of them right"
_AFTER_PROMPT = "after this prompt {reason}; other prompts may do"
_NEITHER = "no head with |b| ≤ 1 has a margin above 1e-9, and no witness was found"


@dataclasses.dataclass(frozen=True, eq=False)
class Separated:
    """Whether a linear head has all labelled texts right on one reading of them.

    Attributes
    ----------
    name
        The question.
    cause
        ``SEARCH``: a head was found; ``WITNESS``: texts that no head has right; after a prompt a witness leaves other
        prompts open, ``CONDITION_FAILS``; ``ROUNDING``: neither.
    margin
        The largest smallest margin.
    witness
        The texts, by their numbers; None where a head separates them.
    sigma_min
        Smallest singular value of the features.
    """

    name: str
    cause: Cause
    margin: float
    witness: Witness | None
    reason: str
    sigma_min: float

    @property
    def verdict(self) -> Verdict:
        """The verdict of the cause."""
        return self.cause.verdict


def separated(texts: LabelledTexts, approach: Approach) -> Separated:
    """Ask whether a linear head with intercept has all labelled texts right on a reading of them."""
    read = approach.features if approach.scale == "probability" else np.log(np.maximum(approach.features, 1e-30))
    rows = affine(read)
    margin = separability(rows, texts.labels).margin
    witness = None if margin > SEPARATION else find_witness(rows, texts.labels)
    if margin > SEPARATION:
        cause, reason = Cause.SEARCH, _SEPARATES.format(n=len(rows), margin=margin)
    elif witness is None:
        cause, reason = Cause.ROUNDING, _NEITHER
    else:
        cause, reason = Cause.WITNESS, _WITNESS.format(n=len(witness.texts))
        if approach.name == schema.PROMPT:
            cause, reason = Cause.CONDITION_FAILS, _AFTER_PROMPT.format(reason=reason)
    sigma_min = float(np.linalg.svd(rows, compute_uv=False)[-1])
    return Separated(approach.name, cause, margin, witness, reason, sigma_min)


def table(asked: list[Separated], found: dict[str, Learned]) -> xr.Dataset:
    """Return a row for each question, with the columns that an audit of a model has.

    ``agreeing`` and ``decidable`` count the held-out texts that the learned head has right, and all of them.
    """
    nothing = [float("nan")] * len(asked)
    right = [found[each.name].right for each in asked]
    columns = {
        schema.VERDICT: [str(each.verdict) for each in asked],
        schema.CAUSE: [str(each.cause) for each in asked],
        "theorem": [_HULLS] * len(asked),
        "reasons": [each.reason for each in asked],
        "residual": [0.0 if each.witness is None else each.witness.residual for each in asked],
        "margin_error": [0.0] * len(asked),
        "sigma_min": [each.sigma_min for each in asked],
        "agreeing": [int(each.sum()) for each in right],
        "decidable": [len(each) for each in right],
        "undecidable": [0] * len(asked),
        "separation_margin": [each.margin for each in asked],
        "learned_accuracy": [float(each.mean()) for each in right],
        schema.N_MASKS: [1] * len(asked),
        **dict.fromkeys((schema.HALF_RANGE, schema.RADIUS, schema.MEDIAN_RADIUS, schema.CONDITION_RADIUS), nothing),
    }
    return xr.Dataset(
        {name: (schema.QUESTION, values) for name, values in columns.items()},
        coords={schema.QUESTION: [each.name for each in asked]},
    )


def witnesses(asked: list[Separated], texts: LabelledTexts) -> dict[str, xr.Dataset]:
    """Return the witnesses by group: the numbers of the texts, their classes and weights."""
    datasets = {}
    for each in asked:
        if each.witness is not None:
            datasets[f"{schema.RECOVERABILITY}/{each.name}/{schema.WITNESS}"] = xr.Dataset(
                {
                    "text": (schema.WITNESS_TEXT, each.witness.texts),
                    "features": ((schema.WITNESS_TEXT, schema.FEATURE), texts.features[each.witness.texts]),
                    "label": (schema.WITNESS_TEXT, each.witness.labels),
                    "weights": ((schema.WITNESS_TEXT, schema.CLASS), each.witness.weights),
                    "residual": ((), each.witness.residual),
                }
            )
    return datasets


def remedies(found: list[Learned], n_prompt_tokens: int) -> xr.Dataset:
    """Return what may solve the task, the cheapest first, and which is recommended, on what basis.

    The first that is as accurate as the best within the interval of this one; nothing, where the best does no better
    than random labels.
    """
    best = max(found, key=lambda each: each.accuracy.value)
    tells = best.selectivity.low > 0
    chosen = next(each for each in found if each.accuracy.value >= best.accuracy.low) if tells else None
    n_masks = {schema.PROMPT: 1, Remedy.BAG_OF_TOKENS: 0}
    names = [each.approach.name for each in found]
    columns = {
        "n_masks": [n_masks.get(name, 1) for name in names],
        "n_prompt_tokens": [n_prompt_tokens if name == schema.PROMPT else 0 for name in names],
        "half_range": [float("nan")] * len(found),
        schema.ACCURACY: [each.accuracy.value for each in found],
        "certified": [np.int8(0)] * len(found),
    }
    return xr.Dataset(
        {
            schema.RECOMMENDED: ((), str(Remedy.UNKNOWN if chosen is None else chosen.approach.name)),
            schema.BASIS: ((), str(schema.Basis.NONE if chosen is None else schema.Basis.MEASUREMENT)),
            **{name: (schema.REMEDY, values) for name, values in columns.items()},
        },
        coords={schema.REMEDY: names},
    )
