"""Theorem P: a soft prompt that makes a task recoverable, built from the model.

L prompt tokens, then the mask, then text. The prompt decides the law q that enters the mask, and nothing else: it
reaches exactly q = vᵀA with v ≥ 0 and supp v ⊆ supp π₀Aᴸ. With S = supp q, a head recovers the task if

    supp(π₀∘μ) ⊆ S   and   c = π₀∘μ/q on S lies in the column space of W[S],

so a good prompt enters the states that the task needs and few others. Two searches propose v:

- *covers*: v uniform on a set B whose transitions cover supp(π₀∘μ), W[S] having independent rows; of all covers the
  one whose W[S] has the largest smallest singular value, by branch and bound;
- *aliases*: states with equal rows of W cannot be told apart by a head, but a task that treats them alike up to scale
  needs only q ∝ |π₀∘μ| among them: a mixed-integer programme for v with the fewest distinct rows in S.

Single states are tried as well: a transition of low rank may ask for less than the condition does.

Source: Wei, Xie & Ma (2021), Assumption 3.5 and Theorem 3.6 (u = 1_B); residual form, weights and L > 1 are ours.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor

from ppl_hmm.base.quiet import stdout_to_stderr
from ppl_hmm.errors import at_least
from ppl_hmm.exact.support import possible_states
from ppl_hmm.models import HMM
from ppl_hmm.models.kinds import Text
from ppl_hmm.recoverability.arguments import require_numbers, require_pair
from ppl_hmm.recoverability.bilinear import BilinearForm
from ppl_hmm.recoverability.certificate import RESIDUAL_TOLERANCE
from ppl_hmm.recoverability.entering import (
    prompt_to,
    smallest_row_singular_value,
    task_targets,
    transparent_prompt,
)
from ppl_hmm.recoverability.head import head_certificate
from ppl_hmm.recoverability.linear import HeadCertificate
from ppl_hmm.recoverability.refutation import TOLERANCE, refute_prompts
from ppl_hmm.recoverability.search import Start, find_prompt
from ppl_hmm.tasks import PosteriorTask, require_uncertain

#: Sets of states that the search for covers looks at, at most; it visits all of them in practice (K in the tens).
COVER_LIMIT = 20_000
#: Seconds that a search and a refutation for texts may take, by default.
SECONDS = 10.0
_SEARCH_SHARE = 0.5  # of the search
# Moves below these probabilities are left out when covers are sought; the certificate then counts them again. A state
# entered with probability 1e-12 costs the margin about as much, where refusing it may cost the cover.
_NEGLIGIBLE = (1e-15, 1e-12, 1e-9, 1e-6)
_ALIAS_TOLERANCE = 1e-12
_LARGEST_WEIGHT = 1e4  # of the mixed-integer programme, against a smallest of one


def prompt_certificate(
    model: HMM,
    task: PosteriorTask,
    tokens: Text | None = None,
    *,
    lengths: Text | None = None,
    prompt_length: int = 1,
    support_threshold: float = 0.0,
    tolerance: float = RESIDUAL_TOLERANCE,
    exact: bool = False,
    resolution: float = 0.0,
    seconds: float = SECONDS,
    seed: int = 0,
) -> HeadCertificate:
    """Return the certificate of Theorem P with the best prompt found, in its ``prompt`` and ``weights``.

    Parameters
    ----------
    model, task
        One model and one task of the same K.
    tokens, lengths
        Texts (B,T) to separate where the theorem says nothing: a prompt with a head is searched for them.
    prompt_length
        L ≥ 1. All tokens but the last are transparent (rows of ones); longer prompts only matter where π₀A has zeros.
    support_threshold
        δ ≥ 0: moves of probability at most δ, and states entered with probability at most δ, count as none.
    tolerance
        Largest relative residual that counts as solved.
    exact
        Whether to prove the condition of the prompt in rational arithmetic: as in :func:`~ppl_hmm.head_certificate`,
        of every prompt that is proposed until one is proved.
    resolution
        Margins of texts that matter: the search ends once all texts with larger ones are right.
    seconds, seed
        Of the search and, if it fails, of a refutation.

    Returns
    -------
    HeadCertificate
        ``'recoverable'`` is said of every text. With texts, ``'separates these texts'`` is said of them alone, by the
        prompt and the head in ``found``. ``'not recoverable'`` comes with a proof, ``refutation``: no prompt of any
        length will do, and ``refutation.tolerance`` is the margin that its texts exceed. Where the verdict is
        ``'undecided'``, ``found.resolution`` says down to which margin the best prompt is right.

    Raises
    ------
    InvalidInput
        Batches, different numbers of states, a length below one, a negative number; with texts, more than two
        classes or no decidable text.
    ImpossibleText
        A text of probability zero.

    See Also
    --------
    constructed_prompt : The prompt of a certificate whose condition holds.
    head_certificate : Of a given prompt, or none.
    refute_prompts : For texts alone.
    fit_prompt : A learned prompt, which may start from the one found.

    Notes
    -----
    Verdict ``'undecided'`` means that neither a prompt nor a proof was found. The search for covers is exact
    up to :data:`COVER_LIMIT` sets; each costs a singular value decomposition of at most V rows. The search for texts
    is sequential linear programming (:mod:`ppl_hmm.recoverability.search`); what it does not find,
    :func:`~ppl_hmm.refute_prompts` tries to refute.

    Examples
    --------
    >>> from ppl_hmm import PosteriorTask, example, head_certificate, prompt_certificate, random_hmm
    >>> model, task = example("aliased")
    >>> print(head_certificate(model, task).verdict, prompt_certificate(model, task).verdict)
    undecided recoverable
    >>> model, task = random_hmm("dirichlet", 4, 2, seed=0), PosteriorTask([[0, 0, 0, 0], [1, -1, 1, -1]])
    >>> texts = [[0, 0, 1], [1, 0, 0], [0, 1, 1]]
    >>> certificate = prompt_certificate(model, task, texts)
    >>> print(certificate.verdict, certificate.found.wrong)
    separates these texts []
    """
    at_least("prompt_length", prompt_length, 1)
    require_pair("prompt_certificate", model, task, HMM)
    require_uncertain("prompt_certificate", model, task)
    require_numbers(resolution=resolution, seconds=seconds)
    model, task = model.detach().to(torch.float64, "cpu"), task.detach().to(torch.float64, "cpu")
    best = _constructed(model, task, prompt_length, support_threshold, tolerance, exact)
    if tokens is None or best.recoverable:
        return best
    form = BilinearForm.of(model, task, tokens, lengths, prompt_length=prompt_length)
    starts = [] if best.prompt is None else [Start(best.prompt, best.weights.numpy())]
    began = time.monotonic()
    found = find_prompt(form, starts=starts, resolution=resolution, seconds=_SEARCH_SHARE * seconds, seed=seed)
    best, left = best.with_found(found), began + seconds - time.monotonic()
    if found.resolution <= resolution or left <= 0:
        return best
    least = max(resolution, TOLERANCE * float(task.scale))
    decision = refute_prompts(model, task, tokens, lengths=lengths, tolerance=least, seconds=left, seed=seed)
    return best if decision.refutation is None else best.with_refutation(decision.refutation)


def _constructed(
    model: HMM, task: PosteriorTask, prompt_length: int, support_threshold: float, tolerance: float, exact: bool
) -> HeadCertificate:
    """Return the certificate of the best prompt that is built from the model."""
    options: dict[str, Any] = {"support_threshold": support_threshold, "tolerance": tolerance, "exact": exact}
    best = head_certificate(model, task, transparent_prompt(model, prompt_length), **options)
    needed = (task_targets(model, task) != 0).any(0)
    reachable = possible_states(model.initial, model.transition, prompt_length)
    for weights in _proposals(model, task, needed, reachable, support_threshold):
        certificate = head_certificate(model, task, prompt_to(weights, model, prompt_length), **options)
        if _worth(certificate) > _worth(best):
            best = certificate
    return best


def _worth(certificate: HeadCertificate) -> tuple[bool, bool, float]:
    """Return what certificates are compared by: proved before certified before nearly solved."""
    solved = certificate.proof is not None and certificate.proof.solved
    return solved, certificate.recoverable, -certificate.residual


def _proposals(
    model: HMM, task: PosteriorTask, needed: Tensor, reachable: Tensor, threshold: float
) -> Iterator[Tensor]:
    """Yield weights v (K,) ≥ 0 on the reachable states."""
    seen = []
    for negligible in sorted({threshold, *(level for level in _NEGLIGIBLE if level > threshold)}):
        moves = (model.transition > negligible) & reachable[:, None]
        cover = best_cover(moves, needed, model.emission)
        if cover is not None and cover not in seen:
            seen.append(cover)
            weights = torch.zeros_like(model.initial)
            weights[cover] = 1.0
            yield weights
    weights = _alias_weights(model, task_targets(model, task), reachable)
    if weights is not None:
        yield weights
    yield from torch.eye(model.n_states, dtype=model.dtype, device=model.device)[reachable]


def best_cover(moves: Tensor, needed: Tensor, emission: Tensor) -> list[int] | None:
    """Return states B whose moves cover the needed ones and whose W[S] is best conditioned; None if there is none.

    ``moves`` (K,K) says where each state can go. S is all that B can move to, and is ranked by the smallest singular
    value of W[S], which must be positive. As that value only falls when rows are added, a set whose value is no better
    than the best cover's is not extended (branch and bound), and some minimal cover is best.
    """
    best_value, best, n_looked_at = 0.0, None, 0

    def extend(chosen: list[int], covered: Tensor) -> None:
        nonlocal best_value, best, n_looked_at
        missing = (needed & ~covered).nonzero()[:, 0]
        if not len(missing) and chosen:
            best_value, best = smallest_row_singular_value(emission[covered]), list(chosen)
            return
        # Branch on the needed state with the fewest ways to enter it (on any state, if none is needed).
        ways = moves[:, missing].sum(0) if len(missing) else None
        candidates = (moves[:, missing[ways.argmin()]] if ways is not None else moves.any(1)).nonzero()[:, 0].tolist()
        unions = [covered | moves[state] for state in candidates]
        values = [smallest_row_singular_value(emission[union]) for union in unions]
        n_looked_at += len(candidates)
        for i in sorted(range(len(candidates)), key=lambda i: -values[i]):
            if values[i] > best_value and n_looked_at <= COVER_LIMIT:
                extend([*chosen, candidates[i]], unions[i])

    extend([], torch.zeros_like(needed))
    return best


def _alias_weights(model: HMM, targets: Tensor, reachable: Tensor) -> Tensor | None:
    """Return v (K,) with vᵀA ∝ |π₀∘μ| inside each group of aliased states that the task needs, or None.

    Mixed-integer programme: v_h ∈ [0, M]·z_h, z_h ∈ {0,1}; κ_g ≥ 1 for each needed group; (vᵀA)_h = κ_g |π₀∘μ|_h in
    it; y_g = 1 for each group that some chosen state moves to; minimise Σ y_g.
    """
    groups = alias_groups(model.emission)
    needed = [group for group in groups if (targets[:, group] != 0).any()]
    if not needed or all(len(group) == 1 for group in groups) or not _same_direction(targets, needed):
        return None
    transition = np.where(reachable[:, None].numpy(), model.transition.detach().numpy(), 0.0)
    size = targets.abs().amax(0).numpy() / float(targets.abs().max())
    n_states, n_needed, n_groups = len(transition), len(needed), len(groups)

    def block(v: np.ndarray, z: np.ndarray, kappa: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.concatenate([v, z, kappa, y], axis=1)

    def none(n_rows: int, n_columns: int) -> np.ndarray:
        return np.zeros((n_rows, n_columns))

    scale = np.zeros((n_states, n_needed))
    for g, group in enumerate(needed):
        scale[group, g] = size[group]
    bound_states = np.concatenate(needed)
    proportional = block(
        transition.T[bound_states],
        none(len(bound_states), n_states),
        -scale[bound_states],
        none(len(bound_states), n_groups),
    )
    identity = np.eye(n_states)
    used = block(identity, -_LARGEST_WEIGHT * identity, none(n_states, n_needed), none(n_states, n_groups))
    enters = np.array([[h, g] for h in range(n_states) for g, group in enumerate(groups) if transition[h, group].any()])
    rows = np.arange(len(enters))
    entered = none(len(enters), 2 * n_states + n_needed + n_groups)
    entered[rows, n_states + enters[:, 0]] = 1.0
    entered[rows, 2 * n_states + n_needed + enters[:, 1]] = -1.0
    with stdout_to_stderr():
        programme = milp(
            c=np.r_[np.zeros(2 * n_states + n_needed), np.ones(n_groups)],
            integrality=np.r_[np.zeros(n_states), np.ones(n_states), np.zeros(n_needed + n_groups)],
            bounds=Bounds(
                np.r_[np.zeros(2 * n_states), np.ones(n_needed), np.zeros(n_groups)],
                np.r_[
                    np.where(reachable.numpy(), _LARGEST_WEIGHT, 0),
                    np.ones(n_states),
                    np.full(n_needed, _LARGEST_WEIGHT),
                    np.ones(n_groups),
                ],
            ),
            constraints=[LinearConstraint(proportional, 0, 0), LinearConstraint(np.r_[used, entered], -np.inf, 0)],
        )
    if programme.x is None:
        return None
    # The solver meets the equations to 1e-6; the nearest point that meets them to rounding keeps its zeros.
    v = programme.x[:n_states]
    chosen = np.flatnonzero(v > 1e-6)
    unknowns = np.r_[v[chosen], programme.x[2 * n_states : 2 * n_states + n_needed]]
    equations = np.c_[transition.T[bound_states][:, chosen], -scale[bound_states]]
    unknowns = unknowns - np.linalg.pinv(equations) @ (equations @ unknowns)
    weights = torch.zeros_like(model.initial)
    weights[chosen] = torch.as_tensor(unknowns[: len(chosen)], dtype=weights.dtype, device=weights.device).clamp(min=0)
    return weights if weights.any() else None


def alias_groups(emission: Tensor) -> list[list[int]]:
    """Return the states grouped by equal rows of W, each group in increasing order."""
    distance = (emission[:, None] - emission[None]).abs().amax(-1)
    first = (distance <= _ALIAS_TOLERANCE).int().argmax(1)
    return [(first == state).nonzero()[:, 0].tolist() for state in first.unique()]


def _same_direction(targets: Tensor, groups: list[list[int]]) -> bool:
    """Say whether in each group the columns of ``targets`` (C,K) are non-negative multiples of one another."""
    for group in groups:
        columns = targets[:, group]
        sizes = columns.abs().amax(0)
        scaled = columns[:, sizes > 0] / sizes[sizes > 0]  # squares of tiny weights would vanish
        unit = scaled / scaled.norm(dim=0)
        if (unit.mT @ unit).min() < 1 - _ALIAS_TOLERANCE:
            return False
    return True
