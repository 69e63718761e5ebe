"""Chains with a long-term memory: the same recursion, once for each memory.

Given a memory the hidden states are a plain chain, whose likelihood rows depend on the values that its states read. So
a text under a memory is one more sequence of likelihood rows: C memories of B texts are C·B sequences over a table of
C·R rows, and :mod:`ppl_hmm.exact.chain` does the rest. What is left is to average over memories,

    P(· | x) = Σ_M P(M | x) P(· | x, M),    P(M | x) ∝ P(M) P(x | M),

in blocks, under a memory budget. A chain without memory is the case of one cell that can hold one value.
Source: Wei, Xie & Ma (2021), §4.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ppl_hmm.base.randomness import Laws
from ppl_hmm.exact import chain, paths
from ppl_hmm.exact.algebra import safe_log
from ppl_hmm.exact.average import Average
from ppl_hmm.exact.configurations import configurations, prior_of_cells, select_rows
from ppl_hmm.exact.recursion import Chain, chunks

#: Bytes of marginals that one block of memories may take (a single memory is never split).
BLOCK_BYTES = 1 << 26


@dataclasses.dataclass(frozen=True, eq=False)
class MemoryText:
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
    def only_chain(self) -> Chain:
        """The chain, where there is one memory only."""
        return Chain(self.initial, self.transition, self.table[:, 0], self.ids)

    def of_one(self, model: int, sequence: int) -> MemoryText:
        """Return one text under one model."""
        own = {field.name: getattr(self, field.name)[model, None] for field in dataclasses.fields(self)}
        return MemoryText(**own | {"ids": own["ids"][:, sequence, None]})

    @property
    def rows_of_text(self) -> Bool[Tensor, " R"]:
        """Whether each row of the table occurs in the text."""
        occurs = torch.zeros(self.table.shape[2], dtype=torch.bool, device=self.ids.device)
        occurs[self.ids.flatten()] = True
        return occurs

    def with_rows_of_text(self) -> MemoryText:
        """Return the same with a table of the rows that occur in the text, in their order."""
        occurs = self.rows_of_text
        return dataclasses.replace(self, table=self.table[:, :, occurs], ids=(occurs.cumsum(0) - 1)[self.ids])

    def values_read(self, memories: Int[Tensor, "C N"]) -> Int[Tensor, "P C K"]:
        """Return the value that each state reads under each memory."""
        return memories.to(self.ids.device).T[self.cell_of_state].movedim(-1, 1)

    def rows_read(self, memories: Int[Tensor, "C N"], ids: Int[Tensor, "P C S"]) -> Float[Tensor, "P C S K"]:
        """Return the likelihood rows of as many texts as memories, one text under each memory."""
        n_models, _, _, n_states = self.table.shape
        model = torch.arange(n_models, device=ids.device).view(-1, 1, 1, 1)
        state = torch.arange(n_states, device=ids.device)
        return self.table[model, self.values_read(memories)[:, :, None], ids[..., None], state]


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


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """Some memories (C,N) as chains: C·B sequences over a table of C·R rows, memory by memory."""

    memories: Int[Tensor, "C N"]
    n_values: int
    log_priors: Float[Tensor, "P C N"]  # log P(M_j) of each cell
    chain: Chain  # tables (P,C·R,K), ids (P,C·B,T)

    @property
    def log_prior(self) -> Float[Tensor, "P C"]:
        """Log P(M): a sum, as the product of the cells' probabilities may be no float."""
        return self.log_priors.sum(-1)

    def unfold(self, values: Tensor) -> Tensor:
        """Give results (P,C·B,…) their memories back: (P,C,B,…)."""
        return values.unflatten(1, (len(self.memories), -1))


@torch.no_grad()
def log_joint_memory(text: MemoryText) -> Float[Tensor, "P B C"]:
    """Return log P(M, x) of all C memories in the order of ``configurations``. Cost O(C·B·T·K²)."""
    logs = [block.log_prior[..., None] + block.unfold(chain.evidence_of(block.chain)) for block in blocks(text)]
    return torch.cat(logs, dim=1).transpose(1, 2)


def first_impossible(text: MemoryText) -> int:
    """Return the first row (0-based) that leaves an only sequence of an only model impossible in every memory.

    Only what is positive counts, so nothing underflows. Cost O(C·T·K²).
    """
    possible = torch.zeros(text.ids.shape[-1], dtype=torch.bool, device=text.ids.device)
    for block in blocks(text):
        remembered = block.log_prior[0] > -torch.inf
        moves, rows = (block.chain.transition[0] > 0).float(), block.chain.table[0] > 0
        law = (block.chain.initial > 0).expand(len(block.memories), -1)
        for t, ids in enumerate(block.chain.ids[0].T):
            law = (law.float() @ moves > 0) & rows[ids]
            possible[t] |= bool((law.any(-1) & remembered).any())
    return possible.tolist().index(False)


