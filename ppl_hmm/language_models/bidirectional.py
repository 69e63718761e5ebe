"""A masked language model of two recurrent streams: what it predicts of a token never depends on that token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ppl_hmm.base.randomness import CPU, Seed
from ppl_hmm.base.tokens import MASK, ends
from ppl_hmm.errors import at_least
from ppl_hmm.inference.rows import check_positions
from ppl_hmm.language_models.stream import Stream
from ppl_hmm.language_models.trained import Example, initialised, only_for, token_embedding
from ppl_hmm.language_models.trained_masked import TrainedMaskedLM
from ppl_hmm.models.kinds import Text

# Widths that reach a total variation of about 0.02 on random models in minutes.
_FEW_STATES, _NARROW, _WIDE = 8, 64, 128
# Of every few texts, one is read behind a chain of masks, which heads on several masks need.
_CHAIN_EVERY, _LONGEST_CHAIN = 4, 4


class BidirectionalLM(TrainedMaskedLM):
    """Masked language model of two GRU streams, to be trained.

    G_i is read from the left stream's state before position i and the right stream's state after it, joined by their
    sums and products: its own token is left out by construction, and all positions cost one pass. A prompt enters the
    left stream alone, so that encoded text keeps its right states.

    Parameters
    ----------
    vocabulary_size
        V.
    n_states
        Hidden states of the model that the text is from, if known: chooses the width, 64 up to 8 states, else 128.
    width
        Of embeddings and states, in place of that choice.
    layers
        Of each stream.
    seed
        Of the initial parameters.

    Raises
    ------
    InvalidInput
        A size below one.

    See Also
    --------
    ppl_hmm.train : Trains one.
    ppl_hmm.TransformerLM : A BERT in its place.
    ppl_hmm.OracleLM : The exact one of a hidden Markov model.
    ppl_hmm.load_language_model : Reads what ``save`` wrote.

    Notes
    -----
    Cost of all positions O(B·(L+T)·width²); after a prompt at position 0, O(L·width²) and O(B·width²) for encoded text.

    Examples
    --------
    >>> from ppl_hmm import BidirectionalLM
    >>> lm = BidirectionalLM(4, width=8, seed=0)
    >>> lm.conditionals([[0, 1, 1]], positions=[0]).shape
    torch.Size([1, 1, 4])
    >>> lm.prompt_shape  # a prompt token is an embedding
    (8,)
    """

    def __init__(
        self,
        vocabulary_size: int,
        n_states: int | None = None,
        width: int | None = None,
        layers: int = 1,
        *,
        seed: Seed,
    ) -> None:
        if width is None:
            many = n_states is not None and at_least("n_states", n_states, 1) > _FEW_STATES
            width = _WIDE if many else _NARROW
        super().__init__(vocabulary_size, width)
        self.n_layers = at_least("layers", layers, 1)
        with initialised(seed):
            self.table = token_embedding(vocabulary_size, width)
            self.left, self.right = Stream(width, layers), Stream(width, layers)
            self.join = Join(width, vocabulary_size)

    @property
    def embedding(self) -> nn.Embedding:
        """Embeddings of V tokens and of the mask."""
        return self.table

    @property
    def configuration(self) -> dict[str, Any]:
        """Sizes."""
        return {"vocabulary_size": self.vocabulary_size, "width": self.width, "layers": self.n_layers}

    def logits(self, tokens: Text, *, lengths: Text | None = None) -> Tensor:
        """Return scores (B,T,V) of every token given all others, differentiable in parameters."""
        text = self.checked(tokens, lengths)
        before = self.left(self.embedded(text[:, :-1]))[-1]
        return self.join(before, self.states_behind(text)[-1])

    def encode(self, tokens: Text, lengths: Text | None = None) -> BidirectionalText:
        """Return the text with its right states."""
        return BidirectionalText(self, self.checked(tokens, lengths))

    def activations(self, tokens: Text, *, lengths: Text | None = None) -> dict[str, Tensor]:
        """Return activations (B,T,width) at positions 0..T−1, by layer.

        ``left 1`` … have read the tokens up to each position, itself included, ``right 1`` … those from it on, and
        ``joint`` all others.
        """
        with torch.no_grad():
            text = self.checked(tokens, lengths)
            left, behind = self.left(self.embedded(text)), self.states_behind(text)
            read = self.states_behind(text, own=True)
            found = {f"left {n}": states[:, 1:] for n, states in enumerate(left, 1)}
            found |= {f"right {n}": states for n, states in enumerate(read, 1)}
            return found | {"joint": self.join.hidden(left[-1][:, :-1], behind[-1])}

    def states_behind(self, text: Tensor, own: bool = False) -> list[Tensor]:
        """Return the right stream's states (B,T,width) of each layer after the tokens behind each position.

        With ``own``, after the token there as well. Masks past the end of a text are not read.
        """
        last = ends(text)[:, None] - 1
        place = torch.arange(text.shape[1], device=text.device)
        backwards = text.gather(1, (last - place).clamp(min=0)) if text.numel() else text
        read = (last - place + int(own)).clamp(min=0)[..., None].expand(-1, -1, self.width)
        return [states.gather(1, read) for states in self.right(self.embedded(backwards))]

    def example(self, text: Tensor, stream: torch.Generator) -> Example:
        """Return texts, some behind a chain of masks; all tokens are predicted, hidden ones as well."""
        n_masks = torch.randint(1, _LONGEST_CHAIN + 1, text.shape[:1], generator=stream, device=CPU)
        n_masks[torch.arange(len(text), device=CPU) % _CHAIN_EVERY != 0] = 0
        chain = torch.arange(text.shape[1], device=CPU) < n_masks[:, None]
        return Example(torch.where(chain.to(text.device), MASK, text), text != MASK)


class Join(nn.Module):
    """Scores of tokens from what two streams know: sums, as logarithms add, and products, as laws multiply."""

    def __init__(self, width: int, vocabulary_size: int) -> None:
        super().__init__()
        self.of_left, self.of_right = nn.Linear(width, 2 * width), nn.Linear(width, 2 * width)
        self.mix = nn.Linear(2 * width, width)
        self.out = nn.Linear(width, vocabulary_size)

    def hidden(self, left: Tensor, right: Tensor) -> Tensor:
        """Return what the scores are read from (…,width)."""
        (added, factor), (to_add, by) = self.of_left(left).chunk(2, -1), self.of_right(right).chunk(2, -1)
        return nn.functional.gelu(self.mix(torch.cat([added + to_add, factor * by], dim=-1)))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Return scores (…,V) from states (…,width) of both streams."""
        return self.out(self.hidden(left, right))


