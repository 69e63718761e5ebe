"""The texts that an audit reads: all there are of a length, or a sample, or those that are given."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ppl_hmm.base.positions import Place
from ppl_hmm.base.randomness import Seed, generator
from ppl_hmm.base.tokens import MASK, as_text
from ppl_hmm.errors import at_least
from ppl_hmm.inference.queries import log_likelihood
from ppl_hmm.inference.sampling import sample
from ppl_hmm.models.kinds import Model, Text, n_memories

#: Texts of few tokens, at most, that witnesses are sought among first, and last.
SHORT_TEXTS, MORE_TEXTS = 2000, 20_000
# Tokens of one of them, at most.
_SHORT_LENGTH = 12


@dataclasses.dataclass(frozen=True, eq=False)
class Texts:
    """Texts, and the law on them.

    Attributes
    ----------
    tokens
        (B,T), ``MASK`` past the end of each.
    weights
        (B,): P(x) of each, where these are all texts of positive probability; None for a sample.
    source
        What they are, in words.
    lengths
        (B,): where each ends; None where all have T tokens.
    """

    tokens: Tensor
    weights: np.ndarray | None
    source: str
    lengths: Tensor | None = None

    @property
    def exact(self) -> bool:
        """Whether expectations over these texts are exact."""
        return self.weights is not None

    def first(self, length: int) -> Tensor:
        """Return the first ``length`` tokens of each (B,length)."""
        return self.tokens[:, :length]


def texts_to_read(
    model: Model, tokens: Text | None, lengths: Text | None, *, n_sequences: int, length: int, seed: Seed
) -> Texts:
    """Return the given texts (B,T); by default all texts of ``length`` tokens, or a sample if they are too many.

    All texts are taken when there are at most ``n_sequences``, V^T; those of probability zero are left out.

    Raises
    ------
    InvalidInput
        Tokens that do not fit the model, sizes below one.
    """
    n_sequences = at_least("n_sequences", n_sequences, 1)
    length = at_least("length", length, 1)
    if tokens is not None:
        given, ends = as_text(tokens, model.vocabulary_size, lengths=lengths, device=model.device)
        return Texts(given, None, f"{len(given)} given texts", ends)
    # Texts of as many tokens as the limit has bits are too many already: no power of a long length is needed.
    if lengths is None and model.vocabulary_size ** min(length, n_sequences.bit_length()) <= n_sequences:
        return _all_texts(model, length)
    drawn = sample(model, n_sequences, length, generator(seed, "audit")).tokens
    text, ends = as_text(drawn, model.vocabulary_size, lengths=lengths, device=model.device)
    return Texts(text, None, f"{n_sequences} sampled texts of {length} tokens", ends)


def short_texts(model: Model, place: Place, limit: int = SHORT_TEXTS) -> Tensor:
    """Return all possible texts of one token, of two, and so on, as long as there are no more than a limit.

    (n,L), ``MASK`` past the end of each; without those that lack the place. None, (0,L), where V alone is too many.
    Each counts once for every memory that it is read under, and for every block that a head reads which sees a token.
    """
    limit //= n_memories(model)
    limit //= model.vocabulary_size + 1 if place.sees_token else 1
    lengths, n_texts = [], 0
    for length in range(1, _SHORT_LENGTH + 1):
        n_texts += model.vocabulary_size**length
        if n_texts <= limit and place.within(length):
            lengths.append(length)
    longest = max(lengths, default=1)
    each = [pad(_every_text(model, length), (0, longest - length), value=MASK) for length in lengths]
    every = torch.cat(each) if each else torch.empty(0, longest, dtype=torch.long, device=model.device)
    return every[_log_probability(model, every) > -torch.inf] if each else every


def _all_texts(model: Model, length: int) -> Texts:
    every = _every_text(model, length)
    log_probability = _log_probability(model, every)
    possible = log_probability > -torch.inf
    weights = log_probability[possible].softmax(0).cpu().numpy()
    return Texts(every[possible], weights, f"all texts of {length} tokens")


def _every_text(model: Model, length: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(model.vocabulary_size), repeat=length)), device=model.device)


def _log_probability(model: Model, tokens: Tensor) -> Tensor:
    return log_likelihood(model.detach().to(torch.float64), tokens)
