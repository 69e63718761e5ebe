"""Every diagnostic against an independent computation: enumeration of the joint law, algebra by hand, repetition."""

import itertools

import numpy as np
import oracle
import pytest
from scipy.optimize import linprog

from ppl_hmm import (
    HMM,
    LinearHead,
    MemoryHMM,
    MemoryTask,
    OracleLM,
    PosteriorTask,
    audit,
    example,
    memory_certificate,
    pair_spectrum,
    probe_features,
    prompt_certificate,
    random_hmm,
    random_memory_hmm,
    transfer,
    triple_spectrum,
)
from ppl_hmm.audits import arrays, groups
from ppl_hmm.audits.texts import texts_to_read
from ppl_hmm.base.tokens import MASK

LENGTH = 3
MODELS = {
    **{
        f"random-{seed}": oracle.random_model(np.random.default_rng(seed), 1 + seed % 4, 1 + seed % 3)
        for seed in range(9)
    },
    "nearly-deterministic": random_hmm("wei2021", 4, 3, 1),
    "positive": random_hmm("dirichlet", 3, 3, 1),
    "aliased": example("aliased")[0],
    # Texts that begin with token 2 come from H_1 = 3, which only H_0 = 4 enters: with a mask in front none can.
    "impossible-contexts": HMM(
        [0.2, 0.3, 0.2, 0, 0.3],
        [[0.6, 0.3, 0.1, 0, 0], [0.1, 0.6, 0.3, 0, 0], [0.3, 0.1, 0.6, 0, 0], [0.2, 0.5, 0.3, 0, 0], [0, 0, 0, 1, 0]],
        [[0.9, 0.1, 0], [0.1, 0.9, 0], [0.4, 0.6, 0], [0, 0, 1], [1, 0, 0]],
    ),
    **{
        f"memory-{seed}": oracle.random_memory_model(np.random.default_rng(seed), 2, 1 + seed % 3, 1 + seed % 3, 2)
        for seed in range(6)
    },
    "memory": example("memory")[0],
}
MEMORIES = [name for name in MODELS if name.startswith("memory")]


def task_of(model, n_classes=2, seed=0):
    """Return a random task; that of a memory model is about its last cell."""
    rng = np.random.default_rng(seed)
    if isinstance(model, MemoryHMM):
        return MemoryTask(rng.normal(size=(n_classes, model.n_memory_values)), model.n_cells - 1)
    return PosteriorTask(rng.normal(size=(n_classes, model.n_states)))


def all_of(model, length=LENGTH):
    texts = texts_to_read(model, None, None, n_sequences=10**6, length=length, seed=0)
    assert texts.exact
    return texts


def joint_law(model, task, texts):
    """Return P(latent = h, x) (B,n) by summing over all paths, and all memories."""
    if isinstance(model, MemoryHMM):
        given, cell = oracle.given_memories(model), int(task.target_cell)
        of_value = np.eye(model.n_memory_values)[[each.memory[cell] for each in given]]  # (memories,m)
        return np.array([np.exp(oracle.memory_log_joint(given, text)).sum(1) @ of_value for text in texts])
    starts = np.eye(model.n_states)[oracle.all_paths(model.n_states, texts.shape[1])[:, 0]]
    return np.array([np.exp(oracle.log_joint(model, text)) @ starts for text in texts])


def laws(joint):
    """Return P(x) and P(latent | x) of possible texts."""
    evidence = joint.sum(1)
    return evidence, joint / evidence[:, None]


def nats(law):
    """Return the entropy, 0 log 0 = 0, in plain Python."""
    return -sum(p * np.log(p) for p in law if p > 0)


# Texts, and expectations over them.


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("length", [1, LENGTH])
def test_all_texts_have_the_law_of_the_model(name, length):
    model, texts = MODELS[name], all_of(MODELS[name], length)
    every = oracle.all_texts(model.vocabulary_size, length)
    evidence = joint_law(model, task_of(model), every).sum(1)
    np.testing.assert_array_equal(texts.tokens, every[evidence > 0])
    np.testing.assert_allclose(texts.weights, evidence[evidence > 0], rtol=1e-11)
    assert texts.weights.sum() == pytest.approx(1, abs=1e-14)


