"""Exact inference on models: validated at the boundary, computed by :mod:`ppl_hmm.exact`.

Conventions: silent H₀; position 0 is the first token as passed; prompt tokens come before the text and are not
reported; logarithms are natural (nats). Source: Wei, Xie & Ma (2021), §2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ppl_hmm.base import foreign
from ppl_hmm.base.positions import at_columns
from ppl_hmm.base.randomness import Seed, generator, require_room
from ppl_hmm.errors import ImpossibleText, at_least
from ppl_hmm.exact import chain, evidence, mixture
from ppl_hmm.inference.results import BestPath, MemoryPosterior, Posterior, PosteriorDraws
from ppl_hmm.inference.rows import Impossible, LikelihoodRows, masks
from ppl_hmm.models import HMM, MemoryHMM
from ppl_hmm.models.kinds import Model, Prompt, Text


def posterior(
    model: Model,
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
        :class:`~ppl_hmm.HMM` or :class:`~ppl_hmm.MemoryHMM`: K states, V tokens, optional leading batch dimensions P….
    tokens
        Integers 0..V−1, or ``MASK`` (−1) where nothing is observed.
    prompt
        :class:`SoftPrompt` or rows of likelihoods, put before the text: (L,K), or (L,m,K) for a memory model.
    lengths
        (B,): later positions count as ``MASK``.
    impossible
        What to do with text of probability zero: ``'raise'``, or ``'mask'`` for zero rows and ``possible=False``.

    Raises
    ------
    InvalidInput, ImpossibleText
        Bad arguments; impossible text (which sequence, its first impossible position).

    See Also
    --------
    ppl_hmm.masked_conditionals : Laws of tokens instead of states.
    ppl_hmm.log_likelihood : The evidence alone, differentiable.
    ppl_hmm.smoothed_segments : The same for text of millions of tokens.
    ppl_hmm.viterbi, ppl_hmm.sample_posterior : Paths instead of marginal laws.

    Notes
    -----
    Cost O(B·(L+T)·K²) time, O(B·T·K) memory; with a memory m^N times the time, and the same memory.

    Examples
    --------
    >>> from ppl_hmm import HMM, posterior
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> found = posterior(model, [[0, 1, 1]])
    >>> found.initial.numpy().round(3)  # P(H_0 | x)
    array([[0.614, 0.386]])
    >>> found.log_evidence.numpy().round(4)
    array([-2.4003])
    """
    rows = LikelihoodRows.of(model, tokens, prompt, lengths)
    result = mixture.forward_backward(rows.text, rows.text_positions)
    possible = result.log_evidence > -torch.inf
    if not masks(impossible):
        rows.require_possible(possible, can_mask=True)
    log_evidence, initial, smoothed, of_memory = (rows.unflatten(field) for field in result)
    states = Posterior(log_evidence, initial, smoothed, rows.unflatten(possible), names=model.names)
    return MemoryPosterior(**vars(states), memory=of_memory) if isinstance(model, MemoryHMM) else states


@torch.no_grad()
def initial_posterior(model: HMM, tokens: Text, *, lengths: Text | None = None) -> Tensor:
    """Return P(H₀|x) (P…,B,K) alone: what tasks need, by one backward pass.

    P(H₀=h|x) ∝ π₀(h) f(x)_h. Parameters and errors as in :func:`posterior`, whose ``initial`` it equals; as there, the
    result has no autograd graph. Cost O(B·T·K²) time, O(B·K) memory.
    """
    rows = LikelihoodRows.of(model, tokens, None, lengths)
    law, possible = chain.initial_posterior(rows.text.only_chain)
    rows.require_possible(possible)
    return rows.unflatten(law)


