"""Draw text with its hidden states from a model."""

from __future__ import annotations

import dataclasses

import torch
import xarray as xr
from torch import Tensor

from ppl_hmm import schema
from ppl_hmm._version import __version__
from ppl_hmm.errors import at_least
from ppl_hmm.inference import Text
from ppl_hmm.parameters import HMM
from ppl_hmm.randomness import Seed, categorical, generator
from ppl_hmm.text import as_tokens


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
    """

    tokens: Tensor
    states: Tensor
    initial_state: Tensor


def sample(model: HMM, n_sequences: int, length: int, seed: Seed, lengths: Text | None = None) -> Sample:
    """Return ``n_sequences`` independent texts of ``length`` tokens from the model, with their hidden states.

    H₀ ∼ π₀, then for t = 1..T: H_t ∼ A[H_{t-1}], X_t ∼ W[H_t]. A batch of models P… gives (P…,B,…). The same seed
    gives the same sample on every device.

    Parameters
    ----------
    lengths
        (B,): tokens past each length become ``MASK``.

    Raises
    ------
    InvalidInput
        A size below one, a length beyond ``length``.

    Notes
    -----
    Cost O(B·T·(K+V)).
    """
    n_sequences, length = at_least("n_sequences", n_sequences, 1), at_least("length", length, 1)
    stream = generator(seed, "sample")
    initial, transition, emission = (
        getattr(model, name).detach().reshape(-1, *getattr(model, name).shape[len(model.batch_shape) :])
        for name in model.dimensions
    )
    each_model = torch.arange(len(initial), device=model.device)[:, None]
    state = categorical(initial[:, None].expand(-1, n_sequences, -1), stream)
    path, tokens = [state], []
    for _ in range(length):
        state = categorical(transition[each_model, state], stream)
        path.append(state)
        tokens.append(categorical(emission[each_model, state], stream))
    shape = (*model.batch_shape, n_sequences)
    text = as_tokens(
        torch.stack(tokens, -1).reshape(*shape, length),
        model.vocabulary_size,
        lengths=lengths,
        batch_shape=model.batch_shape,
    )
    return Sample(text, torch.stack(path[1:], -1).reshape(*shape, length), path[0].reshape(shape))


def as_tree(model: HMM, drawn: Sample, seed: int) -> xr.DataTree:
    """Return a sample as a tree: ``/model``, ``/observed_data`` (tokens) and ``/latent`` (states, initial state).

    For a single model; −1 among the tokens is ``MASK``.
    """
    model._require_single("as_tree")
    sequence, text = (schema.SEQUENCE,), (schema.SEQUENCE, schema.POSITION)
    tree = xr.DataTree.from_dict(
        {
            f"/{schema.MODEL}": model.to_dataset(),
            f"/{schema.OBSERVED_DATA}": xr.Dataset({"tokens": (text, drawn.tokens.cpu().numpy())}),
            f"/{schema.LATENT}": xr.Dataset(
                {
                    "states": (text, drawn.states.cpu().numpy()),
                    "initial_state": (sequence, drawn.initial_state.cpu().numpy()),
                }
            ),
        }
    )
    tree.attrs = {"package": "ppl_hmm", "version": __version__, "seed": seed}
    return tree