def test_texts_are_all_there_are_if_they_are_no_more():
    model = random_hmm("dirichlet", 2, 3, 0)
    options = {"tokens": None, "lengths": None, "length": 4, "seed": 0}
    assert texts_to_read(model, n_sequences=81, **options).source == "all texts of 4 tokens"
    few = texts_to_read(model, n_sequences=80, **options)
    assert (few.source, few.exact, few.tokens.shape) == ("80 sampled texts of 4 tokens", False, (80, 4))
    assert texts_to_read(model, n_sequences=1, **options | {"length": 1}).tokens.shape == (1, 1)
    ragged = texts_to_read(model, n_sequences=90, **options | {"lengths": np.arange(90) % 5})
    np.testing.assert_array_equal((ragged.tokens == MASK).sum(1), 4 - np.arange(90) % 5)
    given = texts_to_read(model, n_sequences=90, **options | {"tokens": [[0, 1], [2, MASK]], "lengths": [1, 2]})
    assert (given.source, given.tokens.tolist()) == ("2 given texts", [[0, MASK], [2, MASK]])


def test_expectations_by_hand():
    values = np.array([[0.0, 1.0], [2.0, 1.0], [7.0, 1.0]])
    exact = arrays.expectation(values, np.array([0.5, 0.25, 0.25]))
    np.testing.assert_array_equal(exact, [[2.25, 1], [0, 0]])
    sampled = arrays.expectation(values)
    np.testing.assert_allclose(sampled.value, [3, 1])
    np.testing.assert_allclose(sampled.standard_error, [np.sqrt(13 / 3), 0])  # Σ(v − 3)² = 26 over 2, then over 3
    assert arrays.expectation(values[:1]).standard_error.tolist() == [np.inf, np.inf]
    assert arrays.expectation(np.array([True, False, True, True])) == (0.75, 0.25)


def test_quantiles_by_hand():
    values, weights = np.array([3.0, 1.0, 2.0]), np.array([0.25, 0.5, 0.25])
    np.testing.assert_array_equal(
        arrays.quantiles(values, np.array([0, 0.4, 0.5, 0.6, 0.75, 0.8, 1]), weights), [1, 1, 1, 2, 2, 3, 3]
    )
    np.testing.assert_array_equal(arrays.quantiles(values, np.array([0.3, 0.5, 0.9])), [1, 2, 3])


N_TEXTS, N_SAMPLES = 200, 300


@pytest.mark.parametrize("name", ["aliased", "positive", "memory"])
def test_monte_carlo_is_as_far_off_as_its_standard_error_says(name):
    """Over many samples, (estimate − truth)/standard error has mean 0 and mean square 1, and is never beyond five."""
    model = MODELS[name]
    gains = PosteriorTask(np.diag(1 / model.initial.numpy())[:2])  # which of two states does the text speak for?
    task = gains if name == "positive" else example(name)[1]
    joint = joint_law(model, task, oracle.all_texts(model.vocabulary_size, LENGTH))
    evidence, law = laws(joint)

    def estimates(law, weights=None):
        answers = task.answers(law)
        return {
            "information": arrays.information(joint.sum(0), law, weights),
            "bayes_accuracy": arrays.bayes_accuracy(law, weights),
            "posterior": arrays.expectation(law, weights),
            "class_share": arrays.expectation(answers.labels.numpy() == 1, weights),
            "margin": arrays.expectation(answers.margins.abs().numpy(), weights),
        }

    texts = np.random.default_rng(0).choice(len(evidence), p=evidence / evidence.sum(), size=(N_SAMPLES, N_TEXTS))
    sampled = [estimates(law[chosen]) for chosen in texts]
    for quantity, (truth, error) in estimates(law, evidence).items():
        assert np.all(error == 0)
        values, errors = (np.array([each[quantity][part] for each in sampled]) for part in (0, 1))
        assert np.all(errors > 0)
        scores = (values - truth) / errors
        assert np.abs(scores).max() < 5, quantity
        np.testing.assert_allclose(scores.mean(0), 0, atol=5 / np.sqrt(N_SAMPLES))
        np.testing.assert_allclose((scores**2).mean(0), 1, atol=5 * np.sqrt(2 / N_SAMPLES))


# What texts tell, by length.