def state_posterior(model: Model, tokens: Text, columns: Tensor) -> Tensor:
    """Return P(H_t|x) (P…,B,K) at one position of each text: ``columns`` (B,) or (P…,B).

    Equals ``posterior(model, tokens).smoothed`` there; errors as there. Cost O(B·T·K²) time, O(B·n·K) memory for n
    different positions.
    """
    rows = LikelihoodRows.of(model, tokens)
    different = columns.unique()
    result = mixture.forward_backward(rows.text, different.tolist())
    rows.require_possible(result.log_evidence > -torch.inf)
    return at_columns(rows.unflatten(result.smoothed), torch.searchsorted(different, columns)[..., None])[..., 0, :]


@torch.no_grad()
def memory_posterior(
    model: MemoryHMM, tokens: Text, *, prompt: Prompt | None = None, lengths: Text | None = None, joint: bool = False
) -> Tensor:
    """Return P(M_j=a | x) (P…,B,N,m) alone: what tasks need, by one forward pass.

    Parameters and errors as in :func:`posterior`, whose ``memory`` it equals. With ``joint``, P(M|x) (P…,B,m,…,m): one
    dimension for each of the N cells. Cost O(m^N·B·(L+T)·K²) time, O(m^N·B) memory.

    See Also
    --------
    ppl_hmm.posterior : The states as well.
    ppl_hmm.MemoryTask : Tasks on a memory cell.

    Examples
    --------
    >>> from ppl_hmm import example, memory_posterior
    >>> model, _ = example("memory")
    >>> memory_posterior(model, [[0, 3, 0]]).numpy().round(3)  # one cell: good or bad
    array([[[0.667, 0.333]]])
    """
    foreign.require(model, MemoryHMM, "memory_posterior", "a MemoryHMM")
    rows = LikelihoodRows.of(model, tokens, prompt, lengths)
    log_joint = mixture.log_joint_memory(rows.text)
    rows.require_possible((log_joint > -torch.inf).any(-1))
    law = rows.unflatten(log_joint.softmax(-1)).unflatten(-1, (model.n_memory_values,) * model.n_cells)
    if joint:
        return law
    cells = range(-model.n_cells, 0)
    others = [[other for other in cells if other != cell] for cell in cells]
    return torch.stack([law.sum(rest) if rest else law for rest in others], dim=-2)  # sum over no cell is the law


