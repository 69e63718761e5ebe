"""Chains with a long-term memory: the same recursion, once for each memory.

Given a memory the hidden states are a plain chain, whose likelihood rows depend on the values that its states read. So
a text under a memory is one more sequence of likelihood rows: C memories of B texts are C·B sequences over a table of
C·R rows, and :mod:`ppl_hmm.exact.chain` does the rest. What is left is to average over memories,

    P(· | x) = Σ_M P(M | x) P(· | x, M),    P(M | x) ∝ P(M) P(x | M),

in blocks, under a memory budget. A chain without memory is the case of one cell that can hold one value.
Source: Wei, Xie & Ma (2021), §4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ppl_hmm.exact import chain, paths, recursion
from ppl_hmm.exact.algebra import LOG, log_sum_exp, safe_log
from ppl_hmm.parameters.memory import configuration_prior, configurations, select_rows
from ppl_hmm.randomness import categorical

#: Bytes of marginals that one block of memories may take (a single memory is never split).
BLOCK_BYTES = 1 << 26


class MemoryText(NamedTuple):
    """Text (P,B,T) as row numbers, and what P memory-augmented chains make of it."""

    memory_prior: Float[Tensor, "P N M"]
    cell_of_state: Int[Tensor, "P K"]
    initial: Float[Tensor, "P K"]
    transition: Float[Tensor, "P K K"]
    table: Float[Tensor, "P M R K"]  # likelihood rows: R of them for each value of the cell that a state reads
    ids: Int[Tensor, "P B T"]

    @property
    def n_memories(self) -> int:
        """C = m^N."""
        return self.memory_prior.shape[2] ** self.memory_prior.shape[1]

    @property
    def only_chain(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The arguments of the functions of :mod:`ppl_hmm.exact.chain`, where there is one memory only."""
        return self.initial, self.transition, self.table[:, 0], self.ids


class Mixture(NamedTuple):
    """What one pass over all memories returns. ``marginals`` are zero rows where their condition is impossible."""

    log_evidence: Float[Tensor, "P B"]  # log P(x), natural logarithm; −inf for impossible text
    initial: Float[Tensor, "P B K"]  # P(H₀ | x)
    smoothed: Float[Tensor, "P B S K"]  # P(H_t | x)
    memory: Float[Tensor, "P B N M"]  # P(M_j | x)


class BestPath(NamedTuple):
    """The most probable memory and path of each text; arbitrary where the text is impossible."""

    states: Int[Tensor, "P B S"]  # h₀..h_T
    memory: Int[Tensor, "P B N"]
    log_joint: Float[Tensor, "P B"]  # log P(M, h₀..h_T, x)


