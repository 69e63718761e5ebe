"""Recurrent networks of elementary operations, which ``torch.func.vmap`` can batch: it cannot batch ``nn.GRU``."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class UnrolledGRU(nn.Module):
    """The function of an ``nn.GRU`` in evaluation mode, with its parameters, on batches of sequences."""

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        for name, parameter in gru.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        self.layers, self.directions = gru.num_layers, 2 if gru.bidirectional else 1
        self.batch_first, self.bias, self.width = gru.batch_first, gru.bias, gru.hidden_size

    def forward(self, inputs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the outputs (B,T,D·H), or (T,B,D·H), and last states (L·D,B,H), as ``nn.GRU`` does.

        Cost O(L·D·T) operations. A sequence that is packed or has no batch dimension is refused.
        """
        if not isinstance(inputs, Tensor) or inputs.ndim != 3:
            raise NotImplementedError("packed or single sequences")
        sequence = inputs.transpose(0, 1) if self.batch_first else inputs  # (T,B,F)
        if state is None:
            state = sequence.new_zeros(self.layers * self.directions, sequence.shape[1], self.width)
        last = []
        for layer in range(self.layers):
            outputs = []
            for direction, suffix in enumerate((f"_l{layer}", f"_l{layer}_reverse")[: self.directions]):
                given = sequence.flip(0) if direction else sequence
                states = torch.stack(list(self._states(given, state[len(last)], suffix)))
                last.append(states[-1])
                outputs.append(states.flip(0) if direction else states)
            sequence = torch.cat(outputs, -1)
        return sequence.transpose(0, 1) if self.batch_first else sequence, torch.stack(last)

    def _states(self, inputs: Tensor, state: Tensor, suffix: str) -> Iterator[Tensor]:
        """Yield the states (B,H) after each of the inputs (T,B,F)."""
        from_inputs = nn.functional.linear(inputs, *self._weights("ih", suffix))
        recurrent = self._weights("hh", suffix)
        for given in from_inputs:
            reset, update, new = given.chunk(3, -1)
            reset_state, update_state, new_state = nn.functional.linear(state, *recurrent).chunk(3, -1)
            kept = torch.sigmoid(update + update_state)
            proposed = torch.tanh(new + torch.sigmoid(reset + reset_state) * new_state)
            state = proposed + kept * (state - proposed)
            yield state

    def _weights(self, kind: str, suffix: str) -> tuple[Tensor, Tensor | None]:
        return getattr(self, f"weight_{kind}{suffix}"), getattr(self, f"bias_{kind}{suffix}") if self.bias else None


def unrolled(network: nn.Module) -> nn.Module:
    """Return a copy of a network whose GRUs are unrolled; names of parameters stay."""
    network = copy.deepcopy(network)
    if isinstance(network, nn.GRU):
        return UnrolledGRU(network)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.GRU:
                setattr(parent, name, UnrolledGRU(child))
    return network