class BidirectionalText:
    """Text encoded by the right stream's states, which no prompt changes.

    Cost O(B·T·width²) once; then a prompt costs its own tokens, those before the positions asked for, and O(B·width²).
    """

    def __init__(self, lm: BidirectionalLM, tokens: Tensor) -> None:
        self._lm, self._tokens = lm, tokens
        with torch.no_grad():
            self._behind = lm.states_behind(tokens)[-1]

    def conditionals(self, prompt: Tensor | None = None, positions: Sequence[int] | None = None) -> Tensor:
        """Return G (…,B,positions,V) after prompt rows (…,L,width); differentiable in them."""
        lm, chosen = self._lm, check_positions(positions, self._tokens.shape[1])
        with only_for(prompt):
            if prompt is None:
                leading, start = (), lm.left.start[:, None]
            else:
                leading = prompt.shape[:-2]
                start = lm.left.after(prompt.to(self._behind).reshape(-1, *prompt.shape[-2:]))
            before = self._before(start, max(chosen))[..., chosen, :]  # (R,B or 1,positions,width)
            scores = lm.join(before, self._behind[:, chosen])
            return lm.laws(scores).reshape(*leading, *scores.shape[1:])

    def _before(self, start: Tensor, last: int) -> Tensor:
        """Return the left states before positions 0..last, after prompts that leave states (layers,R,width)."""
        if last == 0:
            return start[-1][:, None, None]  # the same for all texts
        n_prompts, n_texts = start.shape[1], len(self._tokens)
        text = self._lm.embedded(self._tokens[:, :last]).repeat(n_prompts, 1, 1)
        states = self._lm.left(text, start.repeat_interleave(n_texts, dim=1))[-1]
        return states.unflatten(0, (n_prompts, n_texts))