def by_length_by_hand(model, task, length):
    """Return, for every prefix length, information, Bayes accuracy, distance to the whole and share of equal answers.

    All from one joint law of the latent and texts of ``length`` tokens.
    """
    joint = joint_law(model, task, oracle.all_texts(model.vocabulary_size, length))
    n_latents = joint.shape[1]
    prior, found = joint.sum(0), {}
    for t in range(1, length + 1):
        prefixes = joint.reshape(model.vocabulary_size**t, -1, n_latents)  # texts in lexicographic order
        short = prefixes.sum(1)
        information, distance, same = 0.0, 0.0, 0.0
        for prefix, whole in zip(short, prefixes, strict=True):
            for p, p_h in zip(prefix, prior, strict=True):
                information += p * np.log(p / (prefix.sum() * p_h)) if p > 0 else 0
            for text in whole[whole.sum(1) > 0]:
                before, after = prefix / prefix.sum(), text / text.sum()
                distance += text.sum() * np.abs(before - after).sum() / 2
                same += text.sum() * (answer(task, before) == answer(task, after))
        found[t] = information, short.max(1).sum(), distance, same
    return found


def answer(task, law):
    """Return the class of the highest score, None if it leads by no more than 1e-12 of the largest difference."""
    scores = task.weights.numpy() @ law
    first, second = np.sort(scores)[::-1][:2]
    return None if first - second <= 1e-12 * np.ptp(task.weights.numpy(), axis=0).max() else scores.argmax()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("n_classes", "length"), [(2, LENGTH), (3, LENGTH), (2, 1)])
def test_information_accuracy_and_forgetting_by_length(name, n_classes, length):
    model = MODELS[name]
    task = task_of(model, n_classes)
    found = groups.by_length(model, task, all_of(model, length))
    expected = by_length_by_hand(model, task, length)
    lengths = sorted({1, 2, length} & {*range(1, length + 1)})
    names = ("information", "bayes_accuracy"), ("truncation_distance", "same_label")
    for group, variables, columns in zip(("information", "forgetting"), names, ((0, 1), (2, 3)), strict=True):
        dataset = found[group]
        assert dataset["length"].values.tolist() == lengths
        for variable, column in zip(variables, columns, strict=True):
            np.testing.assert_allclose(dataset[variable], [expected[t][column] for t in lengths], atol=1e-11)
            assert (dataset[f"{variable}_se"] == 0).all()
    prior = joint_law(model, task, oracle.all_texts(model.vocabulary_size, 1)).sum(0)
    assert found["information"]["prior_entropy"].item() == pytest.approx(nats(prior), abs=1e-12)
    assert (found["information"]["information"] >= -1e-12).all()
    assert (found["information"]["information"] <= nats(prior) + 1e-12).all()


def test_lengths_are_powers_of_two_and_the_whole():
    model, task = example("aliased")
    texts = texts_to_read(model, None, None, n_sequences=5, length=20, seed=0)
    assert groups.by_length(model, task, texts)["information"]["length"].values.tolist() == [1, 2, 4, 8, 16, 20]


