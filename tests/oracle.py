"""The one brute-force truth: sums over every path of hidden states h_0..h_S, one by one. Slow, plain, obviously right.

P(h_0..h_S, rows) = π₀(h_0) ∏_t A[h_{t-1}, h_t] · row_t(h_t), where the rows are those of the prompt, then of the text:
W[:, x_t] for a token, ones for MASK. Logarithms are natural and used throughout, so that nothing underflows.
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import numpy as np

from ppl_hmm.parameters import HMM
from ppl_hmm.text import MASK

# Cases are drawn so that one text has at most this many paths.
MAX_PATHS = 4096


@functools.cache
def all_paths(n_states: int, length: int) -> np.ndarray:
    """Return every (h_0, ..., h_length), in lexicographic order: (n_states^(length+1), length+1)."""
    return np.array(list(itertools.product(range(n_states), repeat=length + 1)))


def all_texts(vocabulary_size: int, length: int) -> np.ndarray:
    """Return every text of ``length`` tokens: (V^T, T)."""
    return np.array(list(itertools.product(range(vocabulary_size), repeat=length)))


def likelihood_rows(model: HMM, text: np.ndarray, prompt: np.ndarray | None = None) -> list[np.ndarray]:
    """Return the likelihood row of each prompt token, then of each text position."""
    emission = model.emission.numpy()
    of_prompt = [] if prompt is None else list(np.asarray(prompt, float))
    return of_prompt + [np.ones(model.n_states) if x == MASK else emission[:, x] for x in text]


def log_joint(model: HMM, text: np.ndarray, prompt: np.ndarray | None = None) -> np.ndarray:
    """Return log P(path, text) for each of ``all_paths``."""
    with np.errstate(divide="ignore"):  # log 0 = -inf is meant
        rows = [np.log(row) for row in likelihood_rows(model, text, prompt)]
        initial, transition = np.log(model.initial.numpy()), np.log(model.transition.numpy())
    paths = all_paths(model.n_states, len(rows))
    total = initial[paths[:, 0]]
    for t, row in enumerate(rows, start=1):
        total = total + transition[paths[:, t - 1], paths[:, t]] + row[paths[:, t]]
    return total


def log_evidence(model: HMM, text: np.ndarray, prompt: np.ndarray | None = None) -> float:
    """Return log P(text)."""
    return float(np.logaddexp.reduce(log_joint(model, text, prompt)))


def marginals(model: HMM, text: np.ndarray, prompt: np.ndarray | None = None) -> np.ndarray:
    """Return P(H_t = h | text) for t = 0..S, prompt positions included: (S+1, K); zeros for impossible text."""
    logs = log_joint(model, text, prompt)
    total = np.logaddexp.reduce(logs)
    paths = all_paths(model.n_states, len(text) + (0 if prompt is None else len(prompt)))
    if total == -np.inf:
        return np.zeros((paths.shape[1], model.n_states))
    return np.array(
        [
            [np.exp(np.logaddexp.reduce(logs[paths[:, t] == h]) - total) for h in range(model.n_states)]
            for t in range(paths.shape[1])
        ]
    )


def conditional(model: HMM, text: np.ndarray, position: int, prompt: np.ndarray | None = None) -> np.ndarray:
    """Return P(X_i = v | the rest) for v = 0..V-1 by trying every token at i; zeros where the rest is impossible."""
    logs = np.empty(model.vocabulary_size)
    for v in range(model.vocabulary_size):
        changed = np.array(text)
        changed[position] = v
        logs[v] = log_evidence(model, changed, prompt)
    total = np.logaddexp.reduce(logs)
    return np.zeros_like(logs) if total == -np.inf else np.exp(logs - total)


def best_path(model: HMM, text: np.ndarray, prompt: np.ndarray | None = None) -> tuple[np.ndarray, float, float]:
    """Return the best path (lowest states first among equals), its log P(path, text), and its lead over the next."""
    logs = log_joint(model, text, prompt)
    best = int(logs.argmax())
    paths = all_paths(model.n_states, len(text) + (0 if prompt is None else len(prompt)))
    runner_up = np.delete(logs, best).max(initial=-np.inf)
    lead = np.inf if runner_up == -np.inf else logs[best] - runner_up
    return paths[best], float(logs[best]), float(lead)


class Truth(NamedTuple):
    """Brute-force answers for a batch of texts; prompt positions are left out, as in the package."""

    log_evidence: np.ndarray  # (B,)
    initial: np.ndarray  # (B,K)
    smoothed: np.ndarray  # (B,T,K)
    conditionals: np.ndarray  # (B,T,V)


def truth(model: HMM, tokens: np.ndarray, prompt: np.ndarray | None = None) -> Truth:
    """Return everything at once for tokens (B,T)."""
    n_prompt = 0 if prompt is None else len(prompt)
    of_texts = [marginals(model, text, prompt) for text in tokens]
    return Truth(
        np.array([log_evidence(model, text, prompt) for text in tokens]),
        np.array([each[0] for each in of_texts]),
        np.array([each[1 + n_prompt :] for each in of_texts]),
        np.array([[conditional(model, text, i, prompt) for i in range(tokens.shape[1])] for text in tokens]),
    )


class Case(NamedTuple):
    """A random model with text; ``lengths`` and ``prompt`` may be None."""

    model: HMM
    tokens: np.ndarray
    lengths: np.ndarray | None
    prompt: np.ndarray | None

    @property
    def masked_tokens(self) -> np.ndarray:
        """The tokens with MASK past each length: what ``lengths`` means."""
        if self.lengths is None:
            return self.tokens
        return np.where(np.arange(self.tokens.shape[1]) < self.lengths[:, None], self.tokens, MASK)


def random_rows(rng: np.random.Generator, *shape: int, zeros: float = 0.0) -> np.ndarray:
    """Return Dirichlet rows in which each entry is an exact zero with probability ``zeros``; one always stays."""
    weights = rng.dirichlet(np.ones(shape[-1]), size=shape[:-1]) * (rng.random(shape) >= zeros)
    empty = weights.sum(-1) == 0
    weights[empty, rng.integers(shape[-1])] = 1.0
    return weights / weights.sum(-1, keepdims=True)


def random_model(rng: np.random.Generator, n_states: int, vocabulary_size: int) -> HMM:
    """Return a random model; half have exact zeros, and a third repeat an emission row (aliased states)."""
    zeros = rng.choice([0.0, 0.4])
    emission = random_rows(rng, n_states, vocabulary_size, zeros=zeros)
    if rng.random() < 1 / 3:
        emission[-1] = emission[0]
    return HMM(random_rows(rng, n_states, zeros=zeros), random_rows(rng, n_states, n_states, zeros=zeros), emission)


def random_prompt(rng: np.random.Generator, n_prompt: int, n_states: int) -> np.ndarray:
    """Return non-negative rows (L,K), not normalised, a third of the entries zero, no row empty."""
    rows = rng.gamma(1.0, size=(n_prompt, n_states)) * (rng.random((n_prompt, n_states)) >= 1 / 3)
    rows[rows.sum(-1) == 0] = 1.0
    return rows


def random_case(seed: int) -> Case:
    """Return a random case, K, V, T <= 5: zeros, aliases, masks, prompts, ragged lengths, K = 1 and T = 1 included."""
    rng = np.random.default_rng(seed)
    n_states, vocabulary_size = rng.integers(1, 6, size=2)
    n_prompt = int(rng.choice([0, 1, 2], p=[0.5, 0.25, 0.25]))
    longest = next(t for t in (5, 4, 3, 2, 1) if n_states ** (n_prompt + t + 1) <= MAX_PATHS)
    length = int(rng.integers(1, longest + 1))
    tokens = rng.integers(vocabulary_size, size=(3, length))
    tokens[rng.random(tokens.shape) < 0.2] = MASK
    return Case(
        random_model(rng, int(n_states), int(vocabulary_size)),
        tokens,
        rng.integers(0, length + 1, size=3) if rng.random() < 0.3 else None,
        random_prompt(rng, n_prompt, int(n_states)) if n_prompt else None,
    )
