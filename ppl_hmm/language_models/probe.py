"""Features for heads: what a masked language model predicts in front of the text, and at all its positions."""

from __future__ import annotations

import dataclasses
from types import EllipsisType
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm.base.labels import aligned
from ppl_hmm.base.positions import Given, Place
from ppl_hmm.base.tokens import MASK, as_text, as_tokens
from ppl_hmm.errors import ImpossibleText, InvalidInput, one_of
from ppl_hmm.inference.queries import Impossible
from ppl_hmm.language_models.protocol import MaskedLM, checked_conditionals, require_members, text_vocabulary_size
from ppl_hmm.models.kinds import Prompt, Text

_DIMENSIONS = {
    "conditionals": (schema.SEQUENCE, schema.POSITION, schema.TOKEN),
    "tokens": (schema.SEQUENCE, schema.POSITION),
    "lengths": (schema.SEQUENCE,),
}


def probe_input(lm: MaskedLM, tokens: Text, lengths: Text | None = None) -> Tensor:
    """Return raw text (B,T), or (P…,B,T), with one mask in front and ``MASK`` past each length: (…,B,1+T)."""
    text = as_tokens(tokens, text_vocabulary_size(lm), lengths=lengths, batch_shape=lm.batch_shape)
    return Place().probe(text).inputs


def probe_features(
    lm: MaskedLM,
    tokens: Text,
    *,
    prompt: Prompt | None = None,
    lengths: Text | None = None,
    impossible: Impossible = "raise",
    position: int | None = None,
    given: Given = "text",
    n_masks: int | None = None,
) -> Tensor:
    """Return what a head reads (P…,B,V): G at a mask in front of, in, or after the text.

    By default the mask stands between the prompt and the raw text: the input (u, ∅, x) of the paper.

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
    position, given
        As of the task: a :class:`~ppl_hmm.PosteriorTask` on position t. ``'context'``: the mask hides x_t.
        ``'prefix'``: it stands after x_t, and the text ends there. ``'text'``: it hides x_t and the head sees x_t
        beside G: (P…,B,(V+1)·V), G in the block of that token, the last for ``MASK``, and zeros in all others.
    n_masks
        J masks in front of the text, or after it with ``given='prefix'``: G at each of them (P…,B,J,V). Heads take it
        flattened, mask by mask.

    Raises
    ------
    InvalidInput, ImpossibleText
        Bad arguments, a text too short for a position from its end; more than 2 GB of features where the head sees the
        token; an impossible context (which sequence).

    See Also
    --------
    ppl_hmm.LinearHead, ppl_hmm.constructed_head : Heads that read these features.
    ppl_hmm.masked_features : Features of all positions, for attention heads.

    Notes
    -----
    Source: Wei, Xie & Ma (2021), Theorems 3.3 and 3.6. For an exact model the cost is O(B·T·K² + B·K·V); O(B·V²)
    memory where the head sees the token.

    Examples
    --------
    >>> from ppl_hmm import HMM, OracleLM, probe_features
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> probe_features(OracleLM(model), [[0, 1, 1]]).numpy().round(3)
    array([[0.496, 0.504]])
    >>> probe_features(OracleLM(model), [[0, 1, 1]], prompt=[[1.0, 0.0]]).numpy().round(3)
    array([[0.661, 0.339]])
    """
    require_members("probe_features", lm)
    text = as_tokens(tokens, text_vocabulary_size(lm), lengths=lengths, batch_shape=lm.batch_shape)
    probe = Place(position, given).probe(text, 1 if n_masks is None else n_masks)

    def conditionals(positions: list[int]) -> Tensor:
        shape = (*lm.batch_shape, probe.inputs.shape[-2], len(positions), lm.vocabulary_size)
        return checked_conditionals(lm, lm.conditionals(probe.inputs, prompt=prompt, positions=positions), shape)

    features = probe.features(conditionals)
    _check_possible(features.detach().sum(-1) <= 0, impossible)
    return features if n_masks is None else features.unflatten(-1, (n_masks, lm.vocabulary_size))


