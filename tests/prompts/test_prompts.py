"""Learned prompts: better than a head alone, repeatable, the same in a batch, for anything that is a MaskedLM."""

import numpy as np
import pytest
import torch

from ppl_hmm.errors import InvalidInput
from ppl_hmm.heads.linear import LinearHead
from ppl_hmm.inference.queries import posterior
from ppl_hmm.inference.sampling import sample
from ppl_hmm.language_models.oracle import OracleLM
from ppl_hmm.language_models.probe import probe_features
from ppl_hmm.language_models.protocol import MaskedLM
from ppl_hmm.models import HMM, SoftPrompt
from ppl_hmm.prompts.fitted import fit_prompt
from ppl_hmm.recoverability.head import head_certificate
from ppl_hmm.regimes import random_hmm, random_task

N_TRAIN, N_VALIDATION, N_TEST = 300, 100, 1000
LENGTH = 15
RESTARTS = 4


class Problem:
    """A model, its task and labelled text."""

    def __init__(self, regime, n_states, vocabulary_size, seed, **options):
        self.seed = seed
        self.model = random_hmm(regime, n_states, vocabulary_size, seed, **options)
        tokens = sample(self.model, N_TRAIN + N_VALIDATION + N_TEST, LENGTH, seed).tokens
        self.task = random_task(self.model, seed, tokens[:N_TRAIN])
        labels = self.task.labels(posterior(self.model, tokens))
        ends = N_TRAIN, N_TRAIN + N_VALIDATION
        self.train, self.validation, self.test = (
            (tokens[part], labels[part]) for part in (slice(ends[0]), slice(*ends), slice(ends[1], None))
        )

    def features(self, part, prompt=None):
        return probe_features(OracleLM(self.model), part[0], prompt=prompt, impossible="mask").numpy(), part[1].numpy()

    def fit(self, **options):
        options = {"validation": self.validation, "restarts": RESTARTS, "seed": self.seed, **options}
        return fit_prompt(OracleLM(self.model), *self.train, **options)


# K > V, where a head alone has too few numbers to read: (problem, what the prompt gains on fresh text).
HARD = {
    "wei2021-12-6": (("wei2021", 12, 6, 1), {}),
    "wei2021-8-4": (("wei2021", 8, 4, 1), {}),
    "dirichlet-8-4": (("dirichlet", 8, 4, 2), {"concentration": 0.1}),
    "dirichlet-6-3": (("dirichlet", 6, 3, 1), {"concentration": 0.3}),
}


@pytest.mark.parametrize("name", HARD)
def test_a_prompt_does_better_than_a_head_alone(name):
    arguments, options = HARD[name]
    problem = Problem(*arguments, **options)
    fit = problem.fit()
    head = LinearHead.select(*problem.features(problem.train), *problem.features(problem.validation))
    alone = head.score(*problem.features(problem.test))
    prompted = fit.head.score(*problem.features(problem.test, fit.prompt))
    standard_error = np.sqrt(0.25 / N_TEST)
    assert alone < 0.8
    assert prompted > alone + 0.1 + 4 * standard_error
    assert not head_certificate(problem.model, problem.task).recoverable


def test_what_a_fit_holds():
    problem = Problem("dirichlet", 6, 3, 1, concentration=0.3)
    fit = problem.fit()
    assert fit.prompt.rows.shape == (1, 6)
    assert (fit.prompt.rows >= 0).all()
    assert fit.history.shape[1:] == (RESTARTS,)
    assert torch.isfinite(fit.history).all()
    assert (fit.history >= 0).all()
    # Training lowers the loss.
    assert fit.history[-1].min() < 0.5 * fit.history[0].min()
    # The head is the best linear head after this prompt, and the score is its accuracy on validation text.
    train, validation = (problem.features(part, fit.prompt) for part in (problem.train, problem.validation))
    np.testing.assert_array_equal(fit.head.coef_, LinearHead.select(*train, *validation).coef_)
    assert fit.validation_score == fit.head.score(*validation)


def test_the_same_seed_gives_the_same_fit():
    problem = Problem("dirichlet", 6, 3, 1, concentration=0.3)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again, other = (problem.fit(seed=seed, restarts=2) for seed in (5, 5, 6))
    assert torch.equal(before, torch.get_rng_state())  # no global stream is read
    assert first.prompt.identical(again.prompt)
    assert torch.equal(first.history, again.history)
    np.testing.assert_array_equal(first.head.coef_, again.head.coef_)
    assert not first.prompt.allclose(other.prompt)