def test_the_sign_of_rounding_is_no_label():
    """Where text tells nothing all margins are rounding, and truncation changes no answer."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        initial = rng.dirichlet(np.ones(3))
        model = HMM(initial, rng.dirichlet(np.ones(3), size=3), np.tile(rng.dirichlet(np.ones(3)), (3, 1)))
        task = PosteriorTask([[0, 0, 0], [initial[1], -initial[0], 0]])
        found = groups.by_length(model, task, all_of(model, 5))["forgetting"]
        np.testing.assert_allclose(found["same_label"], 1, atol=1e-12)
        np.testing.assert_allclose(found["truncation_distance"], 0, atol=1e-14)


def test_ends_and_masks_tell_nothing():
    """Ragged and masked text: posteriors are those of the oracle, and a prefix past the end is the whole text."""
    model, task = MODELS["positive"], task_of(MODELS["positive"])
    rng = np.random.default_rng(0)
    text, lengths = rng.integers(3, size=(40, 5)), rng.integers(0, 6, size=40)
    text[rng.random(text.shape) < 0.2] = MASK
    masked = np.where(np.arange(5) < lengths[:, None], text, MASK)
    texts = texts_to_read(model, text, lengths, n_sequences=1, length=1, seed=0)
    found = groups.by_length(model, task, texts)
    for t in (1, 2, 4, 5):
        law = np.array([oracle.marginals(model, each[:t])[0] for each in masked])
        whole = np.array([oracle.marginals(model, each)[0] for each in masked])
        entropies, distances = np.array([nats(each) for each in law]), np.abs(law - whole).sum(1) / 2
        information, forgetting = found["information"].sel(length=t), found["forgetting"].sel(length=t)
        assert information["information"].item() == pytest.approx(nats(model.initial.numpy()) - entropies.mean())
        assert information["information_se"].item() == pytest.approx(entropies.std(ddof=1) / np.sqrt(40))
        assert information["bayes_accuracy"].item() == pytest.approx(law.max(1).mean())
        assert forgetting["truncation_distance"].item() == pytest.approx(distances.mean(), abs=1e-12)
        assert forgetting["truncation_distance_se"].item() == pytest.approx(
            distances.std(ddof=1) / np.sqrt(40), abs=1e-12
        )


# Forgetting of the chain itself.


@pytest.mark.parametrize("n_states", [2, 3, 5])
def test_mixing_by_construction(n_states):
    """(1−a)I + a·1πᵀ forgets by 1−a at each step, whichever way it is measured."""
    stationary = np.random.default_rng(n_states).dirichlet(np.ones(n_states))
    for forgotten in (0.0, 0.3, 1.0):
        transition = (1 - forgotten) * np.eye(n_states) + forgotten * stationary
        assert arrays.dobrushin_coefficient(transition) == pytest.approx(1 - forgotten)
        assert arrays.second_eigenvalue(transition) == pytest.approx(1 - forgotten, abs=1e-12)


def test_one_state_forgets_at_once():
    assert arrays.dobrushin_coefficient(np.ones((1, 1))) == 0
    assert arrays.second_eigenvalue(np.ones((1, 1))) == 0


@pytest.mark.parametrize("seed", range(10))
def test_laws_come_closer_by_the_dobrushin_coefficient(seed):
    rng = np.random.default_rng(seed)
    transition = oracle.random_rows(rng, 4, 4, zeros=0.4)
    coefficient = arrays.dobrushin_coefficient(transition)
    laws = oracle.random_rows(rng, 200, 4, zeros=0.4)
    before = np.abs(laws[:, None] - laws).sum(-1)
    after = np.abs((laws @ transition)[:, None] - laws @ transition).sum(-1)
    assert (after <= coefficient * before + 1e-12).all()
    # Some two states attain it, and no eigenvalue below the first exceeds it.
    pairs = [np.abs(a - b).sum() / 2 for a, b in itertools.combinations(transition, 2)]
    assert coefficient == pytest.approx(max(pairs))
    assert arrays.second_eigenvalue(transition) <= coefficient + 1e-9
    assert arrays.dobrushin_coefficient(transition @ transition) <= coefficient**2 + 1e-12


# Margins.


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_margins_by_enumeration(name, n_classes):
    model = MODELS[name]
    task = task_of(model, n_classes)
    evidence, law = laws(joint_law(model, task, all_of(model).tokens.numpy()))
    scores = law @ task.weights.numpy().T
    ordered = np.sort(scores, axis=1)
    sizes = (ordered[:, -1] - ordered[:, -2]) / np.ptp(task.weights.numpy(), axis=0).max()
    found = groups.margins(task, task.answers(law), evidence)
    for quantile, value in zip(found["quantile"].values, found["margin"].values, strict=True):
        below, reached = evidence[sizes < value - 1e-9].sum(), evidence[sizes <= value + 1e-9].sum()
        assert below <= quantile + 1e-12
        assert reached >= quantile - 1e-12
        assert np.abs(sizes - value).min() < 1e-12
    sure = sizes > 1e-9
    labels = scores.argmax(1)
    for label, share in enumerate(found["class_share"].values):
        low = evidence[sure & (labels == label)].sum()
        assert low - 1e-9 <= share <= low + evidence[~sure].sum() + 1e-9
    assert found["class_share"].sum().item() == pytest.approx(1)
    assert found["undecidable"].item() == pytest.approx(evidence[~sure].sum(), abs=1e-12)
    assert found["undecidable_se"] == 0


# Linear maps.


def second_moments(features, law, weights, *, centred):
    """Return the least E‖P − CG − c‖² and C by normal equations: c = 0, or any."""
    if centred:
        features, law = features - weights @ features, law - weights @ law
    gram, cross = (features * weights[:, None]).T @ features, (law * weights[:, None]).T @ features
    matrix = cross @ np.linalg.pinv(gram, rcond=1e-12)
    return weights @ ((law - features @ matrix.T) ** 2).sum(1), matrix


@pytest.mark.parametrize("seed", range(6))
def test_the_best_linear_map_solves_the_normal_equations(seed):
    """Centred and uncentred minima coincide; what is left is orthogonal to the features; a sample is a law, too."""
    rng = np.random.default_rng(seed)
    features, law = rng.dirichlet(np.ones(4), size=60), rng.dirichlet(np.ones(3), size=60)
    for weights in (rng.dirichlet(np.ones(60)), None):
        shares = np.full(60, 1 / 60) if weights is None else weights
        found = arrays.best_linear_map(features, law, weights)
        least, matrix = second_moments(features, law, shares, centred=False)
        np.testing.assert_allclose(found.matrix, matrix, atol=1e-9)
        assert found.squared_error.value == pytest.approx(least)
        assert found.squared_error.value == pytest.approx(second_moments(features, law, shares, centred=True)[0])
        left = law - features @ found.matrix.T
        np.testing.assert_allclose((left * shares[:, None]).T @ features, 0, atol=1e-12)
        variance = shares @ (law - shares @ law) ** 2
        np.testing.assert_allclose(found.kept, 1 - shares @ left**2 / variance, atol=1e-9)
        assert (found.kept >= -1e-12).all()
        error = 0 if weights is not None else (left**2).sum(1).std(ddof=1) / np.sqrt(60)
        assert found.squared_error.standard_error == pytest.approx(error)


@pytest.mark.parametrize("name", ["positive", "aliased", "impossible-contexts", "memory", "random-2"])
def test_the_linear_map_of_an_audit_is_about_possible_contexts(name):
    model = MODELS[name]
    task = task_of(model)
    tree = audit(model, task, length=LENGTH, seed=0)
    texts = tree["observed_data/tokens"].values
    evidence, law = laws(joint_law(model, task, texts))
    contexts = np.pad(texts, ((0, 0), (1, 0)), constant_values=MASK)
    if isinstance(model, MemoryHMM):
        features = oracle.memory_truth(model, contexts).conditionals[:, 0]
    else:
        features = np.array([oracle.conditional(model, text, 0) for text in contexts])
    possible = features.sum(1) > 0
    assert possible.all() == (name not in ("impossible-contexts", "random-5"))
    np.testing.assert_allclose(tree["features/conditionals"], features, atol=1e-12)
    shares = evidence[possible] / evidence[possible].sum()
    least, _ = second_moments(features[possible], law[possible], shares, centred=False)
    found = tree["diagnostics/linear_map"].to_dataset()
    assert found["squared_error"].item() == pytest.approx(least, abs=1e-13)
    left = law[possible] - features[possible] @ found["matrix"].values.T
    assert shares @ (left**2).sum(1) == pytest.approx(least, abs=1e-13)


def test_what_does_not_vary_is_kept():
    features = np.random.default_rng(0).dirichlet(np.ones(3), size=20)
    law = np.c_[features[:, :1], np.full(20, 0.25), 0.75 - features[:, :1]]
    np.testing.assert_allclose(arrays.best_linear_map(features, law).kept, 1, atol=1e-12)


# What heads are about.


def test_heads_are_about_decidable_texts_of_possible_contexts():
    """Texts of impossible contexts have margin 0; separation and learning leave them, and undecidable ones, out."""
    model = MODELS["impossible-contexts"]
    task = PosteriorTask([[0.3, 0, 0, 0, 0], [0, 0.2, 0, 0, 0]])  # a tie, were it not for text
    tree = audit(model, task, length=LENGTH, seed=0)
    texts, features = tree["observed_data/tokens"].values, tree["features/conditionals"].values
    begins = texts[:, 0] == 2
    np.testing.assert_array_equal(features.sum(1) == 0, begins)
    assert (tree["exact_posterior/decidable"].values[begins] == 0).all()
    np.testing.assert_allclose(tree["diagnostics/margins/undecidable"], 0.3)
    signs = 2 * tree["exact_posterior/label"].values[~begins] - 1
    forms = np.c_[-signs[:, None] * features[~begins], np.ones(len(signs))]
    best = linprog([0, 0, 0, -1], forms, np.zeros(len(forms)), bounds=[(-1, 1)] * 3 + [(0, None)])
    row = tree["recoverability"].to_dataset().sel(question="head")
    assert row["separation_margin"].item() == pytest.approx(-best.fun, abs=1e-9)
    assert -best.fun > 1e-3
    assert row["learned_accuracy"] == 1


# Transfer.


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("exact", [True, False])
def test_the_transfer_curve_is_the_bound_of_its_definition(n_classes, exact):
    rng = np.random.default_rng(n_classes)
    features, head = rng.dirichlet(np.ones(4), size=50), rng.normal(size=(n_classes, 4))
    weights = rng.dirichlet(np.ones(50)) if exact else None
    found = groups.transfer(features, head if n_classes == 3 else head[1] - head[0], weights)
    shares = np.full(50, 1 / 50) if weights is None else weights
    scores = np.sort(features @ head.T, axis=1)
    margins = scores[:, -1] - scores[:, -2]
    half_range = max(np.ptp(a - b) / 2 for a, b in itertools.combinations(head, 2))
    assert found["half_range"].item() == pytest.approx(half_range)
    grid = np.sort(margins)
    below = (margins < grid[:, None]).astype(float)
    for excess, bound, sharp in zip(*(found[each].values for each in ("excess", "bound", "sharp_bound")), strict=True):
        noise = 2 * excess * half_range**2 / grid**2
        squares = below * (margins / grid[:, None]) ** 2 @ shares
        assert bound == pytest.approx(min(1, (below @ shares + noise).min()))
        assert sharp == pytest.approx(min(1, (below @ shares + noise - squares).min()))
    assert (np.diff(found["sharp_bound"]) >= 0).all()


def test_the_transfer_curve_holds_for_inexact_language_models():
    """An audit's curve bounds the error of its head on perturbed conditionals of the same loss."""
    model, task = MODELS["positive"], PosteriorTask(np.eye(2, 3))
    tree = audit(model, task, length=4, seed=0)
    found = tree["diagnostics/transfer"].to_dataset()
    features, weights = tree["features/conditionals"].values, tree["observed_data/probability"].values
    (head,) = LinearHead.from_dataset(tree["head/head"].to_dataset()).coef_
    rng, n_informative = np.random.default_rng(0), 0
    for size in np.geomspace(1e-4, 0.5, 40):
        perturbed = features * np.exp(size * rng.normal(size=features.shape))
        measured = transfer(features, perturbed / perturbed.sum(1, keepdims=True), head, weights)
        above = found["excess"].values >= measured.excess
        assert measured.error <= found["sharp_bound"].values[above][0] <= found["bound"].values[above][0]
        n_informative += measured.error > 0
    assert n_informative > 3