def masked_conditionals(
    model: Model,
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

    See Also
    --------
    ppl_hmm.OracleLM : The same as a language model, with prompts.
    ppl_hmm.probe_features, ppl_hmm.masked_features : The same as features for heads.
    ppl_hmm.posterior : Laws of states instead of tokens.

    Notes
    -----
    Cost O(B·(L+T)·K² + B·positions·K·V); with a memory m^N times that.
    Source: Wei, Xie & Ma (2021), §2, the masked LM G.

    Examples
    --------
    >>> from ppl_hmm import HMM, masked_conditionals
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> masked_conditionals(model, [[0, 1, 1]], positions=[1]).numpy().round(3)  # P(X_1 | x_0, x_2)
    array([[[0.513, 0.487]]])
    """
    rows = LikelihoodRows.of(model, tokens, prompt, lengths)
    chosen = rows.positions(positions)
    different = sorted(set(chosen))
    conditionals = mixture.conditionals(rows.text, different, model.vocabulary_size)
    if chosen != different:
        conditionals = conditionals[:, :, [different.index(t) for t in chosen]]
    possible = conditionals.sum(-1) > 0
    if not masks(impossible) and not possible.all():
        model_number, sequence, slot = (~possible).nonzero()[0].tolist()
        raise ImpossibleText(
            f"context of position {chosen[slot] - rows.n_prompt} in {rows.name_of(model_number, sequence)}",
            "a context of positive probability",
            "probability 0",
            "drop the sequence, or pass impossible='mask' for zero rows",
        )
    return rows.unflatten(conditionals)


def log_likelihood(model: Model, tokens: Text, *, prompt: Prompt | None = None, lengths: Text | None = None) -> Tensor:
    """Return log P(x) (P…,B) in nats, differentiable in the model's parameters and the prompt's rows.

    Impossible text gives −inf with gradient zero. Gradients are right at exact zeros, where they are one-sided
    derivatives, and inf where those are larger than any float. They can be differentiated again; near underflow, an
    entry that is exactly zero then counts as a constant. Parameters as in :func:`posterior`.
    Cost O(B·(L+T)·K²).

    See Also
    --------
    ppl_hmm.posterior : The laws of the states as well.
    ppl_hmm.CategoricalHMM : The same as a Pyro distribution.

    Examples
    --------
    >>> from ppl_hmm import HMM, log_likelihood
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> log_likelihood(model, [[0, 1, 1], [1, 1, 1]]).numpy().round(4)
    array([-2.4003, -1.3325])
    """
    rows = LikelihoodRows.of(model, tokens, prompt, lengths)
    return rows.unflatten(evidence.log_evidence(rows.text))


def viterbi(
    model: Model,
    tokens: Text,
    *,
    prompt: Prompt | None = None,
    lengths: Text | None = None,
    impossible: Impossible = "raise",
) -> BestPath:
    """Return the most probable path of hidden states, with its memory where there is one; ties to the lowest.

    The path of a text ends with it, where ``lengths`` or its row in a list of rows do: from there on states are −1, so
    that no path depends on the others' lengths. A ``MASK`` before is a position, whose state is found too. With
    ``impossible='mask'`` the states of impossible text are −1 and its log-probability −inf. Parameters and errors as in
    :func:`posterior`. Cost O(B·(L+T)·K²), in a pass for each different end.

    See Also
    --------
    ppl_hmm.posterior : Marginal laws instead of one path.
    ppl_hmm.sample_posterior : Draws of paths.

    Examples
    --------
    >>> from ppl_hmm import HMM, viterbi
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> best = viterbi(model, [[0, 0, 1, 1, 1, 1]])
    >>> best.states
    tensor([[0, 0, 1, 1, 1, 1]])
    """
    rows = LikelihoodRows.of(model, tokens, prompt, lengths)
    best, remembered, log_probability = mixture.best_path(rows.text, rows.ends)
    possible = log_probability > -torch.inf
    if not masks(impossible):
        rows.require_possible(possible, can_mask=True)
    states, remembered = (rows.unflatten(torch.where(possible[..., None], found, -1)) for found in (best, remembered))
    return BestPath(
        states[..., 1 + rows.n_prompt :],
        states[..., 0],
        rows.unflatten(log_probability),
        remembered if isinstance(model, MemoryHMM) else None,
    )


def sample_posterior(
    model: Model, tokens: Text, n_draws: int, seed: Seed, *, prompt: Prompt | None = None, lengths: Text | None = None
) -> PosteriorDraws:
    """Return ``n_draws`` exact, independent draws from P(H₀..H_T | x), or P(M, H₀..H_T | x), for each sequence.

    Parameters and errors as in :func:`posterior`; the same seed gives the same draws. At most
    :data:`~ppl_hmm.base.randomness.LARGEST_DRAW` states are drawn at once. Cost O(B·T·K·(K+n_draws)).

    See Also
    --------
    ppl_hmm.posterior : Marginal laws instead of draws.
    ppl_hmm.sample : Draws of text.

    Examples
    --------
    >>> from ppl_hmm import HMM, sample_posterior
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> sample_posterior(model, [[0, 1, 1]], n_draws=3, seed=0).states
    tensor([[[0, 0, 0],
             [0, 0, 1],
             [1, 1, 1]]])
    """
    n_draws = at_least("n_draws", n_draws, 1)
    rows = LikelihoodRows.of(model, tokens, prompt, lengths)
    require_room("states of sample_posterior", *rows.text.ids.shape, n_draws)
    rows.require_possible(evidence.log_evidence(rows.text) > -torch.inf)
    drawn = mixture.sample_paths(rows.text, n_draws, generator(seed, "posterior"))
    states, remembered = map(rows.unflatten, drawn)
    return PosteriorDraws(
        states[..., 1 + rows.n_prompt :], states[..., 0], remembered if isinstance(model, MemoryHMM) else None
    )
