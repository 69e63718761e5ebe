"""Draw text with its hidden states from a model."""

from __future__ import annotations

import dataclasses

import torch
import xarray as xr
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm._version import __version__
from ppl_hmm.base.randomness import Seed, generator, require_room
from ppl_hmm.base.tokens import as_tokens
from ppl_hmm.errors import at_least
from ppl_hmm.exact.drawing import draw_memories, draw_texts
from ppl_hmm.inference.rows import require_kind
from ppl_hmm.models import HMM
from ppl_hmm.models.kinds import Model, Text, by_memory_value


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """Text and the hidden states that emitted it.

    Attributes
    ----------
    tokens
        (B,T), ``MASK`` past each length.
    states
        (B,T): H_1..H_T.
    initial_state
        (B,): H₀.
    memory
        (B,N): M_1..M_N of a memory model; None without a memory.
    """

    tokens: Tensor
    states: Tensor
    initial_state: Tensor
    memory: Tensor | None = None


def sample(model: Model, n_sequences: int, length: int, seed: Seed, lengths: Text | None = None) -> Sample:
    """Return ``n_sequences`` independent texts of ``length`` tokens from the model, with their hidden states.

    H₀ ∼ π₀, then for t = 1..T: H_t ∼ A[H_{t-1}], X_t ∼ W[H_t]; with a memory M ∼ P(M) first, and X_t ∼ W[M_cell, H_t]
    where cell is the one that H_t reads. A batch of models P… gives (P…,B,…). The same seed
    gives the same sample on every device.

    Parameters
    ----------
    lengths
        (B,): tokens past each length become ``MASK``.

    Raises
    ------
    InvalidInput
        A size below one, a length beyond ``length``, more than :data:`~ppl_hmm.base.randomness.LARGEST_DRAW` tokens.

    See Also
    --------
    ppl_hmm.sample_posterior : Draws of states for given text.
    ppl_hmm.random_hmm, ppl_hmm.random_memory_hmm : Models to sample from.

    Notes
    -----
    Cost O(B·T·log(K·V) + K·(K+V)) time; O(B·T + K·(K+V)) memory, with a memory m times the part of V.

    Examples
    --------
    >>> from ppl_hmm import HMM, sample
    >>> model = HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]])
    >>> drawn = sample(model, 2, length=5, seed=0)
    >>> drawn.tokens
    tensor([[1, 1, 0, 1, 1],
            [1, 0, 0, 0, 0]])
    """
    require_kind("model to sample from", model)
    n_sequences, length = at_least("n_sequences", n_sequences, 1), at_least("length", length, 1)
    require_room("tokens of sample", *model.batch_shape, n_sequences, length)
    stream = generator(seed, "sample")
    n_states, n_values = model.n_states, 1 if isinstance(model, HMM) else model.n_memory_values
    initial = model.initial.detach().reshape(-1, n_states)
    transition = model.transition.detach().reshape(-1, n_states, n_states)
    emission = by_memory_value(model, model.emission.detach()).mT  # (P…,m,K,V), m = 1 without a memory
    emission = emission.reshape(-1, n_values, n_states, model.vocabulary_size)
    if isinstance(model, HMM):
        memory, cell_of_state = None, torch.zeros(initial.shape, dtype=torch.int64, device=model.device)
        held = cell_of_state.new_zeros(len(initial), n_sequences, 1)
    else:
        prior = model.memory_prior.detach().reshape(-1, model.n_cells, n_values)
        held = memory = draw_memories(prior, n_sequences, stream)
        cell_of_state = model.cell_of_state.reshape(-1, n_states)
    start, states, tokens = draw_texts(initial, transition, emission, cell_of_state, held, length, stream)
    shape = (*model.batch_shape, n_sequences)
    text = as_tokens(
        tokens.reshape(*shape, length), model.vocabulary_size, lengths=lengths, batch_shape=model.batch_shape
    )
    return Sample(
        text,
        states.reshape(*shape, length),
        start.reshape(shape),
        None if memory is None else memory.reshape(*shape, -1),
    )


def as_tree(model: Model, drawn: Sample, seed: int) -> xr.DataTree:
    """Return a sample as a tree: ``/model``, ``/observed_data`` (tokens) and ``/latent`` (states, memory).

    For a single model; −1 among the tokens is ``MASK``.
    """
    require_kind("model of a sample", model)
    model.require_single("as_tree")
    sequence, text = (schema.SEQUENCE,), (schema.SEQUENCE, schema.POSITION)
    latent = {
        "states": (text, drawn.states.cpu().numpy()),
        "initial_state": (sequence, drawn.initial_state.cpu().numpy()),
    }
    if drawn.memory is not None:
        latent["memory"] = ((schema.SEQUENCE, schema.CELL), drawn.memory.cpu().numpy())
    tree = xr.DataTree.from_dict(
        {
            f"/{schema.MODEL}": model.to_dataset(),
            f"/{schema.OBSERVED_DATA}": xr.Dataset({"tokens": (text, drawn.tokens.cpu().numpy())}),
            f"/{schema.LATENT}": xr.Dataset(latent),
        }
    )
    tree.attrs = {"package": "ppl_hmm", "version": __version__, "seed": seed}
    return tree