@torch.no_grad()
def forward_backward(text: MemoryText, positions: Sequence[int]) -> Mixture:
    """Return the law of the memory and of the states at ``positions`` (0-based row numbers, all different).

    Cost O(C·B·T·K²) time; memory of the result and of one block.
    """
    if text.n_memories == 1:
        result = chain.forward_backward(text.only_chain, positions)
        certain = (result.log_evidence > -torch.inf).to(result.initial)[..., None, None]
        memory_law = certain.expand(-1, -1, text.memory_prior.shape[1], -1).clone()
        return Mixture(result.log_evidence, result.initial, result.marginals, memory_law)
    initial, smoothed, memory = Average(), Average(), Average()
    for block in blocks(text):
        result = chain.forward_backward(block.chain, positions)
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
    emission = text.table[:, :, :n_tokens].transpose(1, 2).flatten(2).mT[:, None]  # (P,1,m·K,V)
    if text.n_memories == 1:
        return chain.forward_backward(text.only_chain, positions, own_token=False).marginals @ emission
    average = Average()
    for block in blocks(text):
        result = chain.forward_backward(block.chain, positions, own_token=False)
        assert result.log_contexts is not None  # cavities come with them
        log_weights = block.log_prior[..., None, None] + block.unfold(result.log_contexts)
        # A state's law goes to the value that it reads: (P,C,B,S,m·K).
        reads = torch.nn.functional.one_hot(text.values_read(block.memories), text.table.shape[1]).mT
        by_value = block.unfold(result.marginals)[..., None, :] * reads[:, :, None, None]
        average.add(log_weights, by_value.flatten(-2))
    return average.mean @ emission


@torch.no_grad()
def best_path(text: MemoryText, ends: Int[Tensor, "P B"] | None) -> BestPath:
    """Return the states and the memory of largest P(M, h₀..h_T, x), ties to the first; −1 after the end of a text.

    ``ends`` are numbers of rows, by default all. Cost O(C·B·T·K²).
    """
    best = None
    for block in blocks(text):
        path = paths.best_path(block.chain, None if ends is None else ends.repeat(1, len(block.memories)))
        log_joint = block.log_prior[..., None] + block.unfold(paths.log_joint(block.chain, path)[..., 0])
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
        draws = paths.sample_paths(text.only_chain, n_draws, generator)
        return draws, draws.new_zeros(*draws.shape[:3], text.memory_prior.shape[1])
    law = log_joint_memory(text).softmax(-1).flatten(0, 1)
    each_text = torch.arange(len(law), device=law.device).view(n_models, n_sequences, 1).expand(-1, -1, n_draws)
    drawn = Laws.of(law).draw(each_text, generator)  # (P,B,D)
    # The rows of the pairs of a text and a memory that were drawn: each draw goes by one.
    numbers = drawn * n_sequences + torch.arange(n_sequences, device=drawn.device)[:, None]
    pairs, place = numbers.unique(return_inverse=True)
    n_cells, n_values = text.memory_prior.shape[1:]
    memories = configurations(n_cells, n_values, pairs // n_sequences)
    ids = text.ids[:, pairs % n_sequences]  # (P,U,T)
    rows = text.rows_read(memories, ids)
    own = torch.arange(ids.shape[-1], device=ids.device) + place[..., None] * ids.shape[-1]
    drawn_chain = Chain(text.initial, text.transition, rows.flatten(1, 2), own.flatten(1, 2))
    draws = paths.sample_paths(drawn_chain, 1, generator)
    return draws.view(n_models, n_sequences, n_draws, -1), memories[place]


def blocks(text: MemoryText) -> Iterator[Block]:
    """Yield all memories in order, as many at a time as :data:`BLOCK_BYTES` allows for laws at all positions.

    Row numbers take as much as a few states, and a memory's rows are those that occur in the text: a block is never
    larger than a few times that, whatever is computed.
    """
    if text.n_memories > 1:
        text = text.with_rows_of_text()
    n_values, n_states = text.table.shape[1], text.table.shape[3]
    n_rows = max(text.ids.numel(), len(text.ids) * text.table.shape[2])
    size = n_rows * n_values * n_states * text.table.element_size()
    for chosen in chunks(text.n_memories, BLOCK_BYTES // size):
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
        n_values=n_values,
        log_priors=prior_of_cells(safe_log(text.memory_prior), memories),
        chain=Chain(text.initial, text.transition, rows.flatten(1, 2), ids.flatten(1, 2)),
    )
