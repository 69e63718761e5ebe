"""Statistics of text that a model of it should share: frequencies, pairs, runs, information between tokens.

Texts (R,B,T) are R replicates of B texts; −1 where nothing is observed.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ppl_hmm.exact.algebra import safe_log

_NOTHING = -1


def token_frequencies(texts: Int[Tensor, "R B T"], n_tokens: int) -> Float[Tensor, "R V"]:
    """Return the share of each token among those observed."""
    return _shares(texts.flatten(1), n_tokens)


def pair_frequencies(texts: Int[Tensor, "R B T"], n_tokens: int, lag: int = 1) -> Float[Tensor, "R V V"]:
    """Return the share of each pair of tokens, one ``lag`` positions after the other. Memory O(R·(B·T + V²))."""
    pairs = _pairs(texts, n_tokens, lag)
    return _shares(pairs, n_tokens**2).unflatten(-1, (n_tokens, n_tokens))


def run_length_frequencies(texts: Int[Tensor, "R B T"], longest: int) -> Float[Tensor, "R L"]:
    """Return the share of runs of 1, 2, … tokens in which one is repeated; the last entry is of ``longest`` or more.

    A run ends where another token follows, nothing is observed, or the text ends.
    """
    n_replicates, _, length = texts.shape
    edge = torch.full_like(texts[..., :1], _NOTHING)
    starts = (texts != torch.cat([edge, texts[..., :-1]], -1)) & (texts != _NOTHING)
    ends = (texts != torch.cat([texts[..., 1:], edge], -1)) & (texts != _NOTHING)
    replicate, _, first = starts.nonzero().T  # in the order of the texts, so that the n-th start has the n-th end
    lengths = (ends.nonzero()[:, -1] - first + 1).clamp(max=min(longest, length))
    counts = torch.zeros(n_replicates * longest, dtype=torch.float64, device=texts.device)
    counts.index_add_(0, replicate * longest + lengths - 1, torch.ones_like(lengths, dtype=torch.float64))
    return _normalised(counts.view(n_replicates, longest))


def mutual_information(texts: Int[Tensor, "R B T"], n_tokens: int, lag: int) -> Float[Tensor, " R"]:
    """Return the information in nats between tokens ``lag`` apart, of their observed law.

    It is above that of the law which the texts are drawn from, by about (V−1)²/2n for n pairs. Memory O(B·T).
    """
    return torch.stack([_information(pairs[pairs >= 0], n_tokens) for pairs in _pairs(texts, n_tokens, lag)])


def _information(pairs: Int[Tensor, " N"], n_tokens: int) -> Float[Tensor, ""]:
    """Return Σ p(x,y) log p(x,y)/(p(x)p(y)) of numbered pairs; 0 of none."""
    different, counts = pairs.unique(return_counts=True)
    first, second = different // n_tokens, different % n_tokens
    shares = counts.double() / counts.sum().clamp(min=1)
    of_first, of_second = (
        torch.zeros(n_tokens, dtype=torch.float64, device=pairs.device).index_add_(0, tokens, shares)
        for tokens in (first, second)
    )
    return (shares * (safe_log(shares) - safe_log(of_first[first]) - safe_log(of_second[second]))).sum()


def _pairs(texts: Int[Tensor, "R B T"], n_tokens: int, lag: int) -> Int[Tensor, "R N"]:
    """Return numbers of pairs x·V + y, −1 where one of the two is not observed."""
    first, second = texts[..., :-lag].flatten(1), texts[..., lag:].flatten(1)
    return torch.where((first >= 0) & (second >= 0), first * n_tokens + second, _NOTHING)


def _shares(numbers: Int[Tensor, "R N"], n_kinds: int) -> Float[Tensor, "R C"]:
    """Return the share of each kind among those that are not −1."""
    n_replicates = len(numbers)
    places = (numbers + 1 + torch.arange(n_replicates, device=numbers.device)[:, None] * (n_kinds + 1)).flatten()
    counts = torch.bincount(places, minlength=n_replicates * (n_kinds + 1)).view(n_replicates, n_kinds + 1)
    return _normalised(counts[:, 1:].double())


def _normalised(counts: Float[Tensor, "R C"]) -> Float[Tensor, "R C"]:
    return counts / counts.sum(-1, keepdim=True).clamp(min=1)