# Learned heads.


@pytest.mark.parametrize("n_sequences", [100, 5000])  # 4 tokens of 3: 81 texts, all read, and learned from samples
def test_a_learned_head_is_as_accurate_as_it_says(n_sequences):
    model, task = example("aliased")
    tree = audit(model, task, length=4, n_sequences=n_sequences, seed=0)
    texts, features, probabilities = (
        tree[name].values for name in ("observed_data/tokens", "features/conditionals", "observed_data/probability")
    )
    np.testing.assert_allclose(features, probe_features(OracleLM(model), texts), atol=1e-12)
    decidable = tree["exact_posterior/decidable"].values == 1
    head = LinearHead.from_dataset(tree["head/head-learned"].to_dataset())
    right = head.predict(features) == tree["exact_posterior/label"].values
    accuracy = probabilities[decidable] @ right[decidable] / probabilities[decidable].sum()
    said = tree["recoverability/learned_accuracy"].sel(question="head").item()
    n_fresh = n_sequences * probabilities[decidable].sum()
    assert said == pytest.approx(accuracy, abs=5 * np.sqrt(accuracy * (1 - accuracy) / n_fresh))


# Memory.


def plane(rng, n_columns, *directions):
    """Return random mixtures of some directions, given by their first coordinates, in a random orthonormal frame."""
    frame = np.linalg.qr(rng.normal(size=(n_columns, n_columns)))[0]
    return lambda rows: (
        rng.normal(size=(len(rows) + 1, len(rows))) @ np.pad(rows, ((0, 0), (0, n_columns - len(rows[0])))) @ frame
    )


