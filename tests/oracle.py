"""The one brute-force truth: sums over every path of hidden states h_0..h_S, one by one. Slow, plain, obviously right.

P(h_0..h_S, rows) = π₀(h_0) ∏_t A[h_{t-1}, h_t] · row_t(h_t), where the rows are those of the prompt, then of the text:
W[:, x_t] for a token, ones for MASK. Logarithms are natural and used throughout, so that nothing underflows.

With a memory M = (M_1..M_N) the sum also goes over every memory, one by one. Given M, state h emits by
W[M_cell(h), h, :] and a prompt's row is u[M_cell(h), h], so P(M, h_0..h_S, rows) is P(M) times the line above.
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import numpy as np

from ppl_hmm.base.tokens import MASK
from ppl_hmm.models import HMM, MemoryHMM

# Cases are drawn so that one text has at most this many paths, or pairs of a memory and a path.
MAX_PATHS = 4096
MAX_PAIRS = 8192


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


def expected_uses(model: HMM, text: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how often a text is expected to use each entry of π₀ (K,), A (K,K) and W (K,V), by every path."""
    logs = log_joint(model, text)
    weights = np.exp(logs - np.logaddexp.reduce(logs))
    uses = np.zeros(model.n_states), np.zeros((model.n_states,) * 2), np.zeros((model.n_states, model.vocabulary_size))
    for path, weight in zip(all_paths(model.n_states, len(text)), weights, strict=True):
        uses[0][path[0]] += weight
        for t, token in enumerate(text):
            uses[1][path[t], path[t + 1]] += weight
            if token != MASK:
                uses[2][path[t + 1], token] += weight
    return uses


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


class Beliefs(NamedTuple):
    """Brute-force beliefs after each prefix x_1..x_t of a batch of texts, t = 0..T, behind a prompt."""

    filtered: np.ndarray  # (B,T+1,K): P(H_t | x_1..x_t)
    next_token: np.ndarray  # (B,T+1,V): P(X_{t+1} | x_1..x_t)
    log_prefix: np.ndarray  # (B,T+1): log P(x_1..x_t)


def beliefs(model: HMM, tokens: np.ndarray, prompt: np.ndarray | None = None) -> Beliefs:
    """Return the beliefs of tokens (B,T): each prefix is a text of its own, and its next token one more position."""
    answers = []
    for text in tokens:
        prefixes = [text[:t] for t in range(len(text) + 1)]
        answers.append(
            (
                [marginals(model, prefix, prompt)[-1] for prefix in prefixes],
                [conditional(model, [*prefix, MASK], len(prefix), prompt) for prefix in prefixes],
                [log_evidence(model, prefix, prompt) for prefix in prefixes],
            )
        )
    return Beliefs(*(np.array(field) for field in zip(*answers, strict=True)))


def after_rows(model: HMM, rows: list[np.ndarray]) -> np.ndarray:
    """Return P(H_S = h | S likelihood rows), the last state: (K,)."""
    return marginals(model, np.array([], int), np.array(rows) if rows else None)[-1]


class Case(NamedTuple):
    """A random model with text; ``lengths`` and ``prompt`` may be None."""

    model: HMM | MemoryHMM
    tokens: np.ndarray
    lengths: np.ndarray | None
    prompt: np.ndarray | None

    @property
    def masked_tokens(self) -> np.ndarray:
        """The tokens with MASK past each length: what ``lengths`` means."""
        if self.lengths is None:
            return self.tokens
        return np.where(np.arange(self.tokens.shape[1]) < self.lengths[:, None], self.tokens, MASK)

    @property
    def texts(self) -> list[np.ndarray]:
        """Each text up to its length, where lengths are given."""
        ends = [self.tokens.shape[1]] * len(self.tokens) if self.lengths is None else self.lengths
        return [text[:end] for text, end in zip(self.tokens, ends, strict=True)]

    @property
    def ended_texts(self) -> list[np.ndarray]:
        """Each text up to its end: its length, or else its last token that is not MASK."""
        ends = self.lengths
        if ends is None:
            ends = [max((t for t, x in enumerate(text, start=1) if x != MASK), default=0) for text in self.tokens]
        return [text[:end] for text, end in zip(self.tokens, ends, strict=True)]


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


