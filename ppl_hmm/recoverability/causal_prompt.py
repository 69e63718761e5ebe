"""Causal Theorem P: a soft prompt after text, with which a head on the next-token law recovers a task.

One prompt token u ≥ 0 after the text gives the form c = A(u∘Nb), N = AW, in the filtered law. With any γ such that Aγ
solves the equations of :mod:`ppl_hmm.recoverability.filtered_margins`, a head recovers the task after u if

    u∘Nb_c = γ_c    for every class c.

Outside B, the states where some γ_c is not zero, u = 0 does it. On B let v = 1/u: N b_c = v∘γ_c with v > 0 is a linear
programme in v and the heads. So for a given γ it is decided whether there is such a prompt. Rows N[B] that are
independent need no weights, u = 1_B, which is Theorem P of Wei, Xie & Ma (2021) for the state of the next token, γ = μ.
Aliased states of B, with equal rows of N, need weights: v∘γ_c must be equal on them.

Where A is invertible and texts lead to all laws, γ is unique. Else, for two classes, all that is asked is that γ and Nb
agree in sign, and a mixed-integer programme finds such a γ on the fewest states; for more classes the smallest
γ is taken. A prompt of several tokens reaches more forms; none are searched. Ours.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ppl_hmm.models import HMM, SoftPrompt
from ppl_hmm.recoverability.causal import causal_on, checked_causal
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE
from ppl_hmm.recoverability.filtered_margins import Identity, margin_identities
from ppl_hmm.recoverability.head import refined_least_squares
from ppl_hmm.recoverability.linear import HeadCertificate
from ppl_hmm.recoverability.prompt_programmes import System, agreeing_form, alike_weights, smallest_forms
from ppl_hmm.tasks import PosteriorTask

# Entries of γ below this share of the largest are none, if the equations hold without them.
_NEGLIGIBLE = 1e-8


def causal_prompt_certificate(
    model: HMM, task: PosteriorTask, *, tolerance: float = RESIDUAL_TOLERANCE
) -> HeadCertificate:
    """Return the certificate of causal Theorem P with the best soft prompt found, in ``prompt`` and ``weights``.

    Parameters
    ----------
    model, task, tolerance
        As in :func:`causal_certificate`, and so are the errors.

    Returns
    -------
    HeadCertificate
        ``'recoverable'`` is said of every text, with ``prompt`` (1,K) after it.

    See Also
    --------
    causal_certificate : Without a prompt, or with a given template.
    prompt_certificate : Prompts in front of a masked reader's mask.

    Notes
    -----
    Linear programmes in C·K and K + C·V variables, or a mixed-integer one with 2K binary variables.

    Examples
    --------
    >>> from ppl_hmm import PosteriorTask, causal_certificate, causal_prompt_certificate, random_hmm
    >>> model = random_hmm("dirichlet", 6, 4, seed=0)
    >>> task = PosteriorTask.of_next_state([[0, 0, 0, 0, 0, 0], [1, -1, 0, 0, 0, 0]], model)
    >>> print(causal_certificate(model, task).verdict, causal_prompt_certificate(model, task).verdict)
    undecided recoverable
    """
    model, task = checked_causal("causal_prompt_certificate", model, task, tolerance)
    identities = margin_identities(model, task)
    best = None
    for row in _prompts(model, identities, tolerance):
        found = causal_on(identities, model, task, SoftPrompt(row[None].to(model.device)), tolerance)
        if best is None or found.residual < best.residual:
            best = found
        if best.recoverable:
            break
    assert best is not None  # the transparent prompt was tried
    return best


def _prompts(model: HMM, identities: list[Identity], tolerance: float) -> Iterator[Tensor]:
    """Yield prompt tokens u (K,): one that lets a step pass, 1_B, and weights on B."""
    transition, rows = model.transition.cpu(), (model.transition @ model.emission).cpu()
    yield torch.ones_like(transition[0])
    wanted = _forms(transition, rows, identities, tolerance)
    if wanted is None:
        return
    needed = (wanted != 0).any(0)
    yield needed.to(wanted)
    sizes = wanted[:, needed].abs().amax(0)
    weights = alike_weights(rows[needed].numpy(), (wanted[:, needed] / sizes).numpy())
    if weights is not None:
        row = torch.zeros_like(transition[0])
        row[needed] = sizes / torch.from_numpy(weights)
        yield row / row.max()


def _forms(transition: Tensor, rows: Tensor, identities: list[Identity], tolerance: float) -> Tensor | None:
    """Return γ (C,K) such that each Aγ_c solves its equations, on few states; None where none does."""
    systems = [System((each.read @ transition).numpy(), each.wanted.numpy()) for each in identities]

    def solved(start: Tensor, states: Tensor) -> Tensor | None:
        """Return the solution on some states that is nearest to a start, if there is one."""
        gamma = torch.where(states, start, 0.0)
        for form, identity in zip(gamma, identities, strict=True):
            matrix = (identity.read @ transition)[:, states]
            left = identity.wanted - matrix @ form[states]
            form[states] += refined_least_squares(matrix, left[None])[0]
            if identity.error(transition @ form) > tolerance:
                return None
        return gamma

    zeros = transition.new_zeros(len(identities), len(transition))
    least = solved(zeros, torch.ones_like(zeros[0], dtype=torch.bool))
    if least is None:
        return None
    few = least
    if not all(system.determined for system in systems):
        found = agreeing_form(systems[0], rows.numpy()) if len(systems) == 1 else smallest_forms(systems)
        few = least if found is None else torch.from_numpy(found)
    sizes = few.abs().amax(0)
    sparse = solved(few, sizes > _NEGLIGIBLE * sizes.max())
    return least if sparse is None else sparse