class Block(NamedTuple):
    """Some memories (C,N) as chains: C·B sequences over a table of C·R rows, memory by memory."""

    memories: Int[Tensor, "C N"]
    log_prior: Float[Tensor, "P C"]
    initial: Float[Tensor, "P K"]
    transition: Float[Tensor, "P K K"]
    table: Float[Tensor, "P CR K"]
    ids: Int[Tensor, "P CB T"]

    @property
    def arrays(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The arguments of the functions of :mod:`ppl_hmm.exact.chain`."""
        return self.initial, self.transition, self.table, self.ids

    def unfold(self, values: Tensor) -> Tensor:
        """Give results (P,C·B,…) their memories back: (P,C,B,…)."""
        return values.unflatten(1, (len(self.memories), -1))


def log_evidence(text: MemoryText) -> Float[Tensor, "P B"]:
    """Return log P(x) in nats, −inf for impossible text, differentiable. Cost O(C·B·T·K²)."""
    if text.n_memories == 1:
        return chain.log_evidence(*text.only_chain)
    return log_sum_exp(log_joint_memory(text), dim=-1)


def log_joint_memory(text: MemoryText) -> Float[Tensor, "P B C"]:
    """Return log P(M, x) of all C memories in the order of ``configurations``, differentiable. Cost O(C·B·T·K²)."""
    logs = [block.log_prior[..., None] + block.unfold(chain.log_evidence(*block.arrays)) for block in blocks(text)]
    return torch.cat(logs, dim=1).transpose(1, 2)


def first_impossible(text: MemoryText) -> int:
    """Return the first row (0-based) that leaves an only sequence of an only model impossible in every memory."""
    possible = torch.zeros(text.ids.shape[-1], dtype=torch.bool, device=text.ids.device)
    for block in blocks(text):
        remembered = block.log_prior[0] > -torch.inf
        steps = recursion.forward(LOG, block.initial[:, None], *block.arrays[1:])
        totals = torch.stack([total[0, :, 0] for _, _, total in steps])
        possible |= ((totals > -torch.inf).cumprod(0).bool() & remembered).any(1)
    return possible.tolist().index(False)


@torch.no_grad()
def forward_backward(text: MemoryText, positions: Sequence[int]) -> Mixture:
    """Return the law of the memory and of the states at ``positions`` (0-based row numbers, all different).

    Cost O(C·B·T·K²) time; memory of the result and of one block.
    """
    if text.n_memories == 1:
        result = chain.forward_backward(*text.only_chain, positions)
        certain = (result.log_evidence > -torch.inf).to(result.initial)[..., None, None]
        memory_law = certain.expand(-1, -1, text.memory_prior.shape[1], -1).clone()
        return Mixture(result.log_evidence, result.initial, result.marginals, memory_law)
    initial, smoothed, memory = _Average(), _Average(), _Average()
    for block in blocks(text):
        result = chain.forward_backward(*block.arrays, positions)
        log_weights = block.log_prior[..., None] + block.unfold(result.log_evidence)
        values = torch.nn.functional.one_hot(block.memories, text.memory_prior.shape[2]).to(text.table)
        initial.add(log_weights, block.unfold(result.initial))
        smoothed.add(log_weights, block.unfold(result.marginals))
        memory.add(log_weights, values[None, :, None].expand(len(text.ids), -1, text.ids.shape[1], -1, -1))
    return Mixture(initial.log_total, initial.mean, smoothed.mean, memory.mean)


@torch.no_grad()
def conditionals(text: MemoryText, positions: Sequence[int], n_tokens: int) -> Float[Tensor, "P B S V"]:
    """Return G_i(x)[v] = P(X_i=v | x_{-i}) at ``positions`` for the first ``n_tokens`` rows of the table, the tokens.

    The token at i is left out of the memory's weight too: P(M | x_{-i}). Zero rows where the context is impossible.
    Cost O(C·B·(T·K² + positions·K·V)).
    """
    average = _Average()
    for block in blocks(text):
        result = chain.forward_backward(*block.arrays, positions, own_token=False)
        emission = block.table.unflatten(1, (len(block.memories), -1))[:, :, None, :n_tokens].mT  # (P,C,1,K,V)
        given_memory = block.unfold(result.marginals) @ emission
        if text.n_memories == 1:
            return given_memory[:, 0]
        assert result.log_contexts is not None  # cavities come with them
        average.add(block.log_prior[..., None, None] + block.unfold(result.log_contexts), given_memory)
    return average.mean


@torch.no_grad()
def best_path(text: MemoryText) -> BestPath:
    """Return the states and the memory of largest P(M, h₀..h_T, x), ties to the first. Cost O(C·B·T·K²)."""
    best = None
    for block in blocks(text):
        path = paths.best_path(*block.arrays)
        log_joint = block.log_prior[..., None] + block.unfold(paths.log_joint(*block.arrays, path)[..., 0])
        top, winner = log_joint.max(1)  # (P,B)
        states = torch.take_along_dim(block.unfold(path[:, :, 0]), winner[:, None, :, None], dim=1)[:, 0]
        found = BestPath(states, block.memories.to(winner.device)[winner], top)
        if best is None:
            best = found
            continue
        better = top > best.log_joint
        best = BestPath(
            torch.where(better[..., None], found.states, best.states),
            torch.where(better[..., None], found.memory, best.memory),
            torch.maximum(top, best.log_joint),
        )
    assert best is not None  # there is at least one memory
    return best


@torch.no_grad()
def sample_paths(
    text: MemoryText, n_draws: int, generator: torch.Generator
) -> tuple[Int[Tensor, "P B D S"], Int[Tensor, "P B D N"]]:
    """Return D draws of states h₀..h_T and of the memory from P(M, H₀..H_T | x); x must be possible.

    Cost O(C·B·T·K² + B·D·T·K²), and O(B·T·K·(K+D)) without a memory.
    """
    n_models, n_sequences, _ = text.ids.shape
    if text.n_memories == 1:
        draws = paths.sample_paths(*text.only_chain, n_draws, generator)
        return draws, draws.new_zeros(*draws.shape[:3], text.memory_prior.shape[1])
    # The tables of all memories, but no text under all of them: each draw goes by one.
    everything = block_of(text._replace(ids=text.ids[..., :0]), range(text.n_memories))
    law = log_joint_memory(text).softmax(-1)
    drawn = categorical(law[:, :, None].expand(-1, -1, n_draws, -1), generator)  # (P,B,D)
    ids = text.ids[:, :, None] + drawn[..., None] * text.table.shape[2]
    draws = paths.sample_paths(*everything.arrays[:3], ids.flatten(1, 2), 1, generator)
    return draws.view(n_models, n_sequences, n_draws, -1), everything.memories.to(drawn.device)[drawn]


def blocks(text: MemoryText) -> Iterator[Block]:
    """Yield all memories in order, as many at a time as :data:`BLOCK_BYTES` allows for marginals at all positions.

    Row numbers take as much as a few states, so a block is never larger than a few times that, whatever is computed.
    """
    size = text.ids.numel() * text.initial.shape[-1] * text.initial.element_size()
    for chosen in recursion.chunks(text.n_memories, BLOCK_BYTES // size):
        yield block_of(text, range(chosen.start, chosen.stop))


def block_of(text: MemoryText, chosen: range) -> Block:
    """Return the memories chosen by number as chains."""
    n_cells, n_values = text.memory_prior.shape[1:]
    memories = configurations(n_cells, n_values, chosen)
    rows = select_rows(text.table.mT, text.cell_of_state, memories).mT  # (P,C,R,K)
    offsets = rows.shape[2] * torch.arange(len(memories), device=text.ids.device)
    ids = text.ids[:, None] + offsets[:, None, None]
    return Block(
        memories=memories,
        log_prior=safe_log(configuration_prior(text.memory_prior, memories)),
        initial=text.initial,
        transition=text.transition,
        table=rows.flatten(1, 2),
        ids=ids.flatten(1, 2),
    )


class _Average:
    """Σ_c e^{w_c} v_c / Σ_c e^{w_c}, over terms that come in blocks; relative to the largest weight so far."""

    def __init__(self) -> None:
        self._top: Tensor | None = None

    def add(self, log_weights: Tensor, values: Tensor) -> None:
        """Add terms: weights (P,C,…), values (P,C,…) with further dimensions."""
        top = log_weights.amax(1)
        if self._top is None:
            self._top, self._total, self._sum = top, torch.zeros_like(top), torch.zeros_like(values[:, 0])
        new_top = torch.maximum(self._top, top)
        reference = new_top.clamp(min=torch.finfo(top.dtype).min)
        shrink = (self._top - reference).exp()
        weights = (log_weights - reference[:, None]).exp()
        self._total = self._total * shrink + weights.sum(1)
        trailing = [1] * (values.ndim - log_weights.ndim)
        self._sum *= shrink.reshape(*shrink.shape, *trailing)
        for weight, value in zip(weights.unbind(1), values.unbind(1), strict=True):
            self._sum.addcmul_(weight.reshape(*weight.shape, *trailing), value)
        self._top = new_top

    @property
    def mean(self) -> Tensor:
        """The weighted mean; zero where all weights are."""
        total = torch.where(self._total > 0, self._total, 1)
        return self._sum / total.reshape(*total.shape, *[1] * (self._sum.ndim - total.ndim))

    @property
    def log_total(self) -> Tensor:
        """Log Σ_c e^{w_c}; −inf where all weights are zero."""
        assert self._top is not None  # something was added
        return torch.where(self._total > 0, self._top + safe_log(self._total), -torch.inf)
