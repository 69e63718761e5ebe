"""How far a model may move: no perturbation within a radius breaks what is claimed, at random or against the claim."""

import itertools
from typing import NamedTuple

import numpy as np
import oracle
import pytest
import torch
from comparisons import case, check

from ppl_hmm import (
    HMM,
    MASK,
    OracleLM,
    PosteriorTask,
    chain_certificate,
    example,
    head_certificate,
    memory_certificate,
    position_certificate,
    posterior,
    probe_features,
    random_hmm,
    robustness,
    sample,
)
from ppl_hmm.exact.contraction import birkhoff_coefficient
from ppl_hmm.recoverability.robustness import distance


class Case(NamedTuple):
    """A certified head, and texts."""

    certificate: object
    tokens: np.ndarray

    @property
    def arrays(self):
        model = self.certificate.model
        return [model.initial, model.transition, model.emission]


def random_case(seed, n_texts=30):
    """Return one of 3 kinds of models with 1–3 masks, 2 or 3 classes, prompts, and masks in the texts now and then."""
    rng = np.random.default_rng(seed)
    kind, n_states, n_tokens = [("dirichlet", 4, 5), ("dirichlet", 5, 3), ("wei2021", 6, 10)][seed % 3]
    model = random_hmm(kind, n_states, n_tokens, seed=seed)
    if seed % 5 == 4:
        transition, emission = (oracle.random_rows(rng, *shape, zeros=0.2) for shape in ((4, 4), (4, 5)))
        model, n_states = HMM([0.4, 0.3, 0.3, 0.0], transition, emission), 4
    tokens = sample(model, n_texts, int(rng.integers(1, 12)), seed=seed).tokens.numpy()
    if seed % 4 == 1:
        tokens = np.where(rng.random(tokens.shape) < 0.2, MASK, tokens)
    prompt = oracle.random_prompt(rng, 1 + seed % 2, n_states) + 0.1 if seed % 4 == 0 else None
    task = PosteriorTask(rng.normal(size=(2 + seed % 2, n_states)))
    return Case(chain_certificate(model, task, 2 if n_tokens == 3 else 1, prompt), tokens)


def differences(arrays, certificate, tokens):
    """Return all pairs of P and N (models,B,C) of margins, then of scores, for each text's own class against others.

    π₀, A, W have a leading dimension, and their rows need not sum to one; the own class has P = 1, N = 0.
    """
    initial, transition, emission = arrays
    table = torch.cat([emission, torch.ones_like(emission[..., :1])], dim=-1)  # MASK is the last row
    message = torch.ones(len(initial), len(tokens), initial.shape[-1], dtype=torch.float64)
    for column in torch.as_tensor(tokens).T.flip(0):
        message = (message * table[:, :, column].mT) @ transition.mT
    law = initial[:, None]
    for row in [] if certificate.prompt is None else certificate.prompt.rows:
        law = (law @ transition) * row
    law = law @ transition
    weights, blocks = certificate.task.weights, []
    for _ in range(certificate.n_masks):
        blocks = [transition.mT @ block for block in blocks] + [law.mT * emission]
        law = law @ transition
    heads = certificate.weights
    heads = heads if heads.ndim == 2 else torch.stack([torch.zeros_like(heads), heads])
    labels = certificate.task.labels(posterior(certificate.model, tokens))
    found = []
    for rows, values in ((weights, message * initial[:, None]), (heads, message @ torch.cat(blocks, dim=-1))):
        change = rows[labels][:, None] - rows  # (B,C,n)
        parts = [torch.einsum("mbn,bcn->mbc", values, part.clamp(min=0)) for part in (change, -change)]
        own = torch.nn.functional.one_hot(labels, len(rows)).bool()
        found.append((parts[0].masked_fill(own, 1.0), parts[1].masked_fill(own, 0.0)))
    return found


def broken(arrays, certificate, tokens, claimed):
    """Say which models (models,) turn a label or an answer of a claimed text."""
    return torch.stack(
        [(up <= down).any(-1)[:, claimed].any(-1) for up, down in differences(arrays, certificate, tokens)]
    ).any(0)