@dataclasses.dataclass(frozen=True, eq=False)
class MaskedFeatures:
    """What an attention head sees of text: G at all positions, and the tokens themselves.

    Attributes
    ----------
    conditionals
        G (B,T,V): G_i(x)[v] = P(X_i=v | x_{-i}).
    tokens
        (B,T), ``MASK`` where nothing is observed.
    lengths
        (B,): position ``lengths[b]`` and later ones are not attended to.

    Raises
    ------
    InvalidInput
        Sizes or labels that do not fit, NaN, tokens or lengths out of range.

    See Also
    --------
    ppl_hmm.masked_features : Computes them.
    ppl_hmm.AttentionHead : Reads them.

    Examples
    --------
    >>> from ppl_hmm import HMM, OracleLM, masked_features
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> features = masked_features(OracleLM(model), [[0, 1, 1], [1, 1, 0]])
    >>> features.shape
    (2, 3, 2)
    >>> features[1].tokens  # the second text
    tensor([[1, 1, 0]])
    """

    conditionals: Tensor
    tokens: Tensor
    lengths: Tensor

    def __post_init__(self) -> None:
        for name, tensor in aligned(_DIMENSIONS, **{name: getattr(self, name) for name in _DIMENSIONS}).items():
            object.__setattr__(self, name, tensor)
        shapes = tuple(self.conditionals.shape[:2]), tuple(self.tokens.shape), tuple(self.lengths.shape)
        if self.conditionals.ndim != 3 or shapes[0] != shapes[1] or shapes[2] != shapes[0][:1]:
            raise InvalidInput(
                "features of an attention head",
                "conditionals (B, T, V), tokens (B, T) and lengths (B,)",
                f"{tuple(self.conditionals.shape)}, {shapes[1]} and {shapes[2]}",
                "build them with masked_features(lm, tokens)",
            )
        if not torch.isfinite(self.conditionals).all():
            raise InvalidInput("conditionals", "finite numbers", "NaN or infinity", "drop the texts")
        for name, last in (("tokens", self.conditionals.shape[2] - 1), ("lengths", self.tokens.shape[1])):
            values, first = getattr(self, name), MASK if name == "tokens" else 0
            wrong = values.is_floating_point() or ((values < first) | (values > last)).any()
            if wrong:
                raise InvalidInput(
                    f"{name} of an attention head",
                    f"integers in {first}..{last}",
                    str(values.dtype) if values.is_floating_point() else f"{values.min()}..{values.max()}",
                    "build the features with masked_features(lm, tokens)",
                )

    def __len__(self) -> int:
        """B."""
        return len(self.tokens)

    def __getitem__(self, index: int | slice | ArrayLike | Tensor | tuple[Any, EllipsisType]) -> MaskedFeatures:
        """Select texts by slices, positions or booleans, as NumPy; a single number gives features of one text."""
        if isinstance(index, tuple) and len(index) == 2 and index[1] is Ellipsis:  # scikit-learn's X[index, ...]
            index = index[0]
        chosen = np.arange(len(self))[index if isinstance(index, slice) else np.asarray(index)]
        texts = torch.from_numpy(np.atleast_1d(chosen).copy()).to(self.tokens.device)
        return MaskedFeatures(self.conditionals[texts], self.tokens[texts], self.lengths[texts])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(B,T,V)."""
        n_texts, length, n_tokens = self.conditionals.shape
        return n_texts, length, n_tokens

    @property
    def present(self) -> Tensor:
        """Which positions (B,T) come before the end of their text."""
        return torch.arange(self.tokens.shape[1], device=self.tokens.device) < self.lengths[:, None]


def masked_features(
    lm: MaskedLM,
    tokens: Text,
    *,
    prompt: Prompt | None = None,
    lengths: Text | None = None,
    impossible: Impossible = "raise",
) -> MaskedFeatures:
    """Return G at all positions of raw text (B,T), each in the context of all others: the input (u, x) of the paper.

    Parameters
    ----------
    lm
        One masked language model.
    tokens, lengths
        Raw text (B,T), lengths (B,).
    prompt
        Rows (L,*prompt_shape), or a record of them.
    impossible
        For text with a context of probability zero: ``'raise'``, or ``'mask'`` for rows of zeros.

    Raises
    ------
    InvalidInput, ImpossibleText
        Bad arguments, a batch of language models; an impossible context (which sequence).

    See Also
    --------
    ppl_hmm.AttentionHead, ppl_hmm.constructed_attention : Heads that read these features.
    ppl_hmm.probe_features : Features of one mask, for linear heads.

    Notes
    -----
    Source: Wei, Xie & Ma (2021), §4. For an exact model the cost is that of :func:`ppl_hmm.masked_conditionals`.

    Examples
    --------
    >>> from ppl_hmm import HMM, OracleLM, masked_features
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> features = masked_features(OracleLM(model), [[0, 1, 1]])
    >>> features.conditionals[0, 1].numpy().round(3)  # P(X_1 | x_0, x_2)
    array([0.513, 0.487])
    """
    require_members("masked_features", lm)
    if lm.batch_shape:
        raise InvalidInput("masked_features", "one language model", f"a batch {lm.batch_shape}", "pass them one by one")
    text, ends = as_text(tokens, text_vocabulary_size(lm), lengths=lengths)
    conditionals = checked_conditionals(lm, lm.conditionals(text, prompt=prompt), (*text.shape, lm.vocabulary_size))
    if ends is None:
        ends = torch.full_like(text[:, 0], text.shape[1])
    features = MaskedFeatures(conditionals, text.to(conditionals.device), ends.to(conditionals.device))
    _check_possible(((conditionals.detach().sum(-1) <= 0) & features.present).any(-1), impossible)
    return features


def _check_possible(empty: Tensor, impossible: Impossible) -> None:
    """Raise for the first text (…,B) whose context is impossible, if that is asked."""
    one_of("value of 'impossible'", impossible, ("raise", "mask"))
    if impossible == "raise" and empty.any():
        sequence = empty.nonzero()[0][-1].item()
        raise ImpossibleText(
            f"context of sequence {sequence}",
            "text of positive probability after the prompt and mask",
            "probability 0",
            "drop the sequence, or pass impossible='mask' for zero rows",
        )
