"""Audits without a model of the text: labelled features of any kind, and labelled texts of a language model."""

from __future__ import annotations

from typing import Any, Literal, cast

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor

import ppl_hmm.audits.accessor  # noqa: F401  # registers tree.ppl_hmm
from ppl_hmm.audits.labelled.texts import LabelledTexts
from ppl_hmm.audits.labelled.tree import approaches, labelled_tree
from ppl_hmm.base.randomness import Seed, generator
from ppl_hmm.base.tokens import MASK, as_text
from ppl_hmm.errors import InvalidInput, at_least, one_of
from ppl_hmm.language_models.causal import CausalLM, next_token_features
from ppl_hmm.language_models.probe import probe_features
from ppl_hmm.language_models.protocol import CAUSAL, MASKED, MaskedLM, require_members, text_vocabulary_size
from ppl_hmm.models import SoftPrompt
from ppl_hmm.models.kinds import Text
from ppl_hmm.prompts.fitted import fit_prompt
from ppl_hmm.schema import Reader

_VALIDATION_SHARE = 0.2


def audit_features(
    features: ArrayLike | Tensor,
    labels: Any,
    *,
    prompted: ArrayLike | Tensor | None = None,
    tokens: Text | None = None,
    groups: Any = None,
    seed: Seed,
) -> xr.DataTree:
    """Ask what heads learn of labels from any features.

    Parameters
    ----------
    features
        (B,n): what a head reads of each text, such as conditionals G at a mask, or activations. More texts than
        features.
    labels
        (B,): classes, of any names.
    prompted
        (B,m): the same after a prompt, which must have been learned from other texts: what it saw of these would count
        as learned.
    tokens
        (B,T): the texts, for a head on how often each token occurs, as a baseline.
    groups
        (B,): texts of one group, such as those of one document, are never both learned from and tested on.
    seed
        Of the texts held out, of random labels and of learning curves.

    Returns
    -------
    xarray.DataTree
        That of an audit, without groups of a model: ``/recoverability`` (is there a linear head for all texts: verdict,
        margin, or a witness below it), ``/head`` (learned heads), ``/remedy``, ``/diagnostics/learned`` (accuracies on
        held-out texts with intervals at 95 %, on true and on random labels), ``/diagnostics/learning-curve`` (by number
        of labelled texts, and the number that accuracies take), ``/observed_data`` (labels). ``tree.ppl_hmm``
        summarises, plots and explains it.

    Raises
    ------
    InvalidInput
        NaN, one class, no more texts than features, rows that do not fit, groups of all texts.

    See Also
    --------
    audit_language_model : Reads the features of a language model, and learns a prompt.
    texts_needed : How many labelled texts an accuracy takes.
    audit : Of a hidden Markov model and a task, where theorems answer.

    Notes
    -----
    3 in 10 texts are held out; penalties are chosen on a fifth of the others. Verdicts are about all texts: a linear
    programme of B·(C−1) rows and C·n columns, and least squares for a witness. Some 50 fits of logistic regression for
    each reading. 800 texts of 768 features take half a minute for two classes, most of it the programme, and some
    minutes for three.
    Source: Hewitt & Liang (2019) for control labels; Wilson (1927) and Newcombe (1998) for intervals.

    Examples
    --------
    >>> from ppl_hmm import OracleLM, audit_features, example, posterior, probe_features, sample
    >>> model, task = example("aliased")
    >>> text = sample(model, 200, length=10, seed=0).tokens
    >>> labels = task.labels(posterior(model, text))
    >>> tree = audit_features(probe_features(OracleLM(model), text), labels, seed=0)
    >>> tree.ppl_hmm.verdict
    {'head': 'not recoverable', 'log-probabilities': 'not recoverable'}
    """
    texts = LabelledTexts.of(features, labels, groups, seed)
    after = None if prompted is None else texts.reading(prompted, "prompted")
    text = None if tokens is None else as_text(tokens, np.iinfo(np.int64).max).tokens.cpu().numpy()
    if text is not None and len(text) != len(texts.labels):
        raise InvalidInput("tokens", f"{len(texts.labels)} texts, as features have", str(len(text)), "pass the same")
    readings = approaches(texts.features, after, None if text is None else _counts(text))
    return labelled_tree(texts, readings, tokens=text, prompt=None, seed=seed)


