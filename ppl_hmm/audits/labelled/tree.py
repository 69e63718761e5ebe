"""The tree of an audit of labelled texts: the groups of an audit, without those of a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr

from ppl_hmm import schema
from ppl_hmm._version import __version__
from ppl_hmm.audits.asked import learned as learned_group
from ppl_hmm.audits.labelled.curve import learning_curve
from ppl_hmm.audits.labelled.intervals import Interval
from ppl_hmm.audits.labelled.learned import Approach, Learned, learned
from ppl_hmm.audits.labelled.questions import remedies, separated, table, witnesses
from ppl_hmm.audits.labelled.texts import LabelledTexts
from ppl_hmm.base.randomness import Seed
from ppl_hmm.models import SoftPrompt
from ppl_hmm.recoverability.witness import WITNESS_TOLERANCE
from ppl_hmm.schema import Remedy

# Readings that no head of a language model has: they are compared with, and not asked about.
_BASELINES = (Remedy.BAG_OF_TOKENS,)


def approaches(features: np.ndarray, prompted: np.ndarray | None, counts: np.ndarray | None) -> list[Approach]:
    """Return what heads are learned on, the cheapest first.

    Counts of tokens, features, logarithms of features without a negative entry, and features after a prompt.
    """
    found = [] if counts is None else [Approach(Remedy.BAG_OF_TOKENS, counts)]
    found.append(Approach(schema.HEAD, features))
    if features.min() >= 0:
        found.append(Approach(Remedy.LOG_PROBABILITIES, features, "log"))
    if prompted is not None:
        found.append(Approach(schema.PROMPT, prompted))
    return found


def labelled_tree(
    texts: LabelledTexts,
    readings: list[Approach],
    *,
    tokens: np.ndarray | None,
    prompt: SoftPrompt | None,
    seed: Seed,
    **attributes: Any,
) -> xr.DataTree:
    """Return the tree: questions, what was learned, learning curves, heads and prompt, what is recommended."""
    found = [learned(texts, approach, seed) for approach in readings]
    asked = [separated(texts, approach) for approach in readings if approach.name not in _BASELINES]
    curve = learning_curve(texts, [each for each in readings if each.name != schema.PROMPT], seed)
    read = {f"features_{each.name}": each for each in readings if each.name == schema.PROMPT}
    datasets = {
        schema.OBSERVED_DATA: _observed(texts, tokens),
        schema.FEATURES: xr.Dataset(
            {
                "features": ((schema.SEQUENCE, schema.FEATURE), texts.features),
                **{name: ((schema.SEQUENCE, "prompted_feature"), each.features) for name, each in read.items()},
            }
        ),
        schema.RECOVERABILITY: table(asked, {each.approach.name: each for each in found}),
        **witnesses(asked, texts),
        **{f"{schema.HEAD}/{learned_group(each.approach.name)}": each.head.to_dataset() for each in found},
        schema.REMEDY: remedies(found, 0 if prompt is None else len(prompt.rows)),
        f"{schema.DIAGNOSTICS}/{schema.LEARNED}": _learned(texts, found),
        f"{schema.DIAGNOSTICS}/{schema.LEARNING_CURVE}": curve,
    }
    if prompt is not None:
        datasets[f"{schema.PROMPT}/{learned_group(schema.PROMPT)}"] = prompt.to_dataset()
    tree = xr.DataTree.from_dict({f"/{name}": dataset for name, dataset in datasets.items()})
    counts = np.bincount(texts.labels)
    tree.attrs = {
        "package": "ppl_hmm",
        "version": __version__,
        "kind": schema.AUDIT_OF_LABELS,
        "texts": f"{len(texts.labels)} labelled texts, {len(texts.test)} of them held out",
        "task": "labels " + ", ".join(f"{name} ({n})" for name, n in zip(texts.classes, counts, strict=True)),
        "tolerance": WITNESS_TOLERANCE,
        **attributes,
        **({} if isinstance(seed, torch.Generator) else {"seed": int(seed)}),
    }
    return tree


def _observed(texts: LabelledTexts, tokens: np.ndarray | None) -> xr.Dataset:
    """Return labels, groups and tokens of the texts, and which are held out."""
    held = np.isin(np.arange(len(texts.labels)), texts.test).astype(np.int8)
    columns: dict[str, Any] = {"label": (schema.SEQUENCE, texts.labels), schema.HELD_OUT: (schema.SEQUENCE, held)}
    if texts.groups is not None:
        columns["group"] = (schema.SEQUENCE, texts.groups)
    if tokens is not None:
        columns["tokens"] = ((schema.SEQUENCE, schema.POSITION), tokens)
    return xr.Dataset({**columns, "class_name": (schema.CLASS, [str(name) for name in texts.classes])})


def _learned(texts: LabelledTexts, found: list[Learned]) -> xr.Dataset:
    """Return accuracies on held-out texts by approach, of true and of random labels, and their differences."""

    def columns(name: str, intervals: list[Interval]) -> dict[str, Any]:
        parts = zip(("", "_low", "_high"), zip(*intervals, strict=True), strict=True)
        return {f"{name}{suffix}": (schema.APPROACH, np.array(values)) for suffix, values in parts}

    shares = np.bincount(texts.labels[texts.learn], minlength=len(texts.classes))
    return xr.Dataset(
        {
            **columns(schema.ACCURACY, [each.accuracy for each in found]),
            **columns(schema.CONTROL_ACCURACY, [each.control for each in found]),
            **columns(schema.SELECTIVITY, [each.selectivity for each in found]),
            "majority_accuracy": ((), float((texts.labels[texts.test] == shares.argmax()).mean())),
            "n_learned": ((), len(texts.learn)),
            "n_tested": ((), len(texts.test)),
        },
        coords={schema.APPROACH: [each.approach.name for each in found]},
    )
