"""Exact inference by Pyro's own enumeration of the model's program: the independent route.

The program is :func:`~ppl_hmm.programs.hmm.hmm_program`, or :func:`~ppl_hmm.programs.memory.memory_program` where
there is a memory. Nothing here shares a recursion with :mod:`ppl_hmm.exact`: Pyro contracts the program's factors
itself. It is slow, and meant for checking :mod:`ppl_hmm.inference.queries`. Conventions as there: silent H₀, position 0
is the first token as passed. Pyro's contractions lose terms below the smallest float beside the largest: a text all of
whose paths are such terms counts as impossible here, and not in :mod:`ppl_hmm.inference.queries`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from pyro.infer import TraceEnum_ELBO
from torch import Tensor
from torch.nn.functional import pad

from ppl_hmm.base.checks import require_possible
from ppl_hmm.base.tokens import MASK, as_tokens
from ppl_hmm.inference.queries import MemoryPosterior, Posterior
from ppl_hmm.inference.rows import check_positions, memory_arrays, model_prompt, require_kind
from ppl_hmm.models import HMM
from ppl_hmm.models.kinds import Model, Prompt, Text
from ppl_hmm.programs.hmm import hmm_program
from ppl_hmm.programs.memory import memory_program

Program = Callable[[Tensor], None]  # text (B,T) -> the model's sites


@torch.no_grad()
def posterior(model: Model, tokens: Text, *, prompt: Prompt | None = None, lengths: Text | None = None) -> Posterior:
    """Return what :func:`ppl_hmm.inference.queries.posterior` returns, by enumeration.

    Parameters
    ----------
    model
        A single :class:`~ppl_hmm.HMM` or :class:`~ppl_hmm.MemoryHMM`: K states, V tokens.
    tokens, prompt, lengths
        (B,T), (L,K) or (L,m,K), and (B,), as in :func:`ppl_hmm.inference.queries.posterior`.

    Raises
    ------
    InvalidInput, ImpossibleText
        Bad arguments, a batch of models, a memory with too many values; text of probability zero (which sequence).

    Notes
    -----
    Cost: L+T+1 contractions of the L+T steps, which Pyro may do as products of matrices: up to O(B·(L+T)²·K³) time,
    O(B·(L+T)·K²) memory; B runs of the program for the evidence. About 0.2 s for K = 3, T = 20, 5 s for T = 160.
    With a memory m^N times that, and N contractions more.
    """
    text, rows = _checked(model, tokens, lengths, prompt)
    program = _program(model, rows)
    log_evidence = _log_evidence(program, text, model.dtype)
    require_possible(log_evidence != -torch.inf, "sequence {}")
    states = _marginals(program, text, [f"state_{t}" for t in range(1 + text.shape[1])], model.dtype)
    possible = torch.ones_like(log_evidence, dtype=torch.bool)
    result = Posterior(log_evidence, states[:, 0], states[:, 1:], possible, names=model.names)
    if isinstance(model, HMM):
        return result
    cells = [f"memory_{j}" for j in range(1, 1 + model.n_cells)]
    return MemoryPosterior(**vars(result), memory=_marginals(program, text, cells, model.dtype))


@torch.no_grad()
def masked_conditionals(
    model: Model,
    tokens: Text,
    *,
    prompt: Prompt | None = None,
    positions: Sequence[int] | None = None,
    lengths: Text | None = None,
) -> Tensor:
    """Return G (B,positions,V): G_i(x)[v] = P(X_i=v | x_{-i}), by enumeration of the token at i as one more latent.

    Parameters and errors as in :func:`posterior`; what must be possible here is the context x_{-i}.

    Notes
    -----
    Cost: for each position, that of :func:`posterior`.
    """
    text, rows = _checked(model, tokens, lengths, prompt)
    conditionals = []
    for i in check_positions(positions, text.shape[1]):
        program = _program(model, rows, predict=(i,))
        possible = _log_evidence(program, text, model.dtype) != -torch.inf
        require_possible(possible, f"context of position {i} in sequence {{}}")
        conditionals.append(_marginals(program, text, [f"token_{1 + i}"], model.dtype)[:, 0])
    return torch.stack(conditionals, dim=1)


def _checked(model: Model, tokens: Text, lengths: Text | None, prompt: Prompt | None) -> tuple[Tensor, Tensor | None]:
    """Return checked text (B,T) and prompt rows, before Pyro's tracing, which rewrites a program's errors."""
    require_kind("model", model)
    model.require_single("enumeration")
    memory_arrays(model)  # refuses a memory that no route sums over
    text = as_tokens(tokens, model.vocabulary_size, lengths=lengths, device=model.device)
    return text, None if prompt is None else model_prompt(model, prompt)


def _program(model: Model, rows: Tensor | None, predict: Sequence[int] = ()) -> Program:
    if isinstance(model, HMM):
        return partial(hmm_program, model, prompt=rows, predict=predict)
    return partial(memory_program, model, prompt=rows, predict=predict)


def _marginals(program: Program, text: Tensor, sites: Iterable[str], dtype: torch.dtype) -> Tensor:
    """Return the marginals (B,sites,values) of latent sites given text (B,T)."""
    # Pyro squeezes leading dimensions of size one from its marginals: an unobserved sequence, added last, keeps them.
    padded = pad(text, (0, 0, 0, 1), value=MASK)
    marginals = TraceEnum_ELBO(max_plate_nesting=1).compute_marginals(program, _empty_guide, padded)
    known = torch.ones(len(padded), 1, dtype=dtype, device=text.device)  # a site of one value has no marginal
    return torch.stack([marginals[site].probs if site in marginals else known for site in sites], dim=1)[:-1]


def _log_evidence(program: Program, text: Tensor, dtype: torch.dtype) -> Tensor:
    """Return log P(x) (B,), one sequence at a time: Pyro's loss sums the plate."""
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    return text.new_tensor([-elbo.loss(program, _empty_guide, row[None]) for row in text], dtype=dtype)


def _empty_guide(text: Tensor) -> None:
    """Every latent of the program is enumerated; none is left to a guide."""