# Models with a memory.


class Given(NamedTuple):
    """What a memory makes of a model and a prompt: a plain model with plain rows."""

    memory: tuple[int, ...]
    log_prior: float
    model: HMM
    prompt: np.ndarray | None  # (L,K)


def given_memories(model: MemoryHMM, prompt: np.ndarray | None = None) -> list[Given]:
    """Return the plain model of every memory (M_1, ..., M_N), in lexicographic order."""
    prior, emission = model.memory_prior.numpy(), model.emission.numpy()
    given = []
    for memory in itertools.product(range(model.n_memory_values), repeat=model.n_cells):
        read = [memory[cell] for cell in model.cell_of_state.tolist()]  # by each state
        with np.errstate(divide="ignore"):  # log 0 = -inf is meant
            log_prior = sum(np.log(prior[cell, value]) for cell, value in enumerate(memory))
        emits = np.array([emission[value, state] for state, value in enumerate(read)])
        rows = None
        if prompt is not None:
            rows = np.array([[row[value, state] for state, value in enumerate(read)] for row in prompt])
        given.append(Given(memory, float(log_prior), HMM(model.initial, model.transition, emits), rows))
    return given


def memory_log_joint(given: list[Given], text: np.ndarray) -> np.ndarray:
    """Return log P(memory, path, text): a row for each memory, a column for each of ``all_paths``."""
    return np.array([each.log_prior + log_joint(each.model, text, each.prompt) for each in given])


def normalised(logs: np.ndarray) -> np.ndarray:
    """Return exp(logs) divided by its sum; zeros where that is zero."""
    total = np.logaddexp.reduce(logs, axis=None)
    return np.zeros_like(logs) if total == -np.inf else np.exp(logs - total)


class MemoryTruth(NamedTuple):
    """Brute-force answers for a batch of texts under a memory model; prompt positions are left out."""

    log_evidence: np.ndarray  # (B,)
    initial: np.ndarray  # (B,K)
    smoothed: np.ndarray  # (B,T,K)
    conditionals: np.ndarray  # (B,T,V)
    memory: np.ndarray  # (B,N,m)
    joint: np.ndarray  # (B,m,...,m): P(M | text)


def memory_truth(model: MemoryHMM, tokens: np.ndarray, prompt: np.ndarray | None = None) -> MemoryTruth:
    """Return everything at once for tokens (B,T)."""
    given, n_prompt = given_memories(model, prompt), 0 if prompt is None else len(prompt)
    memories = np.array([each.memory for each in given])
    paths = all_paths(model.n_states, n_prompt + tokens.shape[1])
    answers = []
    for text in tokens:
        logs = memory_log_joint(given, text)
        law = normalised(logs)
        of_memory, of_path = law.sum(1), law.sum(0)
        states = np.array(
            [[of_path[paths[:, t] == h].sum() for h in range(model.n_states)] for t in range(paths.shape[1])]
        )
        cells = np.array(
            [[of_memory[memories[:, j] == a].sum() for a in range(model.n_memory_values)] for j in range(model.n_cells)]
        )
        conditionals = []
        for i in range(len(text)):
            changed = [np.concatenate([text[:i], [v], text[i + 1 :]]) for v in range(model.vocabulary_size)]
            evidence = [np.logaddexp.reduce(memory_log_joint(given, each), axis=None) for each in changed]
            conditionals.append(normalised(np.array(evidence)))
        joint = of_memory.reshape((model.n_memory_values,) * model.n_cells)
        answers.append(
            (np.logaddexp.reduce(logs, axis=None), states[0], states[1 + n_prompt :], conditionals, cells, joint)
        )
    return MemoryTruth(*(np.array(field) for field in zip(*answers, strict=True)))


