"""Worked examples that others have published, computed by the package and by exact fractions.

Elsewhere the first state emits, here H₀ is silent. So the model gets one more state, last and silent, from which the
first transition is the published starting law. Likelihood rows that do not sum to one (densities, rounded tables) are
divided by the largest sum, and one more token, which no text holds, gets the rest.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from fractions import Fraction

import numpy as np
import torch

from ppl_hmm import HMM, MASK, log_likelihood, posterior, viterbi

UNOBSERVED = "?"


def fractions(table):
    """Return the exact entries of a table: rows are lines or sequences, entries are strings or floats."""
    rows = table.strip().replace("\n", ";").split(";") if isinstance(table, str) else table
    return [[Fraction(entry) for entry in (row.split() if isinstance(row, str) else row)] for row in rows]


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """A model and a text, as published, with the published numbers as they were printed.

    ``start`` is the law of the first state that emits; where ``silent_start``, of the one before, as in this package
    (there best paths are not compared: ours choose H₀ as well).
    ``emission`` has a column for each letter of ``alphabet``. ``published`` says what was printed of each quantity, a
    property of ``Ours`` and ``Exact``.
    """

    name: str
    start: object
    transition: object
    emission: object
    alphabet: str
    text: str
    published: dict[str, str]
    states: str = "AB"
    silent_start: bool = False

    @functools.cached_property
    def tokens(self):
        return [MASK if letter == UNOBSERVED else self.alphabet.index(letter) for letter in self.text]


def with_end(example):
    """Return an example whose text says that it ends: rows of ``transition`` hold the probability to end, last."""
    n_states = len(fractions(example.transition))
    transition = [*fractions(example.transition), [0] * n_states + [1]]
    emission = [[*row, 0] for row in fractions(example.emission)] + [[0] * len(example.alphabet) + [1]]
    return dataclasses.replace(
        example,
        start=[[*fractions(example.start)[0], 0]],
        transition=transition,
        emission=emission,
        alphabet=example.alphabet + ".",
        text=example.text + ".",
        states=example.states + ".",
    )


def observed(data, *densities):
    """Return the text and the emissions of data with a density for each state: every position is its own token."""
    alphabet = "0123456789"[: len(data)]
    text = "".join(UNOBSERVED if x is None else letter for letter, x in zip(alphabet, data, strict=True))
    emission = [[0 if x is None else density(x) for x in data] for density in densities]
    return {"alphabet": alphabet, "text": text, "emission": emission}


def logarithms(values):
    """Return natural logarithms, −inf of zeros."""
    with np.errstate(divide="ignore"):
        return np.log(np.array(values, float))


class Quantities:
    """What both computations derive from ``prefixes`` (likelihoods), ``filtered``, ``entered`` and ``backward``."""

    @property
    def likelihood(self):
        return self.prefixes[-1]

    @property
    def log_likelihood(self):
        return math.log(self.likelihood)

    @property
    def log2_path_probability(self):
        return math.log2(self.path_probability)

    @property
    def log_path_probability(self):
        return math.log(self.path_probability)

    @property
    def path_probability(self):
        return self.best_of_prefixes[-1]

    @property
    def forward(self):
        """P(x_1..x_t, H_t=h)."""
        return np.array([p * np.array(row) for p, row in zip(self.prefixes, self.filtered, strict=True)])

    @property
    def own_and_backward(self):
        """P(x_t..x_T | H_t=h)."""
        return np.array(self.rows) * self.backward

    @property
    def likeliest(self):
        """The states that are most probable one by one."""
        return "".join(self.example.states[np.argmax(row)] for row in self.smoothed)

    @property
    def log_smoothed(self):
        return logarithms(self.smoothed)

    @property
    def log_forward(self):
        return logarithms(self.forward)

    @property
    def log_backward(self):
        return logarithms(self.backward)


class Exact(Quantities):
    """The example in fractions."""

    def __init__(self, example):
        self.example = example
        self.start, self.A, W = (fractions(table) for table in (example.start, example.transition, example.emission))
        self.rows = [[1 if x == MASK else row[x] for row in W] for x in example.tokens]
        self.start = np.array(self.start[0])
        self.A = np.array(self.A)
        first = self.start @ self.A if example.silent_start else self.start
        entered, best, alphas, bests, came_from = first, first, [], [], []
        self.entered = []
        for row in self.rows:
            self.entered.append(entered)
            alphas.append(entered * row)
            bests.append(best * row)
            ways = bests[-1][:, None] * self.A
            came_from.append(ways.argmax(0))
            entered, best = alphas[-1] @ self.A, ways.max(0)
        betas = [np.full_like(first, Fraction(1))]
        for row in self.rows[:0:-1]:
            betas.insert(0, self.A @ (betas[0] * row))
        self.prefixes = [alpha.sum() for alpha in alphas]
        self.filtered = [alpha / alpha.sum() for alpha in alphas]
        self.backward = betas
        self.best_of_prefixes = [best.max() for best in bests]
        self.smoothed = [alpha * beta / self.likelihood for alpha, beta in zip(alphas, betas, strict=True)]
        states = [bests[-1].argmax()]
        for ways in came_from[-2::-1]:
            states.insert(0, ways[states[0]])
        self.path = "".join(example.states[state] for state in states)

    @property
    def initial(self):
        """P(H₀=h | x), where the start is silent."""
        return self.start * (self.A @ (self.backward[0] * self.rows[0])) / self.likelihood


class Ours(Quantities):
    """The example by the package; the silent state and the scale of the emissions are taken out again."""

    def __init__(self, example):
        self.example = example
        start, transition, emission = (
            np.array(fractions(table), float) for table in (example.start, example.transition, example.emission)
        )
        self.n_states = len(transition)
        self.rows = [[1.0 if x == MASK else row[x] for row in emission] for x in example.tokens]
        self.scale = max(1.0, emission.sum(1).max())
        emission = np.column_stack([emission / self.scale, 1 - emission.sum(1) / self.scale]).clip(0)
        if not example.silent_start:
            silent = np.zeros(self.n_states + 1)
            silent[-1] = 1
            transition = np.block([[transition, np.zeros((self.n_states, 1))], [start, np.zeros((1, 1))]])
            emission = np.vstack([emission, np.full(emission.shape[1], 1 / emission.shape[1])])
            start = silent[None]
        self.model = HMM(start[0], transition, emission)
        self.tokens = torch.tensor([example.tokens])

    def probability(self, log_probability, tokens):
        """Return a probability of observed tokens in the unit of the published emissions."""
        n_observed = sum(token != MASK for token in tokens)
        return math.exp(float(log_probability) + n_observed * math.log(self.scale))

    @functools.cached_property
    def of_text(self):
        return posterior(self.model, self.tokens)

    @functools.cached_property
    def of_prefixes(self):
        """One sequence for each prefix, by its length."""
        length = self.tokens.shape[1]
        return posterior(self.model, self.tokens.expand(length, length), lengths=range(1, length + 1))

    @property
    def initial(self):
        return self.of_text.initial[0].numpy()

    @property
    def smoothed(self):
        return self.of_text.smoothed[0, :, : self.n_states].numpy()

    @property
    def likelihood(self):
        return self.probability(log_likelihood(self.model, self.tokens)[0], self.example.tokens)

    @property
    def log_likelihood(self):
        n_observed = sum(token != MASK for token in self.example.tokens)
        return float(log_likelihood(self.model, self.tokens)[0]) + n_observed * math.log(self.scale)

    @property
    def prefixes(self):
        logs = self.of_prefixes.log_evidence
        return [self.probability(log, self.example.tokens[: t + 1]) for t, log in enumerate(logs)]

    @property
    def filtered(self):
        return [self.of_prefixes.smoothed[t, t, : self.n_states].numpy() for t in range(self.tokens.shape[1])]

    @property
    def entered(self):
        """P(x_1..x_{t-1}, H_t=h): past the end of a text its smoothed law is predictive."""
        length = self.tokens.shape[1]
        laws = posterior(self.model, self.tokens.expand(length, length), lengths=range(length))
        return [
            laws.smoothed[t, t, : self.n_states].numpy()
            * self.probability(laws.log_evidence[t], self.example.tokens[:t])
            for t in range(length)
        ]

    @property
    def backward(self):
        """P(x_{t+1}..x_T | H_t=h): the likelihood of a suffix where the silent state is h."""
        known = torch.eye(self.model.n_states, dtype=torch.float64)[: self.n_states]
        models = HMM.stack([dataclasses.replace(self.model, initial=row) for row in known])
        length = self.tokens.shape[1]
        suffixes = [log_likelihood(models, self.tokens[:, t:])[:, 0] for t in range(1, length)]
        rows = [
            [self.probability(log, self.example.tokens[t:]) for log in logs] for t, logs in enumerate(suffixes, start=1)
        ]
        return [*rows, [1.0] * self.n_states]

    @property
    def path(self):
        return "".join(self.example.states[state] for state in viterbi(self.model, self.tokens).states[0])

    @property
    def best_of_prefixes(self):
        prefixes = [self.tokens[:, : t + 1] for t in range(self.tokens.shape[1])]
        best = [viterbi(self.model, prefix).log_probability[0] for prefix in prefixes]
        return [self.probability(log, self.example.tokens[: t + 1]) for t, log in enumerate(best)]


def half_a_unit(printed):
    """Return half a unit of the last printed digit: '0.8673' is right within 0.00005."""
    mantissa, _, exponent = printed.lower().partition("e")
    return 0.5 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def assert_rounds_to(values, printed, what):
    """Compare a number, or the leading rows and columns of a table, with what was printed, to the last digit."""
    table = [row.split() for row in printed.strip().replace("\n", ";").split(";")]
    if table == [[printed]]:
        table, values = [[printed]], [[values]]
    elif np.ndim(values) == 1:
        values = [values] if len(table) == 1 else [[value] for value in values]
    for r, row in enumerate(table):
        for c, digits in enumerate(row):
            error = abs(float(values[r][c]) - float(digits))
            message = f"{what}[{r}, {c}]: {float(values[r][c])!r}, published as {digits}"
            assert error <= half_a_unit(digits) * (1 + 1e-9) + 1e-15 * abs(float(digits)), message


def check(example, quantity):
    """Check that the package agrees with exact fractions, and these with the published digits."""
    ours, exact = (getattr(computed(example), quantity) for computed in (Ours, Exact))
    printed = example.published[quantity]
    if isinstance(exact, str):
        assert ours == exact == printed
        return
    ours, floats = np.array(ours, float), np.array(exact, float)
    np.testing.assert_allclose(ours, floats, rtol=1e-10, atol=1e-14 if quantity.startswith("log") else 1e-300)
    assert_rounds_to(exact, printed, f"{example.name}: {quantity}")