@pytest.mark.parametrize("angle", [0.0, 1e-4, 0.3, 1.2, np.pi / 2])
def test_angles_by_construction(angle):
    """Two planes in five dimensions, one direction of the second turned by the angle, the other orthogonal to both."""
    for seed in range(5):
        mixed = plane(np.random.default_rng(seed), 5)
        own = mixed([[1.0, 0, 0, 0], [0, 1.0, 0, 0]])
        others = mixed([[0, 0, 0, 1.0], [np.cos(angle), 0, np.sin(angle), 0]])
        assert arrays.smallest_angle(own, others) == pytest.approx(angle, abs=1e-7)
        assert arrays.smallest_angle(own, others[:0]) == np.pi / 2
        assert arrays.smallest_angle(own[:0], others) == np.pi / 2


def memory_cases():
    """Yield models in which some states can be read, and some in which none can; two cells, zeros."""
    yield "example", example("memory")
    for seed in range(3):
        model = random_memory_hmm("recoverable", 3, 2, 8, seed, n_cells=2)
        yield f"recoverable-{seed}", (model, task_of(model, seed=seed))
    for seed in range(10):
        rng = np.random.default_rng(seed)
        model = oracle.random_memory_model(rng, 2, 2 + seed % 2, 1 + seed % 3, 2)
        if (model.memory_prior[-1] > 0).sum() > 1:  # of a cell that is certain there is nothing to ask
            yield f"random-{seed}", (model, task_of(model))