@pytest.mark.parametrize("regime", ["wei2021", "dirichlet"])
def test_a_batch_equals_one_by_one(regime):
    problems = [Problem(regime, 7, 4, seed) for seed in (0, 1)]
    together = fit_prompt(
        OracleLM(HMM.stack([problem.model for problem in problems])),
        *(torch.stack([problem.train[i] for problem in problems]) for i in (0, 1)),
        validation=tuple(torch.stack([problem.validation[i] for problem in problems]) for i in (0, 1)),
        restarts=2,
        seed=[problem.seed for problem in problems],
    )
    assert together.prompt.rows.shape == (2, 1, 7)
    assert together.history.shape[1:] == (2, 2)
    assert len(together.head) == 2
    assert together.validation_score.shape == (2,)
    for p, problem in enumerate(problems):
        alone = problem.fit(restarts=2)
        # Products of other shapes round differently, and 150 steps amplify it: seen up to 4e-10.
        np.testing.assert_allclose(together.prompt.rows[p], alone.prompt.rows, rtol=0, atol=1e-8)
        np.testing.assert_allclose(together.history[..., p], alone.history, rtol=0, atol=1e-8)
        np.testing.assert_array_equal(together.validation_score[p], alone.validation_score)
        features, _ = problem.features(problem.test, alone.prompt)
        np.testing.assert_array_equal(together.head[p].predict(features), alone.head.predict(features))


def test_one_seed_serves_all_models_of_a_batch():
    problem = Problem("dirichlet", 6, 3, 1, concentration=0.3)
    twice = HMM.stack([problem.model, problem.model])
    train, validation = ((part[0], part[1].expand(2, -1)) for part in (problem.train, problem.validation))
    fit = fit_prompt(OracleLM(twice), *train, validation=validation, restarts=2, seed=4)
    np.testing.assert_allclose(fit.prompt.rows[0], fit.prompt.rows[1], rtol=0, atol=1e-12)


def test_two_prompt_tokens():
    problem = Problem("dirichlet", 8, 4, 2, concentration=0.1)
    fit = problem.fit(prompt_length=2, restarts=2)
    assert fit.prompt.rows.shape == (2, 8)
    alone = LinearHead.select(*problem.features(problem.train), *problem.features(problem.validation))
    features, labels = problem.features(problem.test, fit.prompt)
    assert fit.head.score(features, labels) > alone.score(*problem.features(problem.test)) + 0.1


# The protocol is enough.


class FakeText:
    def __init__(self, lm, tokens):
        self.lm, self.tokens = lm, tokens

    def conditionals(self, prompt=None, positions=None):
        tokens = torch.where(self.tokens < 0, self.lm.vocabulary_size, self.tokens)
        bag = self.lm.embedding[tokens].mean(-2)  # (B,d)
        shift = torch.zeros(self.lm.prompt_shape) if prompt is None else prompt.sum(-2)  # (…,d)
        hidden = torch.tanh(8 * bag + shift[..., None, :])
        conditionals = (hidden @ self.lm.output).softmax(-1)[..., None, :]
        n_positions = self.tokens.shape[-1] if positions is None else len(positions)
        return conditionals.expand(*conditionals.shape[:-2], n_positions, -1)


class FakeLM:
    """A bag of words, shifted by the prompt, squashed, and read out: nothing but what the protocol asks for."""

    vocabulary_size = 4
    batch_shape = ()
    prompt_shape = (3,)
    prompt_constraint = "real"

    def __init__(self):
        stream = torch.Generator().manual_seed(0)
        self.embedding = torch.randn(5, 3, generator=stream, dtype=torch.float64)
        self.output = torch.randn(3, 4, generator=stream, dtype=torch.float64)

    def encode(self, tokens, lengths=None):
        assert lengths is None
        return FakeText(self, torch.as_tensor(tokens))

    def conditionals(self, tokens, *, prompt=None, positions=None, lengths=None):
        rows = prompt.rows if isinstance(prompt, SoftPrompt) else prompt
        return self.encode(tokens, lengths).conditionals(rows, positions)