def moved(arrays, directions, size):
    """Return arrays (models,…) times e^(size·direction)."""
    return [array * (size * direction).exp() for array, direction in zip(arrays, directions, strict=True)]


def against(this, claimed, size):
    """Return the directions (n,…) that lower log P/N of single claimed texts most, at first order, in two steps."""
    logs = [torch.zeros_like(array)[None].repeat(int(claimed.sum()), *[1] * array.ndim) for array in this.arrays]
    rows = torch.arange(len(logs[0]))
    for _ in range(2):
        logs = [each.detach().requires_grad_() for each in logs]
        pairs = differences(moved(this.arrays, logs, size), this.certificate, this.tokens)
        ratios = torch.stack([(up.log() - down.log()).amin(-1)[:, claimed][rows, rows] for up, down in pairs]).amin(0)
        ratios.where(ratios.isfinite(), 0).sum().backward()
        logs = [-each.grad.nan_to_num().sign() for each in logs]
    return logs


def at_random(rng, arrays, n):
    """Return n directions: corners of the box, and points in it."""
    corner = [torch.tensor(rng.choice([-1.0, 1.0], size=(n, *array.shape))) for array in arrays]
    return [
        torch.where(torch.arange(n).view(-1, *[1] * (each.ndim - 1)) % 4 > 0, each, each * rng.random())
        for each in corner
    ]


def smallest_break(this, claimed, directions, radius):
    """Return the least multiple of the radius, of those that grow by 5 %, at which some direction breaks something."""
    for multiple in np.geomspace(1, 1e3, 140):
        if broken(moved(this.arrays, directions, multiple * radius), this.certificate, this.tokens, claimed).any():
            return multiple
    return np.inf


def violations_and_breaks(seeds, n_random):
    """Return how many perturbations were tried at the radius, how many broke something, and the smallest breaks."""
    n_tried, n_broken, multiples = 0, 0, []
    for seed in seeds:
        this = random_case(seed)
        found = robustness(this.certificate, this.tokens)
        if not 0 < found.radius < np.inf:
            continue
        adversarial = against(this, found.claimed, found.radius)
        random = at_random(np.random.default_rng(seed), this.arrays, n_random)
        directions = [torch.cat(each) for each in zip(adversarial, random, strict=True)]
        failing = broken(
            moved(this.arrays, directions, found.radius * (1 - 1e-9)), this.certificate, this.tokens, found.claimed
        )
        n_tried, n_broken = n_tried + len(failing), n_broken + int(failing.sum())
        multiples.append(smallest_break(this, found.claimed, adversarial, found.radius))
    return n_tried, n_broken, np.array(multiples)


def test_nothing_breaks_within_the_radius():
    n_tried, n_broken, multiples = violations_and_breaks(range(9), 20)
    assert n_tried > 200
    assert n_broken == 0
    assert 1 < np.median(multiples) < 20


@pytest.mark.slow
def test_nothing_breaks_within_the_radius_of_many_models(record_property):
    n_tried, n_broken, multiples = violations_and_breaks(range(120), 100)
    record_property("multiples", np.sort(multiples).tolist())
    assert n_tried >= 10_000
    assert n_broken == 0


def perturbed(rng, model, size):
    """Return a model within ``size`` of another: entries moved by half of it, then rows divided by their sums."""
    rows = []
    for array in (model.initial, model.transition, model.emission):
        change = torch.tensor(rng.choice([-1.0, 1.0], size=tuple(array.shape))) * size / 2
        rows.append(array * change.exp() / (array * change.exp()).sum(-1, keepdim=True))
    return HMM(*rows)