def audit_language_model(
    lm: MaskedLM | CausalLM,
    tokens: Text,
    labels: Any,
    *,
    lengths: Text | None = None,
    groups: Any = None,
    reader: Literal["masked", "causal"] = "masked",
    n_prompt_tokens: int = 1,
    seed: Seed,
) -> xr.DataTree:
    """Ask what heads and a prompt learn of labelled texts from a language model.

    Parameters
    ----------
    lm
        Any :class:`MaskedLM`, or :class:`CausalLM` for ``reader='causal'``; :func:`check_language_model` tests one.
    tokens, labels, lengths
        Raw text (B,T), its classes (B,), of any names, and where it ends (B,).
    groups
        As for :func:`audit_features`.
    reader
        What heads read: ``'masked'``, G at a mask in front of the text; ``'causal'``, the law of the next token.
    n_prompt_tokens
        Length of the prompt that is learned, of a masked reader; 0 learns none.
    seed
        As for :func:`audit_features`, and of the prompt's starts.

    Returns
    -------
    xarray.DataTree
        As of :func:`audit_features`, with a head on how often each token occurs, and ``/prompt/prompt-learned``.

    Raises
    ------
    InvalidInput, ImpossibleText
        A language model that lacks a member or whose laws are none (logits, another V); a batch of them; bad text or
        labels.

    See Also
    --------
    audit_features : Of features that are at hand.
    check_language_model : What the protocol requires.
    from_masked_lm, from_causal_lm : Hugging Face models.

    Notes
    -----
    The prompt is learned by :func:`fit_prompt` from the learning texts alone; its random labels are learned after this
    prompt, not after prompts of their own.

    Examples
    --------
    >>> from ppl_hmm import OracleLM, audit_language_model, example, posterior, sample
    >>> model, task = example("aliased")
    >>> text = sample(model, 200, length=10, seed=0).tokens
    >>> labels = task.labels(posterior(model, text))
    >>> tree = audit_language_model(OracleLM(model), text, labels, n_prompt_tokens=0, seed=0)
    >>> tree.ppl_hmm.remedy["recommended"]
    'head'
    """
    one_of("reader", reader, list(Reader))
    at_least("n_prompt_tokens", n_prompt_tokens, 0)
    masked = reader == Reader.MASKED
    require_members("audit_language_model", lm, wanted=MASKED if masked else CAUSAL)
    if lm.batch_shape:
        raise InvalidInput("audit_language_model", "one language model", f"a batch {lm.batch_shape}", "pass one by one")
    text = as_text(tokens, text_vocabulary_size(lm), lengths=lengths).tokens
    with torch.no_grad():
        features = probe_features(cast(MaskedLM, lm), text) if masked else next_token_features(cast(CausalLM, lm), text)
    texts = LabelledTexts.of(features, labels, groups, seed)
    prompt = _prompt(cast(MaskedLM, lm), text, texts, n_prompt_tokens, seed) if masked and n_prompt_tokens else None
    after = None
    if prompt is not None:
        with torch.no_grad():
            after = texts.reading(probe_features(cast(MaskedLM, lm), text, prompt=prompt), "features after the prompt")
    read = text.cpu().numpy()
    readings = approaches(texts.features, after, _counts(read))
    options = {"reader": str(reader), "language_model": type(lm).__name__, "n_prompt_tokens": n_prompt_tokens}
    return labelled_tree(texts, readings, tokens=read, prompt=prompt, seed=seed, **options)


def _prompt(lm: MaskedLM, text: Tensor, texts: LabelledTexts, n_tokens: int, seed: Seed) -> SoftPrompt:
    """Return a prompt that is learned from the learning texts, a fifth of them to choose it by."""
    learn = torch.from_numpy(texts.learn).to(text.device)
    n_validation = max(1, int(_VALIDATION_SHARE * len(learn)))
    validation, training = (
        (text[chosen], texts.labels[chosen.cpu().numpy()]) for chosen in (learn[:n_validation], learn[n_validation:])
    )
    stream = generator(seed, "audit: prompt")
    return fit_prompt(lm, *training, validation=validation, prompt_length=n_tokens, seed=stream).prompt


def _counts(tokens: np.ndarray) -> np.ndarray:
    """Return how often each token that occurs does, by text (B,·)."""
    occurring = np.unique(tokens[tokens != MASK])
    if not len(occurring):
        return np.zeros((len(tokens), 1))
    places = np.searchsorted(occurring, np.where(tokens == MASK, occurring[0], tokens))
    counts = np.zeros((len(tokens), len(occurring)))
    np.add.at(counts, (np.arange(len(tokens))[:, None], places), (tokens != MASK).astype(float))
    return counts