def test_the_protocol_is_enough_and_real_prompts_are_free():
    lm = FakeLM()
    assert isinstance(lm, MaskedLM)
    tokens = torch.randint(4, (600, 9), generator=torch.Generator().manual_seed(1))
    # Does token 0 come exactly twice? A head on monotone readings of a bag needs the prompt's shift to say.
    labels = ((tokens == 0).sum(1) == 2).long()
    fit = fit_prompt(lm, tokens[:400], labels[:400], validation=(tokens[400:], labels[400:]), restarts=3, seed=0)
    assert fit.prompt.rows.shape == (1, 3)
    assert (fit.prompt.rows < 0).any()  # embeddings have signs
    assert (fit.history[-1] < fit.history[0]).all()
    features = probe_features(lm, tokens[400:], prompt=fit.prompt).numpy()
    assert fit.validation_score == fit.head.score(features, labels[400:])


def test_an_exact_model_is_a_masked_lm_and_others_are_not():
    assert isinstance(OracleLM(random_hmm("dirichlet", 2, 3, 0)), MaskedLM)
    assert not isinstance(random_hmm("dirichlet", 2, 3, 0), MaskedLM)
    assert not isinstance(object(), MaskedLM)


# Bad input.


def fit_with(**changes):
    problem = Problem("dirichlet", 4, 3, 0)
    tokens, labels = problem.train
    arguments = {"tokens": tokens, "labels": labels, "validation": problem.validation, "seed": 0, **changes}
    return fit_prompt(OracleLM(problem.model), **arguments)


ZEROS = torch.zeros(N_TRAIN, dtype=torch.int64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt_length": 0}, "prompt_length: expected an integer of at least 1, got 0"),
        ({"prompt_length": 1.5}, "prompt_length: expected an integer of at least 1, got 1.5"),
        ({"restarts": 0}, "restarts: expected an integer of at least 1, got 0"),
        ({"restarts": True}, "restarts: expected an integer of at least 1, got True"),
        ({"labels": ZEROS}, "training labels: expected at least two classes, for every model, got one class"),
        ({"labels": ZEROS[:-1]}, r"labels: expected shape \(300,\), got shape \(299,\); label every sequence"),
        ({"labels": ZEROS + 2}, "training labels: expected at least two classes, for every model, got one class"),
        ({"labels": ZEROS.double() + 0.5}, "labels: expected classes, got Unknown label type: continuous"),
        ({"tokens": ZEROS[:, None].expand(-1, 5) + 3}, "token out of range at sequence 0, position 0"),
        ({"tokens": ZEROS[:, None].expand(-1, 5).double()}, "tokens: expected integers, got torch.float64"),
        ({"tokens": ZEROS}, r"tokens: expected shape \(B, T\), got shape \(300,\)"),
        ({"validation": (ZEROS[:5, None], ZEROS[:4])}, r"labels: expected shape \(5,\), got shape \(4,\)"),
        ({"seed": -1}, "seed: expected a non-negative integer below 2⁶³ or a torch.Generator, got -1"),
        ({"seed": [0, 1]}, "seed: expected one seed, or 1, one for each model, got 2 seeds"),
    ],
)
def test_bad_input(changes, message):
    with pytest.raises(InvalidInput, match=message):
        fit_with(**changes)


def test_a_batch_of_batches_is_refused():
    model = random_hmm("dirichlet", 3, 3, 0)
    grid = HMM.stack([HMM.stack([model])])
    tokens = torch.zeros(4, 2, dtype=torch.int64)
    labels = torch.tensor([0, 1, 0, 1]).expand(1, 1, 4)
    with pytest.raises(InvalidInput, match=r"expected one batch dimension, got \(1, 1\)"):
        fit_prompt(OracleLM(grid), tokens, labels, validation=(tokens, labels), seed=0)


def test_one_class_in_one_model_of_a_batch_is_refused():
    model = random_hmm("dirichlet", 3, 3, 0)
    tokens = torch.zeros(4, 2, dtype=torch.int64)
    labels = torch.tensor([[0, 1, 0, 1], [1, 1, 1, 1]])
    with pytest.raises(InvalidInput, match="at least two classes, for every model"):
        fit_prompt(OracleLM(HMM.stack([model, model])), tokens, labels, validation=(tokens, labels), seed=0)
