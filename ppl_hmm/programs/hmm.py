"""The hidden Markov model as a Pyro program.

Sites, all under ``pyro.plate("sequence", B, dim=-1)``:

    state_0             H₀ ∼ π₀, silent
    prompt_state_l      the hidden state of prompt token l = 1..L; ``prompt_l`` is its factor u_l[h]
    state_t, token_t    H_t ∼ A[H_{t−1},·] and X_t ∼ W[H_t,·], t = 1..T; column i (from 0) of the tokens is token_{i+1}

With a prior in place of a model, the parameters are sites in front of the plate: :mod:`ppl_hmm.programs.laws`. Summed,
the states and tokens are one site ``tokens``, whose law is a :class:`~ppl_hmm.CategoricalHMM`.

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
from ppl_hmm.errors import InvalidInput
from ppl_hmm.inference.rows import check_positions, model_prompt
from ppl_hmm.models import HMM
from ppl_hmm.models.kinds import Model, Prompt, Text
from ppl_hmm.programs.distribution import CategoricalHMM
from ppl_hmm.programs.laws import Groups, Laws, sample_laws
from ppl_hmm.programs.priors import DirichletRows, HMMPrior

_ENUMERATE: InferDict = {"enumerate": "parallel"}


def hmm_program(
    model: HMM | HMMPrior,
    tokens: Text,
    *,
    lengths: Text | None = None,
    prompt: Prompt | None = None,
    predict: Sequence[int] = (),
    summed: bool = False,
    groups: Groups | None = None,
    group_concentration: float | Tensor | None = None,
) -> None:
    """Run the Pyro program of a hidden Markov model, whose latent states are marked for enumeration.

    For ``TraceEnum_ELBO(max_plate_nesting=1)``, ``NUTS(…, max_plate_nesting=1)``, ``Predictive`` and
    ``infer_discrete(first_available_dim=-2)``.

    Parameters
    ----------
    model
        A single model: K states, V tokens. Or an :class:`~ppl_hmm.HMMPrior`: then ``initial``, ``transition`` and
        ``emission`` are sites of the program, drawn from it.
    tokens
        (B,T) integers 0..V−1, or ``MASK`` (−1) where nothing is observed: those sites are masked out.
    lengths
        (B,): later positions count as ``MASK``.
    prompt
        :class:`~ppl_hmm.SoftPrompt` or rows (L,K) of likelihoods, put before the text.
    predict
        Positions (0-based, over the text) whose token is latent instead of observed, whatever ``tokens`` holds there.
    summed
        Sum the states out by exact inference: one site ``tokens`` in place of those of states and tokens. The density
        of the parameters is the same, and the gradient faster.
    groups, group_concentration
        The group of each text (B,), integers from 0, and how near the laws of a group are to the shared ones: its rows
        ``group_transition`` and so on ∼ Dirichlet(group_concentration · the shared row). Of a prior only.

    Raises
    ------
    InvalidInput
        A batch of models; tokens, lengths, prompt, positions or groups that do not fit; a prompt or positions to
        predict where states are summed out.

    See Also
    --------
    ppl_hmm.HMMPrior : Priors of the parameters.
    ppl_hmm.memory_program : The program of a model with a memory.
    ppl_hmm.CategoricalHMM : The law of a text as one Pyro distribution.
    ppl_hmm.log_likelihood : The same evidence by exact inference, without enumeration.

    Notes
    -----
    Every call validates its arguments. Cost under enumeration: tensors of B·K² entries a step, B·K·V where predicted.

    Examples
    --------
    >>> from ppl_hmm import HMM, HMMPrior, hmm_program
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> from pyro.infer import TraceEnum_ELBO
    >>> elbo = TraceEnum_ELBO(max_plate_nesting=1)
    >>> round(-elbo.loss(hmm_program, lambda *arguments: None, model, [[0, 1]]), 4)  # log P(x)
    -1.7504

    Unknown parameters, by Pyro's NUTS:

    >>> from pyro.infer import MCMC, NUTS
    >>> chain = MCMC(NUTS(hmm_program, max_tree_depth=3), num_samples=2, warmup_steps=2, disable_progbar=True)
    >>> chain.run(HMMPrior.symmetric(2, 2), [[0, 1, 1], [0, 0, 0]], summed=True)
    >>> {name: tuple(draws.shape) for name, draws in sorted(chain.get_samples().items())}
    {'emission': (2, 2, 2), 'initial': (2, 2), 'transition': (2, 2, 2)}
    """
    foreign.require(model, (HMM, HMMPrior), "model of hmm_program", "an HMM, or an HMMPrior")
    text, rows, latent_tokens = checked(model, "hmm_program", tokens, lengths, prompt, predict, summed)
    laws = sample_laws(model, len(text), groups, group_concentration)
    with pyro.plate("sequence", len(text), dim=-1):
        if summed:
            _observe_sum(laws, text)
        else:
            sample_chain(laws, text, rows, latent_tokens, read=lambda state: (state,))


def checked(
    model: Model | DirichletRows,
    of: str,
    tokens: Text,
    lengths: Text | None,
    prompt: Prompt | None,
    predict: Sequence[int],
    summed: bool,
) -> tuple[Tensor, Tensor | None, list[int]]:
    """Return checked text (B,T), rows of the prompt, and positions to predict."""
    model.require_single(of)
    text = as_tokens(tokens, model.vocabulary_size, lengths=lengths, device=model.device)
    rows = None
    if prompt is not None:
        rows = model_prompt(model.mean() if isinstance(model, DirichletRows) else model, prompt)
    latent_tokens = check_positions(predict, text.shape[1]) if len(predict) else []
    if summed and (rows is not None or latent_tokens):
        what = "positions to predict" if latent_tokens else "a prompt"
        raise InvalidInput(
            f"{of}(summed=True)", "text alone", what, "leave summed out: parameters have the same sites in both forms"
        )
    return text, rows, latent_tokens


def sample_chain(
    laws: Laws,
    text: Tensor,
    rows: Tensor | None,
    latent_tokens: Sequence[int],
    read: Callable[[Tensor], tuple[Tensor, ...]],
) -> None:
    """Sample the sites of states, prompt and tokens, inside the plate; the arguments are checked.

    ``read`` maps a state to the index of its rows: ``emission[read(state)]`` (…,V) and ``rows[l][read(state)]`` (…).
    """
    # Logits, because ``probs`` would clamp exact zeros.
    log_initial, log_transition, log_emission = laws.initial.log(), laws.transition.log(), laws.emission.log()
    log_rows = () if rows is None else rows.log()
    group = laws.of_text

    state = latent("state_0", log_initial[group])
    # One Markov chain through prompt and text: enumeration dimensions are recycled only within one loop.
    for t in pyro.markov(range(1 - len(log_rows), 1 + text.shape[1])):
        if t < 1:
            token = t + len(log_rows)
            state = latent(f"prompt_state_{token}", log_transition[*group, state])
            pyro.factor(f"prompt_{token}", log_rows[token - 1][read(state)])
        else:
            state = latent(f"state_{t}", log_transition[*group, state])
            if t - 1 in latent_tokens:
                latent(f"token_{t}", log_emission[*group, *read(state)])
            else:
                _observed(f"token_{t}", log_emission[*group, *read(state)], text[:, t - 1])


def _observe_sum(laws: Laws, text: Tensor) -> None:
    """Observe texts (B,T) under the law that sums over their states, inside the plate."""
    initial, transition, emission = (part.log() for part in laws.each_text[:3])
    observation = Categorical(logits=emission.unsqueeze(-3))
    pyro.sample("tokens", CategoricalHMM(initial, transition.unsqueeze(-3), observation), obs=text)


def latent(name: str, logits: Tensor) -> Tensor:
    """Mark a latent for enumeration. One with a single value is known, and Pyro has no dimension for it: observe it."""
    known = None if logits.shape[-1] > 1 else logits.new_zeros(logits.shape[:-1]).long()
    return pyro.sample(name, Categorical(logits=logits), obs=known, infer=_ENUMERATE)


def _observed(name: str, logits: Tensor, tokens: Tensor) -> None:
    """Observe tokens (B,); where they are ``MASK`` the site is masked out, and token 0 only stands in."""
    with poutine.mask(mask=cast(BoolTensor, tokens != MASK)):
        pyro.sample(name, Categorical(logits=logits), obs=tokens.clamp(min=0))