CASES = dict(memory_cases())


@pytest.mark.parametrize("name", CASES)
def test_memory_diagnostics_by_brute_force(name):
    model, task = CASES[name]
    certificate, length = memory_certificate(model, task), 2
    texts = texts_to_read(model, None, None, n_sequences=10**6, length=length, seed=0)
    found = groups.memory(certificate, texts)
    truth = oracle.memory_truth(model, texts.tokens.numpy())
    states = list(certificate.recoverable_states)
    weights = np.exp(truth.log_evidence)
    coverage = truth.smoothed[:, :, states].sum(-1).max(1)
    assert found["coverage"].item() == pytest.approx(weights @ coverage)
    assert found["covered"].item() == pytest.approx(weights @ (coverage > 1 - 1e-9), abs=1e-12)
    assert found["recoverable"].values.tolist() == [int(state in states) for state in range(model.n_states)]
    assert found["columns_of_rows"] == model.n_memory_values * model.n_states
    assert found["columns_of_flattened"] == model.flatten().n_states
    # Rows that some text meets with positive probability, by every memory and path of three steps.
    met = np.zeros((model.n_memory_values, model.n_states), dtype=bool)
    for text in oracle.all_texts(model.vocabulary_size, 3):
        for given in oracle.given_memories(model):
            paths = oracle.all_paths(model.n_states, 3)[oracle.log_joint(given.model, text) + given.log_prior > -np.inf]
            for state in np.unique(paths[:, 1:]):
                met[given.memory[model.cell_of_state[state]], state] = True
    rows = {(a, h): model.emission[a, h].numpy() for a, h in np.argwhere(met).tolist()}
    own = [row for (_, h), row in rows.items() if h in states]
    others = [row for (_, h), row in rows.items() if h not in states]
    rank = np.linalg.matrix_rank(others) if others else 0
    assert found["columns_of_theorem"] == len(own) + rank
    if certificate.recoverable:
        assert found["theta_norm"].item() == pytest.approx(1 / certificate.sigma_min)
    if own and others:
        # Spans meet at no angle exactly where together they have fewer dimensions.
        together = np.linalg.matrix_rank(np.r_[own, others], tol=1e-10)
        meets = together < np.linalg.matrix_rank(own, tol=1e-10) + np.linalg.matrix_rank(others, tol=1e-10)
        assert (found["smallest_angle"].item() < 1e-7) == meets


def test_some_states_can_be_read_and_some_cannot():
    verdicts = {name: memory_certificate(*case).recoverable for name, case in CASES.items()}
    assert {verdicts["example"], *(verdicts[f"recoverable-{seed}"] for seed in range(3))} == {True}
    assert not all(verdicts.values())


# Conditioning and identifiability, with their labels.


