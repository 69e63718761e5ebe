"""A recurrent network that reads text from left to right, all its states kept."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ppl_hmm.base.randomness import CPU


class Stream(nn.Module):
    """Layers of gated recurrent units over embeddings (B,T,width); each begins in a state that is learned."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.GRU(width, width, batch_first=True) for _ in range(layers))
        self.start = nn.Parameter(torch.zeros(layers, width, device=CPU))

    def forward(self, inputs: Tensor, start: Tensor | None = None) -> list[Tensor]:
        """Return the states (B,T+1,width) of each layer after 0..T inputs, from states (layers,B,width)."""
        if start is None:
            start = self.start[:, None].expand(-1, len(inputs), -1)
        states = []
        for layer, first in zip(self.layers, start, strict=True):
            if inputs.shape[1]:
                inputs = layer(inputs, first[None].contiguous())[0]
            states.append(torch.cat([first[:, None], inputs], dim=1) if inputs.shape[1] else first[:, None])
        return states

    def after(self, inputs: Tensor) -> Tensor:
        """Return the states (layers,B,width) of all layers after the last input."""
        return torch.stack([states[:, -1] for states in self(inputs)])
