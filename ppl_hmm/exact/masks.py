"""Masked conditionals at a chain of masks in front of a text, from the message of the text alone.

Input (∅^J, x): with p_j = π₀A^j the law that enters the j-th mask and f the message of the text,

    G_j ∝ Wᵀ(p_j ∘ A^{J−j}f) = ((Aᵀ)^{J−j} diag(p_j) W)ᵀ f,

so that a text that was encoded with one mask in front gives its conditionals at any number of them by one matrix
product. With a memory the blocks of all memories are added, each weighed by P(M)·P(x | M).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ppl_hmm.exact import mixture, prompted
from ppl_hmm.exact.mixture import MemoryText
from ppl_hmm.exact.prompted import Behind, Encoded
from ppl_hmm.exact.underflow import cancels


@torch.no_grad()
def conditionals(encoded: Encoded, text: Behind, n_masks: int) -> Float[Tensor, "P B J V"]:
    """Return G at J masks in place of the one that the text begins with; zeros if the context is impossible.

    ``text`` are the messages behind that mask. Cost O(J·K²·V + B·K·J·V) under each memory.
    """
    blocks, lost = _blocks(encoded, n_masks)
    message = text.message
    if len(encoded.block.memories) > 1:
        message = message * _shares(encoded, text)[..., None]
    joint = (message @ blocks).sum(1).unflatten(-1, (n_masks, -1))  # (P,B,J,V)
    total = joint.sum(-1, keepdim=True)
    lost = lost | cancels(total[..., 0]).any(-1)
    law = joint / torch.where(total > 0, total, 1)
    if lost.any():
        law[lost] = _in_logarithms(encoded, lost, n_masks)
    return law


def _blocks(encoded: Encoded, n_masks: int) -> tuple[Float[Tensor, "P C K JV"], Bool[Tensor, "P 1"]]:
    """Return what the message is multiplied by, mask by mask, and whether some law of theirs underflows."""
    own, n_values = encoded.block.chain, encoded.text.table.shape[1]
    lost = torch.zeros(len(own.ids), 1, dtype=torch.bool, device=own.ids.device)
    blocks: list[Tensor] = []
    for n_before in range(n_masks):
        masks = own.initial.new_ones(1, len(own.ids), n_values, n_before, own.initial.shape[-1])
        (entered,) = prompted.entering(encoded, masks, 0)
        blocks = [own.transition.mT[:, None] @ block for block in blocks]
        blocks.append(entered.law[:, 0, :, 0, :, None] * encoded.emission)
        lost = lost | entered.lost.flatten(1).any(1, keepdim=True)
    return torch.cat(blocks, dim=-1), lost


def _shares(encoded: Encoded, text: Behind) -> Float[Tensor, "P C B"]:
    """Return P(M)·P(x | M) over the largest of each text."""
    log_joint = encoded.block.log_prior[..., None] + text.log_scale
    top = log_joint.amax(1, keepdim=True).clamp(min=torch.finfo(log_joint.dtype).min)
    return (log_joint - top).clamp(max=math.log(torch.finfo(log_joint.dtype).max) / 2).exp()


def _in_logarithms(encoded: Encoded, lost: Bool[Tensor, "P B"], n_masks: int) -> Float[Tensor, "N J V"]:
    """Return the conditionals of the N lost contexts: near underflow, or impossible."""
    model, sequence = lost.nonzero(as_tuple=True)
    text, ids = encoded.text, encoded.text.ids[model, sequence][:, None]
    picked = MemoryText(
        text.memory_prior[model],
        text.cell_of_state[model],
        text.initial[model],
        text.transition[model],
        text.table[model],
        torch.cat([ids[..., :1].expand(-1, -1, n_masks - 1), ids], dim=-1),
    )
    return mixture.conditionals(picked, range(n_masks), encoded.emission.shape[-1])[:, 0]
