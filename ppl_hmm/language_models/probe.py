"""Features for a head: what a masked language model predicts in front of the text."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_hmm.errors import ImpossibleText, one_of
from ppl_hmm.inference import Impossible
from ppl_hmm.language_models.protocol import MaskedLM
from ppl_hmm.rows import Prompt, Text
from ppl_hmm.text import MASK, as_tokens


def probe_input(lm: MaskedLM, tokens: Text, lengths: Text | None = None) -> Tensor:
    """Return raw text (B,T), or (P…,B,T), with one mask in front and ``MASK`` past each length: (…,B,1+T)."""
    text = as_tokens(tokens, lm.vocabulary_size, lengths=lengths, batch_shape=lm.batch_shape)
    return torch.cat([torch.full_like(text[..., :1], MASK), text], dim=-1)


def probe_features(
    lm: MaskedLM,
    tokens: Text,
    *,
    prompt: Prompt | None = None,
    lengths: Text | None = None,
    impossible: Impossible = "raise",
) -> Tensor:
    """Return G (P…,B,V) at a mask between the prompt and the raw text: the input (u, ∅, x) of the paper.

    Parameters
    ----------
    lm
        Any :class:`MaskedLM`.
    tokens
        Raw text (B,T) or (P…,B,T): the mask is inserted here.
    prompt
        :class:`SoftPrompt` or rows (L,*prompt_shape).
    impossible
        For a context x of probability zero: ``'raise'``, or ``'mask'`` for a row of zeros.

    Raises
    ------
    InvalidInput, ImpossibleText
        Bad arguments; an impossible context (which sequence).

    Notes
    -----
    Source: Wei, Xie & Ma (2021), Theorems 3.3 and 3.6. For an exact model the cost is O(B·T·K² + B·K·V).
    """
    one_of("value of 'impossible'", impossible, ("raise", "mask"))
    features = lm.conditionals(probe_input(lm, tokens, lengths), prompt=prompt, positions=[0])[..., 0, :]
    empty = features.detach().sum(-1) <= 0
    if impossible == "raise" and empty.any():
        sequence = empty.nonzero()[0][-1].item()
        raise ImpossibleText(
            f"context of sequence {sequence}",
            "text of positive probability after the prompt and mask",
            "probability 0",
            "drop the sequence, or pass impossible='mask' for zero rows",
        )
    return features
