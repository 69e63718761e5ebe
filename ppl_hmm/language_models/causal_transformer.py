"""A causal language model around the GPT-2 of the library transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ppl_hmm.base.randomness import CPU, Seed
from ppl_hmm.language_models.extra import require_extra
from ppl_hmm.language_models.trained import initialised
from ppl_hmm.language_models.trained_causal import TrainedCausalLM
from ppl_hmm.language_models.transformer_sizes import WARM_UP, TransformerSizes


class CausalTransformer(TrainedCausalLM):
    """Causal language model around transformers' GPT-2: small, randomly initialised, to be trained.

    Parameters
    ----------
    vocabulary_size
        V.
    width, layers, heads
        Of embeddings and states; of the transformer; of its attention.
    longest
        Tokens that a text with its prompt and suffix may have. Positions that training did not reach are noise.
    seed
        Of the initial parameters.

    Raises
    ------
    InvalidInput
        The extra ``lm`` is not installed; a size below one, a width that the heads do not divide, longer text.

    See Also
    --------
    ppl_hmm.train : Trains one.
    ppl_hmm.CausalGRU : A recurrent network in its place, faster on a CPU.

    Notes
    -----
    Cost O(B·(L+T)²·width) for attention, O(B·(L+T)·width²) for the rest, a layer.

    Examples
    --------
    >>> from ppl_hmm import CausalTransformer
    >>> lm = CausalTransformer(4, width=8, layers=1, heads=2, seed=0)
    >>> lm.next_token_laws([[0, 1, 1]]).shape
    torch.Size([1, 4, 4])
    """

    warm_up = WARM_UP

    def __init__(
        self, vocabulary_size: int, width: int = 64, layers: int = 2, heads: int = 2, longest: int = 512, *, seed: Seed
    ) -> None:
        super().__init__(vocabulary_size, width)
        self.sizes = TransformerSizes.checked(width, layers, heads, longest)
        library = require_extra("a CausalTransformer", "transformers")
        config = library.GPT2Config(
            vocab_size=vocabulary_size + 1,  # the last is the mask
            n_embd=width,
            n_layer=layers,
            n_head=heads,
            n_positions=longest + 1,  # the embedding that begins a text comes before it
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=None,
            eos_token_id=None,
            use_cache=False,
        )
        with initialised(seed):
            self.network = library.GPT2LMHeadModel(config)
            self.begin = nn.Parameter(torch.zeros(width, device=CPU))

    @property
    def embedding(self) -> nn.Embedding:
        """Embeddings of V tokens and of the mask."""
        return self.network.get_input_embeddings()

    @property
    def configuration(self) -> dict[str, Any]:
        """Sizes."""
        return {"vocabulary_size": self.vocabulary_size, **self.sizes._asdict()}

    def layer_states(self, inputs: Tensor) -> list[Tensor]:
        """Return the states (B,N,width) of each layer, the last one normalised."""
        self.sizes.require_room(inputs.shape[1] - 1)
        found = self.network.transformer(inputs_embeds=inputs, output_hidden_states=True)
        return list(found.hidden_states[1:])

    def scores(self, states: Tensor) -> Tensor:
        """Return scores (…,V) of the next token."""
        return self.network.lm_head(states)[..., : self.vocabulary_size]
