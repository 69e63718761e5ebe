"""The hidden Markov model as a Pyro program.

Sites, all under ``pyro.plate("sequence", B, dim=-1)``:

    state_0             H₀ ∼ π₀, silent
    prompt_state_l      the hidden state of prompt token l = 1..L; ``prompt_l`` is its factor u_l[h]
    state_t, token_t    H_t ∼ A[H_{t−1},·] and X_t ∼ W[H_t,·], t = 1..T; column i (from 0) of the tokens is token_{i+1}

Source: Wei, Xie & Ma (2021), §2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import pyro
from pyro import poutine
from pyro.distributions import Categorical
from pyro.poutine.runtime import InferDict
from torch import BoolTensor, Tensor

from ppl_hmm.base import foreign
from ppl_hmm.base.tokens import MASK, as_tokens
from ppl_hmm.inference.rows import check_positions, model_prompt
from ppl_hmm.models import HMM
from ppl_hmm.models.kinds import Model, Prompt, Text

_ENUMERATE: InferDict = {"enumerate": "parallel"}


def hmm_program(
    model: HMM, tokens: Text, *, lengths: Text | None = None, prompt: Prompt | None = None, predict: Sequence[int] = ()
) -> None:
    """Run the Pyro program of a hidden Markov model with fixed parameters, whose latents are marked for enumeration.

    For ``TraceEnum_ELBO(max_plate_nesting=1)`` with an empty guide, and ``infer_discrete(first_available_dim=-2)``.

    Parameters
    ----------
    model
        A single model: K states, V tokens.
    tokens
        (B,T) integers 0..V−1, or ``MASK`` (−1) where nothing is observed: those sites are masked out.
    lengths
        (B,): later positions count as ``MASK``.
    prompt
        :class:`~ppl_hmm.SoftPrompt` or rows (L,K) of likelihoods, put before the text.
    predict
        Positions (0-based, over the text) whose token is latent instead of observed, whatever ``tokens`` holds there.

    Raises
    ------
    InvalidInput
        A batch of models; tokens, lengths, prompt or positions that do not fit the model.

    See Also
    --------
    ppl_hmm.memory_program : The program of a model with a memory.
    ppl_hmm.CategoricalHMM : The law of a text as one Pyro distribution.
    ppl_hmm.log_likelihood : The same evidence by exact inference, without enumeration.

    Notes
    -----
    Every call validates its arguments. Cost under enumeration: tensors of B·K² entries a step, B·K·V where predicted.

    Examples
    --------
    >>> from ppl_hmm import HMM, hmm_program
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> from pyro.infer import TraceEnum_ELBO
    >>> elbo = TraceEnum_ELBO(max_plate_nesting=1)
    >>> round(-elbo.loss(hmm_program, lambda *arguments: None, model, [[0, 1]]), 4)  # log P(x)
    -1.7504
    """
    foreign.require(model, HMM, "model of hmm_program", "an HMM")
    model.require_single("hmm_program")
    text = as_tokens(tokens, model.vocabulary_size, lengths=lengths, device=model.device)
    rows = None if prompt is None else model_prompt(model, prompt)
    latent_tokens = check_positions(predict, text.shape[1]) if len(predict) else []

    with pyro.plate("sequence", len(text), dim=-1):
        sample_chain(model, text, rows, latent_tokens, read=lambda state: (state,))


def sample_chain(
    model: Model,
    text: Tensor,
    rows: Tensor | None,
    latent_tokens: Sequence[int],
    read: Callable[[Tensor], tuple[Tensor, ...]],
) -> None:
    """Sample the sites of states, prompt and tokens, inside the plate; the arguments are checked.

    ``read`` maps a state to the index of its rows: ``emission[read(state)]`` (…,V) and ``rows[l][read(state)]`` (…).
    """
    # Logits, because ``probs`` would clamp exact zeros.
    log_initial, log_transition, log_emission = model.initial.log(), model.transition.log(), model.emission.log()
    log_rows = () if rows is None else rows.log()

    state = latent("state_0", log_initial)
    # One Markov chain through prompt and text: enumeration dimensions are recycled only within one loop.
    for t in pyro.markov(range(1 - len(log_rows), 1 + text.shape[1])):
        if t < 1:
            token = t + len(log_rows)
            state = latent(f"prompt_state_{token}", log_transition[state])
            pyro.factor(f"prompt_{token}", log_rows[token - 1][read(state)])
        else:
            state = latent(f"state_{t}", log_transition[state])
            if t - 1 in latent_tokens:
                latent(f"token_{t}", log_emission[read(state)])
            else:
                _observed(f"token_{t}", log_emission[read(state)], text[:, t - 1])


def latent(name: str, logits: Tensor) -> Tensor:
    """Mark a latent for enumeration. One with a single value is known, and Pyro has no dimension for it: observe it."""
    known = None if logits.shape[-1] > 1 else logits.new_zeros(logits.shape[:-1]).long()
    return pyro.sample(name, Categorical(logits=logits), obs=known, infer=_ENUMERATE)


def _observed(name: str, logits: Tensor, tokens: Tensor) -> None:
    """Observe tokens (B,); where they are ``MASK`` the site is masked out, and token 0 only stands in."""
    with poutine.mask(mask=cast(BoolTensor, tokens != MASK)):
        pyro.sample(name, Categorical(logits=logits), obs=tokens.clamp(min=0))
