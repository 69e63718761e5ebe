"""Where cones are split: any cone can be, blind heads become generators, and proofs close that did not without."""

import time

import numpy as np
import pytest
from test_refutation import drawn, texts_up_to

from ppl_hmm.base.tokens import as_tokens
from ppl_hmm.inference.queries import initial_posterior
from ppl_hmm.language_models.oracle import OracleLM
from ppl_hmm.language_models.probe import probe_features
from ppl_hmm.models import HMM
from ppl_hmm.recoverability.cones import halves, rays, roots
from ppl_hmm.recoverability.decision import FAINT, branched, refute_prompts
from ppl_hmm.recoverability.prompt import prompt_certificate
from ppl_hmm.recoverability.splitting import blind_emissions, where_to_split
from ppl_hmm.schema import Verdict
from ppl_hmm.tasks import PosteriorTask

RNG = np.random.default_rng(0)


def subdivided(n_tokens, emission, blind, n_splits):
    """The cones that repeated splits with a random λ leave."""
    cones = roots(n_tokens)
    for _ in range(n_splits):
        cone = cones.pop(0)
        mixture = RNG.random((len(emission), n_tokens)) * (RNG.random((len(emission), n_tokens)) < 0.5)
        split = where_to_split(cone, mixture, emission, blind)
        assert split.i != split.j
        assert min(split.share_i, split.share_j) >= 1
        cones += halves(cone, split)
    return cones


@pytest.mark.parametrize("n_tokens", [2, 3, 4])
@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_any_cone_is_split_between_two_generators(n_tokens, rank):
    emission = RNG.dirichlet(np.ones(n_tokens), size=rank)[RNG.integers(rank, size=6)]
    blind = blind_emissions(np.ones((6, 6)), emission, np.ones(6, bool))
    assert len(blind) == (np.linalg.matrix_rank(emission) < n_tokens)
    assert len(subdivided(n_tokens, emission, blind, 40)) == 2 * n_tokens + 40


@pytest.mark.parametrize(("n_tokens", "rank"), [(2, 1), (3, 2), (4, 3)])
def test_blind_heads_become_generators(n_tokens, rank):
    """One direction that nothing reads: after some splits it is in no cone's inside."""
    emission = RNG.dirichlet(np.ones(n_tokens), size=rank)
    direction = np.linalg.svd(emission)[2][-1]
    blind = blind_emissions(np.ones((rank, rank)), emission, np.ones(rank, bool))
    assert len(blind) == 1
    cones = subdivided(n_tokens, emission, blind, 60)
    for head in (direction, -direction):
        shares = [np.linalg.solve(rays(cone), head) for cone in cones]
        holding = [share / np.abs(share).max() for share in shares if share.min() > -1e-9 * np.abs(share).max()]
        assert holding
        assert all((share > 1e-9).sum() == 1 for share in holding)


def test_states_that_move_to_few_others_have_blind_heads():
    emission = np.array([[0.5, 0.5], [0.25, 0.75], [0.5, 0.5]])
    transition = np.array([[0.5, 0, 0.5], [0, 1, 0], [0.25, 0.5, 0.25]])
    assert len(blind_emissions(transition, emission, np.array([False, False, True]))) == 0
    assert [len(rows) for rows in blind_emissions(transition, emission, np.array([True, False, True]))] == [2]
    assert len(blind_emissions(transition, emission, np.ones(3, bool))) == 2


@pytest.mark.parametrize("seed", [1217, 1226, 1060, 1561])
def test_models_with_blind_heads_are_refuted(seed):
    """Aliased rows or zeros: thousands of cones did not do where blind heads were in their inside."""
    model, task, texts = drawn(seed, 1500)
    tokens = as_tokens(texts, model.vocabulary_size)
    _, refutation = branched(model, task, tokens, 1e-9 * float(task.scale), time.monotonic() + 60)
    assert refutation.margin == FAINT
    assert len(refutation.weights) < 100
    assert refutation.holds()
    assert refutation.holds_exactly()


def test_heads_that_read_nothing_at_all():
    """All states emit alike: nothing is refuted of all heads, and at once up to a margin."""
    model = HMM(np.ones(3) / 3, RNG.dirichlet(np.ones(3), size=3), np.array([[0.25, 0.75]] * 3))
    skewed = HMM(model.initial.numpy(), model.transition.numpy(), np.array([[0.25, 0.75], [0.25, 0.75], [0.75, 0.25]]))
    texts = texts_up_to(2, 30)
    for each in (model, skewed):
        task = PosteriorTask(np.array([[0.0, 0, 0], [1.0, 0.5, -1.45]]))
        for margin in (0.0, None):
            decision = refute_prompts(each, task, texts, margin=margin, seconds=0.5)
            assert decision.refutation is None or decision.refutation.holds_exactly()


def test_certificates_have_prompts_that_a_search_misses():
    """All random starts end with texts wrong, and branch and bound finds a prompt with none."""
    model, task, texts = drawn(1139, 1500)
    certificate = prompt_certificate(model, task, texts, seconds=4)
    assert certificate.verdict is Verdict.SEPARATES
    margins = task.margins(initial_posterior(model, texts)).numpy()
    scores = probe_features(OracleLM(model), texts, prompt=certificate.found.prompt).numpy() @ certificate.found.head
    assert (np.sign(scores) == np.sign(margins))[np.abs(margins) > 1e-9 * float(task.scale)].all()
