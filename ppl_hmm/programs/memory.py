"""The memory-augmented hidden Markov model as a Pyro program.

Sites, all under ``pyro.plate("sequence", B, dim=-1)``:

    memory_j            M_j ∼ P(M_j), j = 1..N: one memory for each sequence, read at all its positions
    state_0             H₀ ∼ π₀, silent
    prompt_state_l      the hidden state of prompt token l = 1..L; ``prompt_l`` is its factor u_l[M_cell(h), h]
    state_t, token_t    H_t ∼ A[H_{t−1},·] and X_t ∼ W[M_cell(H_t),H_t,·], t = 1..T; token_{i+1} is column i (from 0)

With a prior in place of a model, the parameters are sites in front of the plate: :mod:`ppl_hmm.programs.laws`. Summed,
memories, states and tokens are one factor ``tokens``.

Source: Wei, Xie & Ma (2021), §4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pyro
import torch
from torch import Tensor
from torch.nn.functional import pad

from ppl_hmm.base import foreign
from ppl_hmm.exact import evidence
from ppl_hmm.exact.mixture import MemoryText
from ppl_hmm.models import MemoryHMM
from ppl_hmm.models.kinds import Prompt, Text
from ppl_hmm.programs.hmm import checked, latent, sample_chain
from ppl_hmm.programs.laws import Groups, Laws, sample_laws
from ppl_hmm.programs.priors import MemoryHMMPrior


def memory_program(
    model: MemoryHMM | MemoryHMMPrior,
    tokens: Text,
    *,
    lengths: Text | None = None,
    prompt: Prompt | None = None,
    predict: Sequence[int] = (),
    summed: bool = False,
    groups: Groups | None = None,
    group_concentration: float | Tensor | None = None,
) -> None:
    """Run the Pyro program of a memory-augmented hidden Markov model, whose latents are marked for enumeration.

    The cells' enumeration dimensions stay for all positions; those of the states are recycled.

    Parameters
    ----------
    model
        A single model: N cells of m values, K states, V tokens. Or a :class:`~ppl_hmm.MemoryHMMPrior`: then
        ``memory_prior``, ``initial``, ``transition`` and ``emission`` are sites of the program, drawn from it.
    tokens, lengths, predict, groups, group_concentration
        As in :func:`~ppl_hmm.programs.hmm.hmm_program`.
    prompt
        :class:`~ppl_hmm.MemoryPrompt` or rows (L,m,K) of likelihoods, put before the text: u[l,a,h] is that of state h
        when the cell that it reads holds a.
    summed
        Sum memories and states out by exact inference: one factor ``tokens`` in place of their sites.

    Raises
    ------
    InvalidInput
        A batch of models; tokens, lengths, prompt, positions or groups that do not fit; a prompt or positions to
        predict where states are summed out; a memory with too many values to sum over.

    See Also
    --------
    ppl_hmm.MemoryHMMPrior : Priors of the parameters.
    ppl_hmm.hmm_program : The program of a model without a memory.
    ppl_hmm.log_likelihood : The same evidence by exact inference, without enumeration.

    Notes
    -----
    Every call validates its arguments. Cost under enumeration: tensors of B·m^N·K² entries a step, B·m^N·K·V where
    predicted.

    Examples
    --------
    >>> from ppl_hmm import example, memory_program
    >>> from pyro.infer import TraceEnum_ELBO
    >>> model, _ = example("memory")
    >>> elbo = TraceEnum_ELBO(max_plate_nesting=1)
    >>> round(-elbo.loss(memory_program, lambda *arguments: None, model, [[0, 1]]), 4)  # log P(x)
    -2.5897
    """
    foreign.require(model, (MemoryHMM, MemoryHMMPrior), "model of memory_program", "a MemoryHMM, or a MemoryHMMPrior")
    text, rows, latent_tokens = checked(model, "memory_program", tokens, lengths, prompt, predict, summed)
    laws = sample_laws(model, len(text), groups, group_concentration)
    with pyro.plate("sequence", len(text), dim=-1):
        if summed:
            pyro.factor("tokens", _log_evidence(model, laws, text))
        else:
            _sample_sites(model.cell_of_state, laws, text, rows, latent_tokens)


def _sample_sites(
    cell_of_state: Tensor, laws: Laws, text: Tensor, rows: Tensor | None, latent_tokens: list[int]
) -> None:
    """Sample the sites of memories, then those of the chain that reads them."""
    log_prior = cast(Tensor, laws.memory_prior).log()
    # Outside the Markov loop: what is sampled there is never recycled.
    memory = [latent(f"memory_{j}", log_prior[*laws.of_text, j - 1]) for j in range(1, 1 + log_prior.shape[-2])]

    def read(state: Tensor) -> tuple[Tensor, Tensor]:
        cell, value = cell_of_state[state], memory[0]
        for j, held in enumerate(memory[1:], start=1):
            value = torch.where(cell == j, held, value)
        return value, state

    sample_chain(laws, text, rows, latent_tokens, read)


def _log_evidence(model: MemoryHMM | MemoryHMMPrior, laws: Laws, text: Tensor) -> Tensor:
    """Return log P(x) (B,) in nats, of each text under its parameters. Cost O(m^N·B·T·K²)."""
    own = laws.each_text
    memory_prior, initial, transition, emission = (
        part if laws.of_text else part[None]
        for part in (cast(Tensor, own.memory_prior), own.initial, own.transition, own.emission)
    )
    ids = torch.where(text < 0, model.vocabulary_size, text)
    table = pad(emission.mT, (0, 0, 0, 1), value=1.0)  # the last row is that of the mask
    cells = model.cell_of_state.expand(initial.shape)
    by_model = ids.reshape(len(initial), -1, ids.shape[-1])
    return evidence.log_evidence(MemoryText(memory_prior, cells, initial, transition, table, by_model)).flatten()
