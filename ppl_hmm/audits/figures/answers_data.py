"""What the figures of an audit's answers show, as labelled data: prompts, attention, transfer, certificates.

As in :mod:`ppl_hmm.audits.figures.model_data`: a function from the audit's tree for each figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from ppl_hmm import schema
from ppl_hmm.audits.arrays import without_own
from ppl_hmm.audits.tree import Audited
from ppl_hmm.base.tokens import MASK
from ppl_hmm.errors import InvalidInput
from ppl_hmm.inference.queries import masked_conditionals, posterior
from ppl_hmm.recoverability.attention import hard_attention, observed, of_token, read
from ppl_hmm.recoverability.memory import MemoryCertificate, memory_certificate

#: Bounded error of a head that counts as none.
_HARMLESS = 0.01


def prompt(tree: xr.DataTree) -> xr.Dataset:
    """Return the law that enters the mask, and what a head then makes of the texts, without and with the prompt.

    Returns
    -------
    xarray.Dataset
        ``law`` (question, state): P(H=h) at the mask before text is read; ``needed`` (state): whether the task tells
        this state from others; ``score`` (question, sequence): of the constructed head where it is certified, else of
        the learned one, over its largest, NaN for impossible contexts: signed for two classes, the text's class less
        the best other for more; ``margin``, ``label`` (sequence); ``wrong`` (question): share of decidable texts with
        the wrong class, NaN without a head; ``verdict`` (question), ``head`` (question): which head.

    Raises
    ------
    InvalidInput
        The model has a memory, or the reader is causal: nothing enters a mask.
    """
    audited, questions = Audited(tree), [schema.HEAD, schema.PROMPT]
    remedy = "draw 'attention', for models with a memory"
    found = audited.group(f"{schema.RECOVERABILITY}/{schema.PROMPT}", remedy)
    laws = [audited.entering_law(name) for name in questions]
    heads, scores, wrong = zip(*(_scores(audited, name) for name in questions), strict=True)
    return xr.Dataset(
        {
            "law": ((schema.QUESTION, schema.STATE), np.stack(laws)),
            "needed": found["needed"],
            "score": ((schema.QUESTION, schema.SEQUENCE), np.stack(scores)),
            "margin": (schema.SEQUENCE, audited.margins),
            "label": (schema.SEQUENCE, audited.labels),
            "wrong": (schema.QUESTION, list(wrong)),
            "head": (schema.QUESTION, list(heads)),
            "verdict": audited.table[schema.VERDICT].sel({schema.QUESTION: questions}),
        },
        coords={schema.QUESTION: questions},
        attrs={"n_classes": audited.task.n_classes},
    )


def attention(tree: xr.DataTree, sequence: int | None = None) -> xr.Dataset:
    """Return where the attention of Theorem M looks in one text.

    Parameters
    ----------
    tree
        An audit of a memory model.
    sequence
        Number of the text; by default that with the median |margin|.

    Returns
    -------
    xarray.Dataset
        By position: the ``tokens`` and the ``words`` that they are called by, the ``score``, which where the
        certificate holds is P(H_i∈H*|x), the hard
        ``attention``, and by exact inference ``probability``, P(H_i∈H*|x).

    Raises
    ------
    InvalidInput
        The model has no memory, or no state can be read off.
    """
    audited, remedy = Audited(tree), "draw 'prompt', for models without a memory"
    shown = audited.group(f"{schema.RECOVERABILITY}/{schema.ATTENTION}", remedy)[schema.STATE].values.tolist()
    named = audited.memory_model.names
    states = [named[schema.STATE].index(name) for name in shown] if schema.STATE in named else shown
    if not states:
        raise InvalidInput(
            "attention along a text", "a state that reads the cell", "none", "choose a task on another cell"
        )
    certificate = memory_certificate(audited.memory_model, audited.task, recoverable_states=states)  # type: ignore[arg-type]
    sizes = np.abs(audited.margins)
    chosen = int(np.argsort(sizes, kind="stable")[len(sizes) // 2]) if sequence is None else sequence
    tokens = audited.group(schema.OBSERVED_DATA)["tokens"].values[chosen]
    scores, weights = _attend(certificate, torch.from_numpy(tokens)[None])
    exact = posterior(certificate.model, tokens[None]).smoothed[0][:, states].sum(-1)
    return xr.Dataset(
        {
            "tokens": (schema.POSITION, tokens),
            "words": (schema.POSITION, [_word(token, named.get(schema.TOKEN)) for token in tokens.tolist()]),
            "score": (schema.POSITION, scores.numpy()),
            "attention": (schema.POSITION, weights.numpy()),
            "probability": (schema.POSITION, exact.numpy()),
        },
        attrs={
            "sequence": chosen,
            "states": shown,
            "verdict": str(audited.asked[schema.ATTENTION].verdict),
        },
    )


def _word(token: int, names: Sequence[Any] | None) -> str:
    """Return the name of a token, or its number; ∅ where nothing is observed."""
    if token == MASK:
        return "∅"
    return str(token if names is None else names[token])


def transfer(tree: xr.DataTree) -> xr.Dataset:
    """Return the two bounds on a head's error by the language model's loss over the exact one, in nats.

    Variables as in the group ``diagnostics/transfer``, and ``harmless``: the largest loss at which the sharp bound is
    at most 1 %, NaN where it is more at all of them. Attribute ``head``: whether it is constructed or learned.
    """
    found = Audited(tree).group(
        f"{schema.DIAGNOSTICS}/transfer", "choose texts of more than one class: one has no head"
    )
    harmless = found[schema.EXCESS].where(found["sharp_bound"] <= _HARMLESS)
    return found.assign(harmless=harmless.max().drop_attrs())


def certificates(table: xr.Dataset) -> xr.Dataset:
    """Return what certificates said of many models, beside the accuracy of heads learned on them.

    Parameters
    ----------
    table
        ``verdict``, ``sigma_min``, ``residual`` and ``learned_accuracy`` (model): rows of the group
        ``recoverability`` of many audits.

    Returns
    -------
    xarray.Dataset
        The same for the models that a head was learned on; attribute ``left_out`` counts the others.

    Raises
    ------
    InvalidInput
        A variable is missing.
    """
    wanted = ["verdict", "sigma_min", "residual", "learned_accuracy"]
    missing = [name for name in wanted if name not in table or table[name].dims != (schema.MODEL,)]
    if missing:
        raise InvalidInput(
            "table of certificates",
            f"variables {', '.join(wanted)} with dimension {schema.MODEL}",
            f"without {', '.join(missing)}",
            "concatenate rows of /recoverability",
        )
    measured = table["learned_accuracy"].notnull().values
    return table[wanted].isel({schema.MODEL: measured}).assign_attrs(left_out=int((~measured).sum()))


def _scores(audited: Audited, question: str) -> tuple[str, np.ndarray, float]:
    """Return which head a question has, its scores (B,) over their largest, and the share of texts it gets wrong."""
    features, labels, n_classes = audited.features(question), audited.labels, audited.task.n_classes
    possible = features.sum(1) > 0
    kind, head = audited.head(question)
    if head is None:
        return kind, np.full(len(labels), np.nan), float("nan")
    scores = head.decision_function(features)
    if n_classes > 2:
        of_class = np.full((len(labels), n_classes), -np.inf)  # a learned head may not know all classes
        of_class[:, head.classes_] = scores if scores.ndim == 2 else np.stack([0 * scores, scores], axis=1)
        scores = of_class[np.arange(len(labels)), labels] - without_own(of_class, labels).max(1)
    shown = np.where(possible & np.isfinite(scores), scores, np.nan)
    largest = np.nanmax(np.abs(shown), initial=0)
    wrong = head.predict(features) != labels
    return kind, shown / (largest or 1), audited.share(wrong, audited.decidable & possible)


def _attend(certificate: MemoryCertificate, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scores and the hard attention (T,) of the certificate's head on one text (1,T)."""
    conditionals = masked_conditionals(certificate.model, tokens)
    rows = observed(tokens, certificate.model.vocabulary_size)
    scores = read(certificate.score_weights, conditionals, rows) / of_token(conditionals, rows)
    present = torch.ones_like(tokens, dtype=torch.bool)
    return scores[0], hard_attention(scores, present, certificate.attention_tolerance)[0]
