"""A causal language model of gated recurrent units."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ppl_hmm.base.randomness import CPU, Seed
from ppl_hmm.errors import at_least
from ppl_hmm.language_models.stream import Stream
from ppl_hmm.language_models.trained import initialised, token_embedding
from ppl_hmm.language_models.trained_causal import TrainedCausalLM


class CausalGRU(TrainedCausalLM):
    """Causal language model of gated recurrent units, to be trained.

    Parameters
    ----------
    vocabulary_size
        V.
    width
        Of embeddings and states.
    layers
        Of units.
    seed
        Of the initial parameters.

    Raises
    ------
    InvalidInput
        A size below one.

    See Also
    --------
    ppl_hmm.train : Trains one.
    ppl_hmm.CausalTransformer : A GPT-2 in its place.
    ppl_hmm.CausalOracleLM : The exact one of a hidden Markov model.

    Notes
    -----
    Cost O(B·(L+T)·width²).

    Examples
    --------
    >>> from ppl_hmm import CausalGRU, next_token_features
    >>> lm = CausalGRU(4, width=8, seed=0)
    >>> lm.next_token_laws([[0, 1, 1]]).shape  # before any token, and after each
    torch.Size([1, 4, 4])
    >>> next_token_features(lm, [[0, 1, 1]], template=[2]).shape
    torch.Size([1, 4])
    """

    def __init__(self, vocabulary_size: int, width: int = 64, layers: int = 1, *, seed: Seed) -> None:
        super().__init__(vocabulary_size, width)
        self.n_layers = at_least("layers", layers, 1)
        with initialised(seed):
            self.table = token_embedding(vocabulary_size, width)
            self.begin = nn.Parameter(torch.zeros(width, device=CPU))
            self.stream = Stream(width, layers)
            self.out = nn.Linear(width, vocabulary_size)

    @property
    def embedding(self) -> nn.Embedding:
        """Embeddings of V tokens and of the mask."""
        return self.table

    @property
    def configuration(self) -> dict[str, Any]:
        """Sizes."""
        return {"vocabulary_size": self.vocabulary_size, "width": self.width, "layers": self.n_layers}

    def layer_states(self, inputs: Tensor) -> list[Tensor]:
        """Return the states (B,N,width) of each layer after each input."""
        return [states[:, 1:] for states in self.stream(inputs)]

    def scores(self, states: Tensor) -> Tensor:
        """Return scores (…,V) of the next token."""
        return self.out(states)
