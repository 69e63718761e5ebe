"""Masked conditionals of one text after many prompts, whose rows of likelihoods they are differentiable in.

A prompt acts on what enters the text from the left alone (:class:`Entering`). The messages from the right
(:class:`Behind`) depend on no prompt: they are computed once, and each prompt costs a pass over its own rows and over
the text before the position.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ppl_hmm.exact import chain, mixture
from ppl_hmm.exact.algebra import LINEAR
from ppl_hmm.exact.configurations import select_rows
from ppl_hmm.exact.mixture import Block, MemoryText
from ppl_hmm.exact.recursion import Chain, forward
from ppl_hmm.exact.underflow import Floor, Watch, cancels

Rows = Float[Tensor, "R P M L K"]  # of R prompts of L tokens


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
    """A text as the chains of all its C memories."""

    text: MemoryText
    block: Block
    emission: Float[Tensor, "P C K V"]  # what each state emits under each memory

    @classmethod
    def of(cls, text: MemoryText, n_tokens: int) -> Encoded:
        """Return the text's chains; the first ``n_tokens`` rows of its table are the tokens."""
        block = mixture.block_of(text, range(text.n_memories))
        tables = block.chain.table.unflatten(1, (text.n_memories, -1))
        return cls(text, block, tables[:, :, :n_tokens].mT)


@dataclasses.dataclass(frozen=True, eq=False)
class Entering:
    """What enters a position from the left, after R prompts under C memories; #B = 1 where all sequences share it."""

    law: Float[Tensor, "P R C #B K"]  # of the hidden state there
    log_weight: Float[Tensor, "P R C #B"]  # log P(M, prompt, text before); once M is impossible, the last value before
    lost: Bool[Tensor, "P R C #B"]  # by the underflow rule


@dataclasses.dataclass(frozen=True, eq=False)
class Behind:
    """The message after a position, normalised, and the logarithm of its scale."""

    message: Float[Tensor, "P C B K"]
    log_scale: Float[Tensor, "P C B"]


def entering(encoded: Encoded, rows: Rows, last: int) -> list[Entering]:
    """Return what enters each position 0..last from the left. Cost O(R·C·L·K²), and O(R·C·B·last·K²) if last > 0."""
    own, n_prompts, n_memories = encoded.block.chain, len(rows), len(encoded.block.memories)
    # R prompts under C memories are R·C sequences of likelihood rows, all different.
    prompts = select_rows(rows.mT, encoded.text.cell_of_state, encoded.block.memories).mT  # (R,P,C,L,K)
    prompts = prompts.transpose(0, 1).flatten(1, 3)
    numbers = torch.arange(prompts.shape[1], device=rows.device).view(1, n_prompts * n_memories, -1)
    of_prompts = Chain(own.initial, own.transition, prompts, numbers.expand(len(own.ids), -1, -1))

    floor = Floor.of(own.transition, torch.cat([own.table, prompts], dim=1))
    watch = Watch(floor, torch.zeros(of_prompts.ids.shape[:2], dtype=torch.bool, device=rows.device))
    law = own.initial[:, None].expand(-1, n_prompts * n_memories, -1)
    watch.law(law)
    start = _Reached(law, encoded.block.log_prior.repeat(1, n_prompts), watch.lost)
    *_, after_prompt = start, *_read(of_prompts, start, floor)
    reached = iter([after_prompt])
    if last > 0:
        n_sequences = encoded.text.ids.shape[1]
        each = _Reached(*(part.repeat_interleave(n_sequences, dim=1) for part in after_prompt))
        of_text = own.with_ids(own.ids[..., :last].repeat(1, n_prompts, 1))
        reached = itertools.chain(reached, _read(of_text, each, floor))

    def unfold(part: Tensor) -> Tensor:
        return part.view(len(own.ids), n_prompts, n_memories, -1, *part.shape[2:])

    return [Entering(unfold(law @ own.transition), unfold(weight), unfold(lost)) for law, weight, lost in reached]


class _Reached(NamedTuple):
    """Where N sequences are after some rows: as :class:`Entering`, before the next transition."""

    law: Float[Tensor, "P N K"]
    log_weight: Float[Tensor, "P N"]
    lost: Bool[Tensor, "P N"]