def test_other_models_within_the_radius_have_the_same_labels_and_answers():
    n_texts = 0
    for seed in range(20):
        certificate, tokens = random_case(seed)
        found = robustness(certificate, tokens)
        if not 0 < found.radius < np.inf:
            continue
        other = perturbed(np.random.default_rng(seed), certificate.model, found.radius * (1 - 1e-6))
        assert found.covers(other)
        assert found.covers(certificate.model)
        labels = certificate.task.labels(posterior(certificate.model, tokens))[found.claimed]
        assert (certificate.task.labels(posterior(other, tokens))[found.claimed] == labels).all()
        prompt = None if certificate.prompt is None else certificate.prompt.rows
        features = probe_features(OracleLM(other), tokens, prompt=prompt, n_masks=certificate.n_masks).flatten(-2)
        scores = features @ torch.atleast_2d(certificate.weights).mT
        answers = (scores[:, 0] >= 0).long() if certificate.weights.ndim == 1 else scores.argmax(-1)
        assert (answers[found.claimed] == labels).all()
        n_texts += len(labels)
    assert n_texts > 200


def test_the_radius_of_a_text_is_the_least_of_margin_and_score():
    """Of a model with a zero in A, by the formula: log(P/N) over twice the number of factors."""
    model = HMM([0.5, 0.5], [[1.0, 0.0], [0.3, 0.7]], [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
    certificate = head_certificate(model, PosteriorTask([[1.0, 0], [0, 1.0]]))
    found = robustness(certificate, [[0, 2], [2, MASK]])
    for text, n_steps in (([0, 2], 4), ([2], 2)):
        share = posterior(model, [text]).initial[0]
        ratio = float((share[1] / share[0]).log().abs())
        scores = probe_features(OracleLM(model), [text])[0] * certificate.weights
        other = float((scores.clamp(min=0).sum() / (-scores).clamp(min=0).sum()).log().abs())
        expected = min(ratio / (2 * (1 + n_steps)), other / (2 * (3 + n_steps)))
        assert found.by_text[0 if n_steps == 4 else 1].item() == pytest.approx(expected, rel=1e-9)
    assert found.radius == found.by_text.min() == found.by_text[found.fragile]
    assert found.share(0.0) == 1
    assert found.share(found.radius) == 0.5


def test_the_condition_holds_within_its_radius():
    n_models = 0
    for seed in range(20):
        certificate, tokens = random_case(seed)
        radius = robustness(certificate, tokens).condition_radius
        if radius > 1e-9:
            for draw in range(3):
                other = perturbed(np.random.default_rng(draw), certificate.model, radius * (1 - 1e-6))
                n_masks, prompt = certificate.n_masks, certificate.prompt
                assert chain_certificate(other, certificate.task, n_masks, prompt, exact=True).proof.solved
            n_models += 1
    assert n_models > 12


def test_dependent_rows_leave_no_radius():
    certificate = head_certificate(*example("aliased"))
    assert robustness(certificate, [[0, 1]]).condition_radius == 0
    assert (
        robustness(
            head_certificate(random_hmm("dirichlet", 5, 3, seed=0), PosteriorTask(np.eye(5)[:2])), [[0]]
        ).condition_radius
        == 0
    )


def test_the_head_costs_margins_no_more_than_the_bound():
    n_claimed = 0
    for seed in (0, 3, 6, 7, 9, 12, 15):
        certificate, tokens = random_case(seed)
        if not certificate.recoverable or certificate.task.n_classes > 2:
            continue
        found = robustness(certificate, tokens)
        assert certificate.margin_error <= found.margin_error(0.0) <= 100 * certificate.margin_error + 1e-9
        texts = np.array(list(itertools.product(range(certificate.model.vocabulary_size), repeat=3)))
        for size in (1e-4, 1e-2):
            other, bound = perturbed(np.random.default_rng(seed), certificate.model, size), found.margin_error(size)
            law = posterior(other, texts, impossible="mask")
            possible = law.log_evidence.isfinite()
            margins = certificate.task.margins(law.initial)
            prompt = None if certificate.prompt is None else certificate.prompt.rows
            features = probe_features(OracleLM(other), texts[possible], prompt=prompt, n_masks=certificate.n_masks)
            scores = (
                features.flatten(-2) @ certificate.weights if features.ndim == 3 else features @ certificate.weights
            )
            beyond = margins[possible].abs() > bound
            assert ((scores >= 0) == (margins[possible] >= 0))[beyond].all()
            n_claimed += int(beyond.sum())
    assert n_claimed > 200


def test_rows_may_move_by_the_total_variation():
    certificate, tokens = random_case(0)
    found, rng = robustness(certificate, tokens), np.random.default_rng(0)
    for _ in range(50):
        rows = {}
        for name, limits in found.total_variation.items():
            array = getattr(certificate.model, name)
            step = torch.tensor(rng.normal(size=tuple(array.shape))) * (array > 0)
            step = (step - step.sum(-1, keepdim=True) / (array > 0).sum(-1, keepdim=True)) * (array > 0)
            size = step.abs().sum(-1, keepdim=True) / 2
            rows[name] = array + step / size.where(size > 0, 1) * limits[..., None] * (1 - 1e-9)
        assert found.covers(HMM(**rows))


def test_messages_come_closer_by_the_coefficient():
    rng = np.random.default_rng(0)

    def apart(v, w):
        ratios = np.log(v / w)
        return ratios.max() - ratios.min()

    for n_states in (2, 3, 6):
        transition = rng.dirichlet(np.ones(n_states), size=n_states)
        coefficient, largest = birkhoff_coefficient(torch.tensor(transition)), 0.0
        for _ in range(2000):
            v, w, row = np.exp(rng.normal(scale=rng.choice([0.1, 3, 20]), size=(3, n_states)))
            shrunk = apart(transition @ (row * v), transition @ (row * w)) / apart(v, w)
            assert shrunk <= coefficient + 1e-12
            largest = max(largest, shrunk)
        assert largest > 0.5 * coefficient


def test_moves_that_only_some_states_make_do_not_contract():
    assert birkhoff_coefficient(torch.eye(3, dtype=torch.float64)) == 1
    assert birkhoff_coefficient(torch.tensor([[0.5, 0.5, 0], [0.25, 0.75, 0], [0.5, 0.5, 0]], dtype=torch.float64)) < 1
    assert birkhoff_coefficient(torch.full((2, 2), 0.5, dtype=torch.float64)) == 0


def test_distances():
    model = random_hmm("dirichlet", 3, 4, seed=0)
    assert distance(model, model) == 0
    other = HMM(model.initial, torch.eye(3), model.emission)
    assert distance(model, other) == np.inf


def test_where_nothing_is_claimed():
    model = HMM([0.5, 0.5], [[0.5, 0.5], [0.5, 0.5]], [[0.5, 0.5], [0.2, 0.8]])  # text says nothing of H₀
    found = robustness(head_certificate(model, PosteriorTask([[1.0, 0], [0, 1.0]])), [[0, 1]])
    assert not found.claimed.any()
    assert (found.radius, found.median_radius, found.fragile, found.share(1.0)) == (np.inf, np.inf, None, 1.0)


POSITION = position_certificate(random_hmm("dirichlet", 3, 4, seed=0), PosteriorTask(np.eye(3)[:2], position=0))
BAD = [
    case(
        "memory",
        lambda: robustness(memory_certificate(*example("memory")), [[0]]),
        "certificate",
        "linear",
        "MemoryCertificate",
    ),
    case("position", lambda: robustness(POSITION, [[0]]), "robustness of a certificate", "H₀", "position 0"),
    case(
        "negative", lambda: robustness(*random_case(0)).margin_error(-1.0), "distance of a model", "at least 0", "-1.0"
    ),
    case(
        "sizes",
        lambda: distance(random_hmm("dirichlet", 3, 4, seed=0), random_hmm("dirichlet", 2, 4, seed=0)),
        "initial",
        "(3,)",
        "(2,)",
    ),
]


@pytest.mark.parametrize(("call", "what", "expected", "got", "error"), BAD)
def test_bad_input(call, what, expected, got, error):
    check(call, what, expected, got, error)
