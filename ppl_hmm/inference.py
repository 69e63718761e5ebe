"""Exact inference on models: validated at the boundary, computed by :mod:`ppl_hmm.exact`.

Conventions: silent H₀; position 0 is the first token as passed; prompt tokens come before the text and are not
reported; logarithms are natural (nats). Source: Wei, Xie & Ma (2021), §2.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ppl_hmm.errors import ImpossibleText, InvalidInput, at_least, one_of
from ppl_hmm.exact import chain, paths
from ppl_hmm.parameters import HMM, prompt_rows
from ppl_hmm.randomness import Seed, generator
from ppl_hmm.text import as_tokens

Text = ArrayLike | Tensor
Prompt = object  # SoftPrompt, or rows as an array-like
Impossible = Literal["raise", "mask"]


@dataclasses.dataclass(frozen=True, eq=False)
class Posterior:
    """Exact posterior of the hidden states given text.

    Attributes
    ----------
    log_evidence
        (P…,B): log P(x) = log Σ_{h₀..h_T} π₀(h₀) ∏_t A[h_{t-1},h_t] w_t(h_t), in nats.
    initial
        (P…,B,K): P(H₀=h | x) ∝ π₀(h) f(x)_h.
    smoothed
        (P…,B,T,K): P(H_t=h | x) over the text positions; past an end, the predictive law.
    possible
        (P…,B): whether P(x) > 0; where it is not, the rows above are zero.
    """

    log_evidence: Tensor
    initial: Tensor
    smoothed: Tensor
    possible: Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class BestPath:
    """Most probable path. ``states`` (P…,B,T), ``initial_state`` (P…,B), ``log_probability`` (P…,B) = log P(h,x)."""

    states: Tensor
    initial_state: Tensor
    log_probability: Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class PosteriorDraws:
    """Draws from P(H₀..H_T | x): ``states`` (P…,B,n_draws,T) and ``initial_state`` (P…,B,n_draws)."""

    states: Tensor
    initial_state: Tensor


def posterior(
    model: HMM,
    tokens: Text,
    *,
    prompt: Prompt | None = None,
    lengths: Text | None = None,
    impossible: Impossible = "raise",
) -> Posterior:
    """Return the exact :class:`Posterior` of states given tokens (B,T), or (P…,B,T), after an optional prompt.

    Parameters
    ----------
    model
        K states, V tokens, optional leading batch dimensions P….
    tokens
        Integers 0..V−1, or ``MASK`` (−1) where nothing is observed.
    prompt
        :class:`SoftPrompt` or rows (L,K) of likelihoods, put before the text.
    lengths
        (B,): later positions count as ``MASK``.
    impossible
        What to do with text of probability zero: ``'raise'``, or ``'mask'`` for zero rows and ``possible=False``.

    Raises
    ------
    InvalidInput, ImpossibleText
        Bad arguments; impossible text (which sequence, its first impossible position).

    Notes
    -----
    Cost O(B·(L+T)·K²) time, O(B·T·K) memory.
    """
    rows = _LikelihoodRows.of(model, tokens, prompt, lengths)
    result = chain.forward_backward(*rows.arrays, rows.text_positions)
    possible = result.log_evidence > -torch.inf
    if _checked(impossible) == "raise":
        _raise_if_impossible(rows, possible)
    return Posterior(*(rows.unflatten(field) for field in (*result, possible)))


def initial_posterior(model: HMM, tokens: Text, *, lengths: Text | None = None) -> Tensor:
    """Return P(H₀|x) (P…,B,K) alone: what tasks need, by one backward pass.

    P(H₀=h|x) ∝ π₀(h) f(x)_h. Parameters and errors as in :func:`posterior`, whose ``initial`` it equals. Cost O(B·T·K²)
    time, O(B·K) memory.
    """
    rows = _LikelihoodRows.of(model, tokens, None, lengths)
    joint = rows.arrays[0][:, None] * chain.messages_at(*rows.arrays[1:], positions=[-1])[:, :, 0]
    total = joint.sum(-1, keepdim=True)
    limits = torch.finfo(total.dtype)
    faint = total[..., 0] < limits.tiny / limits.eps  # near underflow, or impossible
    law = joint / torch.where(total > 0, total, 1)
    if faint.any():
        exact = chain.forward_backward(*chain.pick(faint, *rows.arrays), positions=[])
        law[faint] = exact.initial[:, 0]
        possible = torch.ones_like(faint).masked_scatter(faint, exact.log_evidence[:, 0] > -torch.inf)
        _raise_if_impossible(rows, possible)
    return rows.unflatten(law)


def masked_conditionals(
    model: HMM,
    tokens: Text,
    *,
    prompt: Prompt | None = None,
    positions: Sequence[int] | None = None,
    lengths: Text | None = None,
    impossible: Impossible = "raise",
) -> Tensor:
    """Return G (P…,B,positions,V): G_i(x)[v] = P(X_i=v | x_{-i}), what a perfect masked language model outputs.

    The token at i itself is left out, whether observed or masked. ``positions`` default to all; negative ones count
    from the end. Other parameters as in :func:`posterior`; here *impossible* means the context x_{-i}.

    Raises
    ------
    InvalidInput, ImpossibleText
        Bad arguments; an impossible context (which sequence, which position).

    Notes
    -----
    Cost O(B·(L+T)·K² + B·positions·K·V). Source: Wei, Xie & Ma (2021), §2, the masked LM G.
    """
    rows = _LikelihoodRows.of(model, tokens, prompt, lengths)
    chosen = rows.positions(positions)
    different = sorted(set(chosen))
    cavities = chain.forward_backward(*rows.arrays, different, own_token=False).marginals
    cavities = cavities[:, :, [different.index(t) for t in chosen]]
    possible = cavities.sum(-1) > 0
    if _checked(impossible) == "raise" and not possible.all():
        _, sequence, slot = (~possible).nonzero()[0].tolist()
        raise ImpossibleText(
            f"context of position {chosen[slot] - rows.n_prompt} in sequence {sequence}",
            "a context of positive probability",
            "probability 0",
            "drop the sequence, or pass impossible='mask' for zero rows",
        )
    emission = model.emission.detach().reshape(-1, 1, *model.emission.shape[-2:])
    return rows.unflatten(cavities @ emission)


def log_likelihood(model: HMM, tokens: Text, *, prompt: Prompt | None = None, lengths: Text | None = None) -> Tensor:
    """Return log P(x) (P…,B) in nats, differentiable in the model's parameters and the prompt's rows.

    Impossible text gives −inf with gradient zero; gradients are finite where the true derivatives fit a
    float (near underflow, entries that are exactly zero count as constants). Parameters as in :func:`posterior`.
    Cost O(B·(L+T)·K²).
    """
    rows = _LikelihoodRows.of(model, tokens, prompt, lengths)
    return rows.unflatten(chain.log_evidence(*rows.arrays))


def viterbi(
    model: HMM,
    tokens: Text,
    *,
    prompt: Prompt | None = None,
    lengths: Text | None = None,
    impossible: Impossible = "raise",
) -> BestPath:
    """Return the most probable path of hidden states, ties to the lowest state.

    With ``impossible='mask'`` the states of impossible text are −1 and its log-probability −inf. Parameters and errors
    as in :func:`posterior`. Cost O(B·(L+T)·K²).
    """
    rows = _LikelihoodRows.of(model, tokens, prompt, lengths)
    best = paths.best_path(*rows.arrays)
    log_probability = paths.log_joint(*rows.arrays, best)[..., 0]
    possible = log_probability > -torch.inf
    if _checked(impossible) == "raise":
        _raise_if_impossible(rows, possible)
    states = rows.unflatten(torch.where(possible[..., None], best[:, :, 0], -1))
    return BestPath(states[..., 1 + rows.n_prompt :], states[..., 0], rows.unflatten(log_probability))


def sample_posterior(
    model: HMM, tokens: Text, n_draws: int, seed: Seed, *, prompt: Prompt | None = None, lengths: Text | None = None
) -> PosteriorDraws:
    """Return ``n_draws`` exact, independent draws from P(H₀..H_T | x) for each sequence.

    Parameters and errors as in :func:`posterior`; the same seed gives the same draws. Cost O(B·T·K·(K+n_draws)).
    """
    n_draws = at_least("n_draws", n_draws, 1)
    rows = _LikelihoodRows.of(model, tokens, prompt, lengths)
    _raise_if_impossible(rows, chain.log_evidence(*rows.arrays) > -torch.inf)
    draws = rows.unflatten(paths.sample_paths(*rows.arrays, n_draws, generator(seed, "posterior")))
    return PosteriorDraws(draws[..., 1 + rows.n_prompt :], draws[..., 0])


class _LikelihoodRows(NamedTuple):
    """A text, its prompt and its model as the chain's arrays: one table of likelihood rows, and row numbers.

    Rows 0..V−1 are the columns of W, row V is the mask's row of ones, rows V+1.. are the prompt's tokens.
    """

    arrays: tuple[Tensor, Tensor, Tensor, Tensor]  # initial (P,K), transition (P,K,K), table (P,R,K), ids (P,B,L+T)
    batch_shape: tuple[int, ...]
    n_prompt: int

    @classmethod
    def of(cls, model: HMM, tokens: Text, prompt: Prompt | None, lengths: Text | None) -> _LikelihoodRows:
        batch_shape = model.batch_shape
        text = as_tokens(tokens, model.vocabulary_size, lengths=lengths, batch_shape=batch_shape, device=model.device)
        table = likelihood_table(model, prompt)
        n_models, n_prompt = len(table), table.shape[1] - model.vocabulary_size - 1
        ids = mask_as_row(text, model.vocabulary_size).expand(*batch_shape, *text.shape[-2:])
        ids = ids.reshape(n_models, *text.shape[-2:])
        prompt_ids = model.vocabulary_size + 1 + torch.arange(n_prompt, device=ids.device)
        ids = torch.cat([prompt_ids.expand(*ids.shape[:2], -1), ids], dim=-1)
        initial = model.initial.reshape(n_models, model.n_states)
        transition = model.transition.reshape(n_models, model.n_states, model.n_states)
        return cls((initial, transition, table, ids), batch_shape, n_prompt)

    @property
    def text_positions(self) -> range:
        return range(self.n_prompt, self.arrays[-1].shape[-1])

    def positions(self, positions: Sequence[int] | None) -> list[int]:
        return [self.n_prompt + t for t in check_positions(positions, len(self.text_positions))]

    def unflatten(self, values: Tensor) -> Tensor:
        """Give results (P,B,…) their batch dimensions back."""
        return values.reshape(*self.batch_shape, *values.shape[1:])


def likelihood_table(model: HMM, prompt: Prompt | None = None) -> Tensor:
    """Return the table (P,V+1+L,K) of likelihood rows: tokens, the mask, then the prompt's tokens."""
    tokens = model.emission.transpose(-1, -2)
    parts = [tokens, torch.ones_like(tokens[..., :1, :])]
    if prompt is not None:
        rows = prompt_rows(prompt, (model.n_states,), model.batch_shape, nonnegative=True, like=tokens)
        parts.append(rows.expand(*model.batch_shape, *rows.shape[-2:]))
    table = torch.cat(parts, dim=-2)
    return table.reshape(-1, *table.shape[-2:])