class MemoryBeliefs(NamedTuple):
    """Brute-force beliefs after each prefix x_1..x_t under a memory model, behind a prompt."""

    joint: np.ndarray  # (B,T+1,m,...,m,K): P(M, H_t | x_1..x_t)
    next_token: np.ndarray  # (B,T+1,V)
    log_prefix: np.ndarray  # (B,T+1)


def memory_beliefs(model: MemoryHMM, tokens: np.ndarray, prompt: np.ndarray | None = None) -> MemoryBeliefs:
    """Return the beliefs of tokens (B,T): each prefix is a text of its own."""
    given = given_memories(model, prompt)
    answers = [[_after_prefix(model, given, text[:t]) for t in range(len(text) + 1)] for text in tokens]
    fields = zip(*(zip(*each, strict=True) for each in answers), strict=True)
    return MemoryBeliefs(*(np.array(field) for field in fields))


def _after_prefix(model: MemoryHMM, given: list[Given], prefix: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    logs = memory_log_joint(given, prefix)
    law, n_prompt = normalised(logs), 0 if given[0].prompt is None else len(given[0].prompt)
    last = all_paths(model.n_states, n_prompt + len(prefix))[:, -1]
    joint = np.array([law[:, last == h].sum(1) for h in range(model.n_states)]).T
    evidence = [
        np.logaddexp.reduce(memory_log_joint(given, np.append(prefix, v)), axis=None)
        for v in range(model.vocabulary_size)
    ]
    shape = (model.n_memory_values,) * model.n_cells + (model.n_states,)
    return joint.reshape(shape), normalised(np.array(evidence)), float(np.logaddexp.reduce(logs, axis=None))


def random_memory_model(
    rng: np.random.Generator, n_cells: int, n_values: int, n_states: int, vocabulary_size: int
) -> MemoryHMM:
    """Return a random memory model; half have exact zeros everywhere, a third repeat a state's rows, a third a value's.

    Cells that no state reads are included.
    """
    zeros = rng.choice([0.0, 0.4])
    emission = random_rows(rng, n_values, n_states, vocabulary_size, zeros=zeros)
    if rng.random() < 1 / 3:
        emission[:, -1] = emission[:, 0]
    if rng.random() < 1 / 3:
        emission[-1] = emission[0]
    return MemoryHMM(
        random_rows(rng, n_cells, n_values, zeros=zeros),
        random_rows(rng, n_states, zeros=zeros),
        random_rows(rng, n_states, n_states, zeros=zeros),
        rng.integers(n_cells, size=n_states),
        emission,
    )


def random_memory_case(seed: int) -> Case:
    """Return a random case of a memory model: N, m <= 3, K, V, T <= 4; zeros, repeats, masks, prompts, ragged lengths.

    K = 1, m = 1, N = 1 and T = 1 are included; the prompt is (L,m,K).
    """
    rng = np.random.default_rng(seed)
    n_cells, n_values = map(int, rng.integers(1, 4, size=2))
    n_states, vocabulary_size = map(int, rng.integers(1, 5, size=2))
    n_prompt = int(rng.choice([0, 1, 2], p=[0.5, 0.25, 0.25]))
    n_memories = n_values**n_cells
    longest = next(t for t in (4, 3, 2, 1) if n_memories * n_states ** (n_prompt + t + 1) <= MAX_PAIRS)
    length = int(rng.integers(1, longest + 1))
    tokens = rng.integers(vocabulary_size, size=(3, length))
    tokens[rng.random(tokens.shape) < 0.2] = MASK
    prompt = random_prompt(rng, n_prompt, n_values * n_states).reshape(n_prompt, n_values, n_states)
    return Case(
        random_memory_model(rng, n_cells, n_values, n_states, vocabulary_size),
        tokens,
        rng.integers(0, length + 1, size=3) if rng.random() < 0.3 else None,
        prompt if n_prompt else None,
    )
