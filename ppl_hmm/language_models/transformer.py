"""A masked language model around the BERT of the library transformers: the kind that the paper trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ppl_hmm.base.randomness import CPU, Seed
from ppl_hmm.base.tokens import MASK, ends
from ppl_hmm.inference.rows import check_positions
from ppl_hmm.language_models.extra import require_extra
from ppl_hmm.language_models.trained import Example, initialised, only_for
from ppl_hmm.language_models.trained_masked import TrainedMaskedLM
from ppl_hmm.language_models.transformer_sizes import WARM_UP, TransformerSizes
from ppl_hmm.models.kinds import Text

# Behind which prompts a mask is learned to be read: any of so many tokens, or none.
_LONGEST_PROMPT = 4
_HIDDEN_SHARE = 0.1  # of the other tokens
_TEXTS_AT_ONCE = 1024


class TransformerLM(TrainedMaskedLM):
    """Masked language model around transformers' BERT: small, randomly initialised, to be trained.

    In training each text is masked at one of its first tokens, where heads read behind a prompt, and at a tenth of all
    others.

    Parameters
    ----------
    vocabulary_size
        V.
    width, layers, heads
        Of embeddings and states; of the transformer; of its attention.
    longest
        Tokens that a text with its prompt may have. Positions that training did not reach are noise.
    seed
        Of the initial parameters.

    Raises
    ------
    InvalidInput
        The extra ``lm`` is not installed; a size below one, a width that the heads do not divide, longer text.

    See Also
    --------
    ppl_hmm.train : Trains one.
    ppl_hmm.BidirectionalLM : A recurrent network in its place, faster on a CPU.
    ppl_hmm.OracleLM : The exact one of a hidden Markov model.

    Notes
    -----
    Each position costs a pass of its own, in which its token is hidden: O(B·(L+T)²·width) for attention and
    O(B·(L+T)·width²) for the rest, a layer. A prompt changes all of it: encoding saves nothing.
    Source: Wei, Xie & Ma (2021), §5.

    Examples
    --------
    >>> from ppl_hmm import TransformerLM
    >>> lm = TransformerLM(4, width=8, layers=1, heads=2, seed=0)
    >>> lm.conditionals([[0, 1, 1]], positions=[0]).shape
    torch.Size([1, 1, 4])
    """

    warm_up = WARM_UP

    def __init__(
        self, vocabulary_size: int, width: int = 64, layers: int = 2, heads: int = 2, longest: int = 512, *, seed: Seed
    ) -> None:
        super().__init__(vocabulary_size, width)
        self.sizes = TransformerSizes.checked(width, layers, heads, longest)
        library = require_extra("a TransformerLM", "transformers")
        config = library.BertConfig(
            vocab_size=vocabulary_size + 1,  # the last is the mask
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            max_position_embeddings=longest,
            type_vocab_size=1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=None,
        )
        with initialised(seed):
            self.network = library.BertForMaskedLM(config)

    @property
    def embedding(self) -> nn.Embedding:
        """Embeddings of V tokens and of the mask."""
        return self.network.get_input_embeddings()

    @property
    def configuration(self) -> dict[str, Any]:
        """Sizes."""
        return {"vocabulary_size": self.vocabulary_size, **self.sizes._asdict()}

    def logits(self, tokens: Text, *, lengths: Text | None = None) -> Tensor:
        """Return scores (B,T,V) at every position of text as it is read: a token that is not masked is seen."""
        text = self.checked(tokens, lengths)
        return self.scores(self.embedded(text), torch.ones_like(text, dtype=torch.bool))

    def scores(self, inputs: Tensor, seen: Tensor) -> Tensor:
        """Return scores (B,N,V) at embeddings (B,N,width), of which only those ``seen`` (B,N) are attended to."""
        self.sizes.require_room(inputs.shape[1])
        return self.network(inputs_embeds=inputs, attention_mask=seen.long()).logits[..., : self.vocabulary_size]

    def encode(self, tokens: Text, lengths: Text | None = None) -> TransformerText:
        """Return checked text."""
        return TransformerText(self, self.checked(tokens, lengths))

    def activations(self, tokens: Text, *, lengths: Text | None = None) -> dict[str, Tensor]:
        """Return activations (B,T,width) at each position, by layer: ``layer 1``, …; every token is seen."""
        with torch.no_grad():
            text = self.checked(tokens, lengths)
            found = self.network.bert(inputs_embeds=self.embedded(text), output_hidden_states=True).hidden_states
            return {f"layer {number}": each for number, each in enumerate(found[1:], 1)}

    def example(self, text: Tensor, stream: torch.Generator) -> Example:
        """Return texts with hidden tokens, which alone are predicted."""
        n_texts, length = text.shape
        drawn = {"generator": stream, "device": CPU}
        hidden = torch.rand(n_texts, length, **drawn) < _HIDDEN_SHARE
        read = torch.randint(min(_LONGEST_PROMPT + 1, length), (n_texts,), **drawn)
        known = text != MASK
        number = known.cumsum(-1)  # of each token among those of its text, from 1
        is_read = number == 1 + read.to(number)[:, None] % number[:, -1:].clamp(min=1)
        hidden = (hidden.to(text.device) | is_read) & known
        return Example(torch.where(hidden, MASK, text), hidden)


class TransformerText:
    """Checked text of a transformer, which has no work to save: a prompt changes every state."""

    def __init__(self, lm: TransformerLM, tokens: Tensor) -> None:
        self._lm, self._tokens = lm, tokens

    def conditionals(self, prompt: Tensor | None = None, positions: Sequence[int] | None = None) -> Tensor:
        """Return G (…,B,positions,V) after prompt rows (…,L,width); differentiable in them."""
        chosen, weight = check_positions(positions, self._tokens.shape[1]), self._lm.embedding.weight
        rows = weight.new_empty(0, self._lm.width) if prompt is None else prompt.to(weight)
        with only_for(prompt):
            prompts = rows[None] if rows.ndim == 2 else rows.flatten(end_dim=-3)
            each = [torch.stack([self._at(one, t) for t in chosen], dim=1) for one in prompts]
            return torch.stack(each).reshape(*rows.shape[:-2], *each[0].shape)

    def _at(self, prompt: Tensor, position: int) -> Tensor:
        """Return G (B,V) at a position after one prompt (L,width), a part of the texts at a time."""
        return torch.cat([self._of_part(part, prompt, position) for part in self._tokens.split(_TEXTS_AT_ONCE)])

    def _of_part(self, tokens: Tensor, prompt: Tensor, position: int) -> Tensor:
        text = tokens.clone()
        text[:, position] = MASK
        place = torch.arange(text.shape[1], device=text.device)
        seen = (place < ends(tokens)[:, None]) | (place == position)  # not what lies past the end of a text
        inputs = torch.cat([prompt.expand(len(text), -1, -1), self._lm.embedded(text)], dim=1)
        seen = torch.cat([seen.new_ones(len(text), len(prompt)), seen], dim=1)
        return self._lm.laws(self._lm.scores(inputs, seen)[:, len(prompt) + position])