def mask_as_row(tokens: Tensor, vocabulary_size: int) -> Tensor:
    """Return row numbers of :func:`likelihood_table` for tokens: ``MASK`` becomes row V."""
    return torch.where(tokens < 0, vocabulary_size, tokens)


def check_positions(positions: Sequence[int] | None, length: int) -> list[int]:
    """Return non-negative positions of a text of ``length`` tokens; all by default.

    Raises
    ------
    InvalidInput
        A position outside the text, or none at all.
    """
    if positions is None:
        return list(range(length))
    try:
        chosen = [operator.index(position) for position in positions]
    except TypeError:
        raise InvalidInput("positions", "integers", repr(positions), "pass e.g. positions=[0]") from None
    for position in chosen:
        if not -length <= position < length:
            raise InvalidInput("positions", f"{-length}..{length - 1}", str(position), "count from 0 over the text")
    if not chosen:
        raise InvalidInput("positions", "at least one position", "none", "pass positions=None for all")
    return [position % length for position in chosen]


def _checked(impossible: Impossible) -> Impossible:
    one_of("value of 'impossible'", impossible, ("raise", "mask"))
    return impossible


def _raise_if_impossible(rows: _LikelihoodRows, possible: Tensor) -> None:
    if possible.all():
        return
    model, sequence = (~possible).nonzero()[0].tolist()
    one = torch.zeros_like(possible)
    one[model, sequence] = True
    first = chain.first_impossible(*chain.pick(one, *rows.arrays)) - rows.n_prompt
    where = f"position {first}" if first >= 0 else f"prompt token {first + rows.n_prompt}"
    name = f"sequence {sequence}" + (f" under model {model}" if rows.batch_shape else "")
    raise ImpossibleText(
        f"{name} is impossible from {where} on",
        "text of positive probability",
        "probability 0",
        "drop the sequence, smooth the emissions, or pass impossible='mask'",
    )