def _read(text: Chain, start: _Reached, floor: Floor) -> Iterator[_Reached]:
    """Yield where sequences are after each row of their text."""
    watch, log_weight = Watch(floor, start.lost), start.log_weight
    for _, law, total in forward(LINEAR, text, start.law):
        watch.law(law)
        # What the law was divided by: nothing where it is impossible.
        log_weight = log_weight + torch.where(total > 0, total, 1)[..., 0].log()
        yield _Reached(law, log_weight, watch.lost)


def behind(encoded: Encoded, positions: Sequence[int]) -> list[Behind]:
    """Return the messages after positions. Cost O(C·B·T·K²)."""
    found = chain.messages_at(encoded.block.chain, positions)
    messages, log_scales = (encoded.block.unfold(part) for part in found)
    return [Behind(messages[..., i, :], log_scales[..., i]) for i in range(len(positions))]


def conditionals(
    encoded: Encoded, rows: Rows, left: Entering, right: Behind, position: int
) -> Float[Tensor, "R P B V"]:
    """Return G = Σ_M P(M | context) Wᵀ cavity at a position, the cavity ∝ law · message; zeros if it is impossible.

    Differentiable in the rows of prompts, but for lost contexts, whose gradient is zero.
    """
    joint = _joint(encoded, left, right)
    total = joint.sum(-1, keepdim=True)
    lost = cancels(total[..., 0])
    if left.lost.any():
        lost = lost | left.lost.any(2).transpose(0, 1)
    law = joint / torch.where(total > 0, total, 1)
    if lost.any():
        law = law.masked_scatter(lost[..., None], _in_logarithms(encoded, rows, lost, position))
    return law


def _joint(encoded: Encoded, left: Entering, right: Behind) -> Float[Tensor, "R P B V"]:
    """Return the conditionals up to a factor."""
    n_prompts = left.law.shape[1]
    if left.law.shape[2] == left.law.shape[3] == 1:
        # The same for all sequences: one product (B,K)·(K,R·V) for each model.
        weights = left.law[:, :, 0].mT * encoded.emission  # (P,R,K,V)
        joint = right.message[:, 0] @ weights.transpose(1, 2).flatten(2)
        # Each text's conditionals side by side: what reads them takes half to a quarter of the time.
        return joint.unflatten(-1, (n_prompts, -1)).permute(2, 0, 1, 3).contiguous()
    log_joint, limits = left.log_weight + right.log_scale[:, None], torch.finfo(left.law.dtype)  # (P,R,C,B)
    possible = (left.law.detach() > 0).any(-1)
    top = torch.where(possible, log_joint, -torch.inf).amax(2, keepdim=True).clamp(min=limits.min)
    # A memory that is impossible adds to the derivative alone: a law of zeros, of any weight.
    weight = (log_joint - top).clamp(max=math.log(limits.max) / 2).exp()
    cavity = left.law * right.message[:, None] * weight[..., None]  # (P,R,C,B,K)
    return (cavity @ encoded.emission[:, None]).sum(2).transpose(0, 1)


@torch.no_grad()
def _in_logarithms(encoded: Encoded, rows: Rows, lost: Bool[Tensor, "R P B"], position: int) -> Float[Tensor, "N V"]:
    """Return the conditionals of the N lost contexts: near underflow, or impossible."""
    prompt, model, sequence = lost.nonzero(as_tuple=True)
    text, n_prompt = encoded.text, rows.shape[3]
    table = torch.cat([text.table[model], rows[prompt, model]], dim=2)
    prompt_ids = text.table.shape[2] + torch.arange(n_prompt, device=rows.device).expand(len(model), -1)
    ids = torch.cat([prompt_ids, text.ids[model, sequence]], dim=-1)[:, None]
    picked = MemoryText(
        text.memory_prior[model], text.cell_of_state[model], text.initial[model], text.transition[model], table, ids
    )
    return mixture.conditionals(picked, [n_prompt + position], encoded.emission.shape[-1])[:, 0, 0]
