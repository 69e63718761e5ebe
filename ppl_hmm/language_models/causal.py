"""Causal language models, exact or trained, and the next-token laws that heads read."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ppl_hmm.base.randomness import CPU
from ppl_hmm.base.tokens import as_text_with_ends
from ppl_hmm.errors import ImpossibleText
from ppl_hmm.inference.rows import Impossible, masks
from ppl_hmm.inference.suffixes import Suffix, template_tokens
from ppl_hmm.language_models.protocol import (
    CAUSAL,
    LanguageModel,
    checked_conditionals,
    require_members,
    text_vocabulary_size,
)
from ppl_hmm.models.kinds import Prompt, Text
from ppl_hmm.models.prompt import prompt_rows


@runtime_checkable
class CausalLM(LanguageModel, Protocol):
    """A causal language model: P(X_{t+1} | x_1..x_t) after each prefix of a text.

    See Also
    --------
    ppl_hmm.CausalOracleLM : The exact one of a hidden Markov model.
    ppl_hmm.next_token_features : What heads read of one.
    ppl_hmm.MaskedLM : A masked language model.

    Examples
    --------
    >>> from ppl_hmm import HMM, CausalLM, CausalOracleLM
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> isinstance(CausalOracleLM(model), CausalLM), isinstance(model, CausalLM)
    (True, False)
    """

    def next_token_laws(self, tokens: Text, *, prompt: Prompt | None = None, lengths: Text | None = None) -> Tensor:
        """Return P(X_{t+1} | x_1..x_t) (P…,B,T+1,V) after each prefix of (B,T), t = 0..T, behind a prompt.

        A row of zeros stands where the model gives the prefix probability zero.
        """
        ...

    def law_after(
        self,
        tokens: Text,
        *,
        prompt: Prompt | None = None,
        suffix: Suffix | None = None,
        lengths: Text | None = None,
    ) -> Tensor:
        """Return the law (P…,B,V) of the token after each text, at its end, and a suffix.

        A text ends at its length, by default after its last token that is not ``MASK``. The suffix is tokens (S,), or
        soft tokens (S,*prompt_shape). Zeros stand where it all has probability zero.
        """
        ...


def next_token_features(
    lm: CausalLM,
    tokens: Text,
    template: Suffix | None = None,
    *,
    prompt: Prompt | None = None,
    lengths: Text | None = None,
    impossible: Impossible = "raise",
) -> Tensor:
    """Return what a causal head reads (P…,B,V): the law of the token after the text and a template.

    Parameters
    ----------
    lm
        Any :class:`CausalLM`.
    tokens
        Raw text (B,T), or (P…,B,T); texts may be empty.
    template
        What follows each text at its end: tokens (S,), or soft tokens (S,*prompt_shape).
    prompt
        Soft tokens before the text: :class:`~ppl_hmm.SoftPrompt` or rows (L,*prompt_shape).
    lengths
        (B,): where texts end. By default a text ends after its last token that is not ``MASK``.
    impossible
        For text and template of probability zero: ``'raise'``, or ``'mask'`` for a row of zeros.

    Raises
    ------
    InvalidInput, ImpossibleText
        Bad arguments, a template token outside the vocabulary (which); an impossible text or template (which sequence).

    See Also
    --------
    ppl_hmm.CausalOracleLM : An exact language model.
    ppl_hmm.LinearHead : A head that reads these features.
    ppl_hmm.probe_features : What a masked language model predicts.

    Notes
    -----
    For an exact model the cost is O(B·(L+T+S)·K² + B·K·V).
    Source: Saunshi, Malladi & Arora (2021), §2, classification as sentence completion.

    Examples
    --------
    >>> from ppl_hmm import HMM, CausalOracleLM, next_token_features
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> next_token_features(CausalOracleLM(model), [[0, 1, 1], [0, 0, 0]]).numpy().round(3)
    array([[0.372, 0.628],
           [0.632, 0.368]])
    >>> next_token_features(CausalOracleLM(model), [[0, 1, 1], [0, 0, 0]], template=[1]).numpy().round(3)
    array([[0.311, 0.689],
           [0.524, 0.476]])
    """
    require_members("next_token_features", lm, wanted=CAUSAL)
    mask = masks(impossible)
    options = {"lengths": lengths, "batch_shape": lm.batch_shape}
    text, ends = as_text_with_ends(tokens, text_vocabulary_size(lm), **options)
    if template is not None:
        template_of_tokens = template_tokens("template", template, text_vocabulary_size(lm))
        if template_of_tokens is None:
            _require_soft(lm, template)
        else:
            template = template_of_tokens
    found = lm.law_after(text, prompt=prompt, suffix=template, lengths=ends)
    features = checked_conditionals(lm, found, (*lm.batch_shape, text.shape[-2], lm.vocabulary_size), CAUSAL)
    dead = features.detach().sum(-1) <= 0
    if not mask and dead.any():
        *model, sequence = dead.nonzero()[0].tolist()
        of = f" under model {model[0] if len(model) == 1 else model}" if model else ""
        raise ImpossibleText(
            f"sequence {sequence}{of}" + ("" if template is None else " with its template"),
            "positive probability",
            "probability 0",
            "drop the sequence, change the template, or pass impossible='mask' for zero rows",
        )
    return features


def _require_soft(lm: CausalLM, template: Suffix) -> None:
    """Raise :class:`InvalidInput`, which speaks of a template, unless these are soft tokens of a language model."""
    require_members("next_token_features with a soft template", lm, "prompt_shape", "prompt_constraint", wanted=CAUSAL)
    nonnegative, like = lm.prompt_constraint == "nonnegative", torch.empty(0, dtype=torch.float64, device=CPU)
    names = getattr(lm, "names", None)
    options = {"nonnegative": nonnegative, "like": like, "names": names, "what": "template"}
    prompt_rows(template, lm.prompt_shape, lm.batch_shape, **options)