def test_conditioning_of_a_model_and_its_prompt():
    model, task = example("aliased")
    prompt = prompt_certificate(model, task).prompt
    found = groups.conditioning(model, prompt)
    law = (model.initial @ model.transition * prompt.rows[0] @ model.transition).numpy()
    emission, transition = model.emission.numpy(), model.transition.numpy()
    matrices = {
        "emission": emission,
        "emission_entered": emission,  # π₀A > 0
        "emission_next": transition @ emission,
        "transition": transition,
        "emission_entered_after_prompt": emission[law > 0],
    }
    assert found["matrix"].values.tolist() == list(matrices)
    for name, rows in matrices.items():
        row = found.sel(matrix=name)
        values = np.linalg.svd(rows, compute_uv=False)
        np.testing.assert_allclose(row["singular_values"][: len(values)], values, atol=1e-15)
        assert np.isnan(row["singular_values"][len(values) :]).all()
        assert row["n_rows"] == len(rows)
        assert row["sigma_min"].item() == pytest.approx(values[-1], abs=1e-15)
        for tolerance, rank in zip(row["rank_tolerance"].values, row["effective_rank"].values, strict=True):
            assert rank == np.linalg.matrix_rank(rows, tol=tolerance * values[0])
    np.testing.assert_allclose(found["total_variation"], [[0, 0, 0.5], [0, 0, 0.5], [0.5, 0.5, 0]], atol=1e-15)


def test_conditioning_of_a_memory_model_is_about_its_rows():
    model = random_memory_hmm("dirichlet", 3, 2, 8, 0)
    found = groups.conditioning(model).sel(matrix="emission")
    rows = [model.emission[a, h].numpy() for a in range(2) for h in range(3)]
    np.testing.assert_allclose(found["singular_values"], np.linalg.svd(rows, compute_uv=False))
    assert found["n_rows"] == 6


def test_identifiability_of_a_model():
    model = random_hmm("dirichlet", 3, 4, 0)
    found = groups.identifiability(model)
    initial, transition, emission = (getattr(model, name).numpy() for name in ("initial", "transition", "emission"))
    first = initial @ transition
    previous = (first[:, None] * transition / (first @ transition)).T @ emission  # by Bayes
    views = {"previous": previous, "own": emission, "next": transition @ emission}
    for name, rows in views.items():
        values = np.linalg.svd(rows, compute_uv=False)
        assert found["sigma_min"].sel(view=name).item() == pytest.approx(values[-1])
        assert found["k_rank"].sel(view=name) == 3
    assert found["identifies"] == 1
    assert (found["pair_nullity"], found["triple_nullity"]) == (3, 0)  # K(K−1)/2 and none
    np.testing.assert_array_equal(found["pair_singular_values"], pair_spectrum(model, (1, 2, 3)).singular_values)
    np.testing.assert_array_equal(found["triple_singular_values"], triple_spectrum(model).singular_values)
    aliased = groups.identifiability(example("aliased")[0])
    assert aliased["identifies"] == 0
    assert aliased["k_rank"].sel(view="own") == 1
    assert aliased["sigma_min"].sel(view="own").item() < 1e-15


def test_identifiability_of_a_large_model_leaves_the_spectra_out(monkeypatch):
    model = random_hmm("dirichlet", 3, 4, 0)
    n_entries = (3 - 1 + 3 * 2 + 3 * 3) * 4**3  # parameters times probabilities
    monkeypatch.setattr(groups, "_IDENTIFIABILITY_LIMIT", n_entries)
    assert groups.identifiability(model)["triple_nullity"] == 0
    monkeypatch.setattr(groups, "_IDENTIFIABILITY_LIMIT", n_entries - 1)
    found = groups.identifiability(model)
    assert (found["pair_nullity"], found["triple_nullity"], found["identifies"]) == (-1, -1, 1)
    assert "pair_singular_values" not in found


def test_entropy_of_laws_with_zeros():
    law = oracle.random_rows(np.random.default_rng(0), 5, 4, zeros=0.5)
    np.testing.assert_allclose(arrays.entropy(law), [nats(each) for each in law])
    assert arrays.entropy(np.array([0.0, 1.0])) == 0
    assert arrays.entropy(np.full(3, 1 / 3)) == pytest.approx(np.log(3))
