"""The memory-augmented hidden Markov model as a Pyro program.

Sites, all under ``pyro.plate("sequence", B, dim=-1)``:

    memory_j            M_j ∼ P(M_j), j = 1..N: one memory for each sequence, read at all its positions
    state_0             H₀ ∼ π₀, silent
    prompt_state_l      the hidden state of prompt token l = 1..L; ``prompt_l`` is its factor u_l[M_cell(h), h]
    state_t, token_t    H_t ∼ A[H_{t−1},·] and X_t ∼ W[M_cell(H_t),H_t,·], t = 1..T; token_{i+1} is column i (from 0)

Source: Wei, Xie & Ma (2021), §4.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyro
import torch
from torch import Tensor

from ppl_hmm.base import foreign
from ppl_hmm.base.tokens import as_tokens
from ppl_hmm.inference.rows import check_positions, model_prompt
from ppl_hmm.models import MemoryHMM
from ppl_hmm.models.kinds import Prompt, Text
from ppl_hmm.programs.hmm import latent, sample_chain


def memory_program(
    model: MemoryHMM,
    tokens: Text,
    *,
    lengths: Text | None = None,
    prompt: Prompt | None = None,
    predict: Sequence[int] = (),
) -> None:
    """Run the Pyro program of a memory-augmented hidden Markov model, whose latents are marked for enumeration.

    The cells' enumeration dimensions stay for all positions; those of the states are recycled.

    Parameters
    ----------
    model
        A single model: N cells of m values, K states, V tokens.
    tokens, lengths, predict
        As in :func:`~ppl_hmm.programs.hmm.hmm_program`.
    prompt
        :class:`~ppl_hmm.MemoryPrompt` or rows (L,m,K) of likelihoods, put before the text: u[l,a,h] is that of state h
        when the cell that it reads holds a.

    Raises
    ------
    InvalidInput
        A batch of models; tokens, lengths, prompt or positions that do not fit the model.

    See Also
    --------
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
    foreign.require(model, MemoryHMM, "model of memory_program", "a MemoryHMM")
    model.require_single("memory_program")
    text = as_tokens(tokens, model.vocabulary_size, lengths=lengths, device=model.device)
    rows = None if prompt is None else model_prompt(model, prompt)
    latent_tokens = check_positions(predict, text.shape[1]) if len(predict) else []
    log_prior = model.memory_prior.log()

    with pyro.plate("sequence", len(text), dim=-1):
        # Outside the Markov loop: what is sampled there is never recycled.
        memory = [latent(f"memory_{j}", log_prior[j - 1]) for j in range(1, 1 + model.n_cells)]

        def read(state: Tensor) -> tuple[Tensor, Tensor]:
            cell, value = model.cell_of_state[state], memory[0]
            for j, held in enumerate(memory[1:], start=1):
                value = torch.where(cell == j, held, value)
            return value, state

        sample_chain(model, text, rows, latent_tokens, read)
