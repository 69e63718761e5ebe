"""Tasks on the state at a position: exact laws, masks that heads read, certificates in both directions."""

import itertools

import numpy as np
import oracle
import pytest
import torch

from ppl_hmm import (
    HMM,
    MASK,
    ConditionNotMet,
    InvalidInput,
    OracleLM,
    PosteriorTask,
    audit,
    constant_certificate,
    constructed_head,
    find_witness,
    head_certificate,
    latent_posterior,
    load,
    log_likelihood,
    masked_conditionals,
    memory_certificate,
    position_certificate,
    posterior,
    probe_features,
    prompt_certificate,
    random_hmm,
    random_memory_hmm,
    random_task,
    sample,
    save,
)
from ppl_hmm.cli import main
from ppl_hmm.recoverability.reachable import reachable_laws
from ppl_hmm.storage.files import load_task
from ppl_hmm.tasks import MemoryTask, latent_prior

PLACES = [(0, "text"), (2, "text"), (-1, "text"), (-2, "context"), (1, "context"), (1, "prefix"), (-1, "prefix")]


def random_pair(seed, place, n_classes=2):
    """Return a random model and task; zeros, repeated rows and a vocabulary of one token are among them."""
    rng = np.random.default_rng(seed)
    model = oracle.random_model(rng, int(rng.integers(2, 4)), int(rng.integers(1, 5)))
    return model, PosteriorTask(rng.normal(size=(n_classes, model.n_states)), *place)


def evidence(text, place):
    """Return the column of a position, and the text with MASK where it is not given, written out."""
    position, given = place
    end = max(i for i, token in enumerate(text) if token != MASK) + 1
    column = position if position >= 0 else end + position
    hidden = {"text": [], "context": [column], "prefix": range(column + 1, len(text))}[given]
    return column, np.array([MASK if i in hidden else token for i, token in enumerate(text)])


# What tasks ask.


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_laws_are_those_of_all_paths(seed, place):
    model, task = random_pair(seed, place)
    texts = np.random.default_rng(seed).integers(model.vocabulary_size, size=(12, 4))
    texts[texts.sum(1) % 3 == 0, 1] = MASK
    lengths = np.random.default_rng(seed).integers(3, 5, size=12)
    masked = np.where(np.arange(4) < lengths[:, None], texts, MASK)
    kept = (log_likelihood(model, masked) > -torch.inf).numpy()
    if not kept.any():
        pytest.skip("no text is possible")
    expected = []
    for text in masked[kept]:
        column, known = evidence(text, place)
        expected.append(oracle.marginals(model, known)[1 + column])
    law = latent_posterior(model, task, texts[kept], lengths=lengths[kept])
    np.testing.assert_allclose(law, expected, rtol=0, atol=1e-12)
    assert torch.equal(task.labels(law), (law @ task.contrast >= 0).long())


def test_the_law_before_text():
    model = random_hmm("dirichlet", 3, 4, 0)
    pi, A = model.initial.numpy(), model.transition.numpy()
    task = PosteriorTask(np.zeros((2, 3)), position=2)
    np.testing.assert_allclose(latent_prior(model, task), pi @ A @ A @ A, atol=1e-15)
    ends = latent_prior(model, PosteriorTask(np.zeros((2, 3)), position=-1), [[0, 1, MASK], [1, 1, 1]])
    np.testing.assert_allclose(ends, [pi @ A @ A, pi @ A @ A @ A], atol=1e-15)


def test_posterior_records_serve_positions_from_the_front_only():
    model = random_hmm("dirichlet", 3, 4, 0)
    texts = sample(model, 20, 5, 0).tokens
    record, weights = posterior(model, texts), np.eye(3)[:2]
    task = PosteriorTask(weights, position=3)
    assert torch.equal(task.margins(record), task.margins(record.smoothed[:, 3]))
    for wrong in (PosteriorTask(weights, position=-1), PosteriorTask(weights, position=1, given="prefix")):
        with pytest.raises(InvalidInput, match=r"pass latent_posterior\(model, task, tokens\)"):
            wrong.labels(record)
    with pytest.raises(InvalidInput, match=r"position: expected one in 0\.\.4, got 5"):
        PosteriorTask(weights, position=5).labels(record)


def test_a_batch_of_models_and_tasks():
    models = [random_hmm("dirichlet", 3, 4, seed) for seed in range(2)]
    tasks = [PosteriorTask(np.random.default_rng(seed).normal(size=(2, 3)), -2, "context") for seed in range(2)]
    texts = sample(models[0], 6, 5, 0).tokens
    together, task = HMM.stack(models), PosteriorTask.stack(tasks)
    law = latent_posterior(together, task, texts)
    for p in range(2):
        torch.testing.assert_close(law[p], latent_posterior(models[p], tasks[p], texts), rtol=0, atol=1e-14)
        assert torch.equal(task.labels(law)[p], tasks[p].labels(law[p]))
        assert task[p].identical(tasks[p])
    with pytest.raises(InvalidInput, match=r"stack: expected one position, got -2, 1"):
        PosteriorTask.stack([tasks[0], PosteriorTask(tasks[0].weights, 1, "context")])


def test_files_keep_the_position(tmp_path):
    weights = np.random.default_rng(0).normal(size=(3, 4))
    for place in (*PLACES, (None, "text")):
        task = PosteriorTask(weights, *place)
        save(task, tmp_path / "task.nc")
        found = load(tmp_path / "task.nc")
        assert found.identical(task)
        assert (found.position, found.given) == place
        assert found.to(torch.float32).position == place[0]
    assert not PosteriorTask(weights).identical(PosteriorTask(weights, position=0))
    assert not PosteriorTask(weights, 0).allclose(PosteriorTask(weights, 0, "prefix"))
    # A task on H₀ is written as ever, so files of either age are the same.
    assert set(PosteriorTask(weights).to_dataset().variables) == {"weights"}
    with pytest.raises(InvalidInput, match="variable 'position' of a PosteriorTask: expected a scalar"):
        PosteriorTask.from_dataset(PosteriorTask(weights).to_dataset().assign(position=("n", [0, 1])))


@pytest.mark.parametrize(
    ("position", "given", "message"),
    [
        (0.5, "text", "position: expected an integer, or None"),
        (True, "text", "position: expected an integer, or None"),
        ("last", "text", "position: expected an integer, or None"),
        (0, "past", "unknown value of 'given': expected one of context, prefix, text"),
        (None, "prefix", "given='prefix' without a position"),
    ],
)
def test_bad_positions(position, given, message):
    with pytest.raises(InvalidInput, match=message):
        PosteriorTask(np.eye(2), position, given)


def test_texts_that_lack_the_position():
    model = random_hmm("dirichlet", 2, 3, 0)
    with pytest.raises(InvalidInput, match=r"position: expected one in -2\.\.1, got 2"):
        latent_posterior(model, PosteriorTask(np.eye(2), 2), [[0, 1]])
    with pytest.raises(InvalidInput, match=r"position -2 of sequence 1: expected a text of at least 2 tokens, got 1"):
        latent_posterior(model, PosteriorTask(np.eye(2), -2), [[0, 1], [0, 1]], lengths=[2, 1])
    with pytest.raises(InvalidInput, match=r"position -1 of sequence 0: expected a text of at least 1 tokens, got 0"):
        probe_features(OracleLM(model), [[MASK, MASK]], position=-1)
    assert PosteriorTask(np.eye(2), np.int64(1)).position == 1


# What heads read.


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_features_are_conditionals_at_the_mask(place):
    model, _ = random_pair(3, place)
    texts = np.random.default_rng(0).integers(model.vocabulary_size, size=(6, 4))
    read = probe_features(OracleLM(model), texts, position=place[0], given=place[1], impossible="mask")
    for features, text in zip(read.numpy(), texts, strict=True):
        column, known = evidence(text, place)
        if place[1] == "prefix":
            expected = oracle.conditional(model, np.append(known, MASK), column + 1)
        else:
            expected = oracle.conditional(model, known, column)
        if place[1] == "text":
            blocks = np.zeros((model.vocabulary_size + 1, model.vocabulary_size))
            blocks[text[column]] = expected
            expected = blocks.ravel()
        np.testing.assert_allclose(features, expected, rtol=0, atol=1e-12)


def test_a_masked_token_is_read_in_the_last_block():
    model = random_hmm("dirichlet", 2, 3, 0)
    read = probe_features(OracleLM(model), [[0, MASK, 1]], position=1)
    np.testing.assert_allclose(read[0, -3:], masked_conditionals(model, [[0, MASK, 1]])[0, 1], atol=1e-15)
    assert (read[0, :-3] == 0).all()


# Certificates.


def scores_and_margins(model, task, certificate, length):
    """Return what the head makes of all possible texts, factor taken out, and μᵀP, by brute force where it is cheap."""
    texts = torch.tensor(oracle.all_texts(model.vocabulary_size, length))
    texts = texts[log_likelihood(model, texts) > -torch.inf]
    column = task.position if task.position >= 0 else length + task.position
    read = probe_features(OracleLM(model), texts, position=task.position, given=task.given)
    scores = read @ certificate.weights.reshape(len(task.contrasts), -1).mT
    if task.given == "text":
        given_rest = masked_conditionals(model, texts, positions=[column])[:, 0]
        scores = scores / given_rest.gather(-1, texts[:, column, None])
    return scores, latent_posterior(model, task, texts) @ task.contrasts.mT, certificate.sign_agreement(texts)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_certified_heads_are_right_and_others_differ(place):
    certified = refused = 0
    for seed in range(24):
        model, task = random_pair(seed, place, n_classes=2 + seed % 2)
        try:
            certificate = position_certificate(model, task)
        except InvalidInput:  # the state is certain
            texts = oracle.all_texts(model.vocabulary_size, 3)
            law = posterior(model, texts[(log_likelihood(model, texts) > -torch.inf).numpy()]).smoothed
            assert (law.amax(-1) > 1 - 1e-12)[:, task.position].all()
            continue
        lengths = range(max(task.position + 1, -task.position), 4)
        found = [scores_and_margins(model, task, certificate, length) for length in lengths]
        differences = torch.cat([scores - margins for scores, margins, _ in found])
        off = differences.abs().max() if task.n_classes == 2 else (differences.amax(-1) - differences.amin(-1)).max()
        if certificate.recoverable:
            assert off <= certificate.margin_error + 1e-9
            assert all(agreement.agreeing == agreement.decidable for _, _, agreement in found)
            certified += 1
        else:  # the condition is necessary for scores to be margins
            assert off > 1e-6
            refused += 1
    assert certified >= 3
    assert refused >= 3


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_independent_rows_recover_every_task(place):
    for seed in range(4):
        model = random_hmm("dirichlet", 3, 5, seed)
        task = PosteriorTask(np.random.default_rng(seed).normal(size=(2 + seed % 2, 3)), *place)
        certificate = position_certificate(model, task)
        assert certificate.recoverable
        assert certificate.sigma_min > 1e-3
        texts = sample(model, 300, 8, seed).tokens
        predicted = constructed_head(model, task).predict(
            probe_features(OracleLM(model), texts, position=place[0], given=place[1]).numpy()
        )
        law = latent_posterior(model, task, texts)
        assert (predicted == task.labels(law).numpy())[task.decidable(law).numpy()].all()


def test_no_condition_on_the_law_before_the_position():
    # H₀ is certain and A has zeros: Theorem H has no task here, the hidden token's head has.
    model = HMM([1, 0, 0], [[0, 1, 0], [0, 0.5, 0.5], [1, 0, 0]], [[0.6, 0.3, 0.1], [0.2, 0.2, 0.6], [0.1, 0.8, 0.1]])
    task = PosteriorTask([[0, 0, 1], [1, 1, 0]], 2, "context")
    assert position_certificate(model, task).recoverable
    with pytest.raises(InvalidInput, match="head_certificate: the silent state H₀"):
        head_certificate(model, PosteriorTask(task.weights))
    with pytest.raises(InvalidInput, match=r"position 0 given the text: expected more than one possible state, got st"):
        position_certificate(model, PosteriorTask(task.weights, 0))


def test_laws_in_a_small_span_need_less():
    # States 1 and 2 share rows of W and are entered in the ratio 1 : 3 from everywhere: α has two dimensions.
    moves = [[0.6, 0.1, 0.3], [0.2, 0.2, 0.6], [0.2, 0.2, 0.6]]
    model = HMM([0.5, 0.2, 0.3], moves, [[0.9, 0.1], [0.3, 0.7], [0.3, 0.7]])
    reachable = reachable_laws(model, PosteriorTask(np.eye(3), -1, "prefix").place)
    assert reachable.basis.shape == (3, 2)
    np.testing.assert_allclose(reachable.basis.numpy().T @ [0, 3, -1], 0, atol=1e-12)
    # With μ = (−1, 4, 0) the mean over the two is 1: what a head that cannot tell them apart needs.
    task = PosteriorTask([[0, 0, 0], [-1, 4, 0]], -1, "prefix")
    certificate = position_certificate(model, task)
    assert certificate.recoverable
    assert "whose laws span 2 dimensions" in certificate.reasons[1]
    scores, margins, agreement = scores_and_margins(model, task, certificate, 4)
    torch.testing.assert_close(scores, margins, rtol=0, atol=1e-12)
    assert agreement.agreeing == agreement.decidable == 16


def test_a_tiny_entry_is_not_rounded_away():
    # From state 0 all but 1e-20 goes back to it: only a head that also reads state 1 is right once token 1 is seen.
    tiny = 1e-20
    model = HMM([1 - tiny, tiny], [[1 - tiny, tiny], [0, 1]], [[1, 0], [0, 1]])
    assert reachable_laws(model, PosteriorTask(np.eye(2), -1).place).basis.shape == (2, 2)
    faint = HMM([1, 0, 0], [[1, 1e-300, 1e-300], [0, 1, 0], [0, 0, 1]], [[1, 1e-300], [0.5, 0.5], [0.5, 0.5]])
    assert reachable_laws(faint, PosteriorTask(np.eye(3), -1, "prefix").place).basis.shape == (3, 3)


@pytest.mark.parametrize("given", ["context", "text", "prefix"])
def test_dependent_rows_are_refuted_by_a_witness(given):
    model = random_hmm("degenerate", 4, 3, 0, rank=2)
    task = random_task(model, 0, oracle.all_texts(3, 5), position=2, given=given)
    tree = audit(model, task, length=5, seed=0)
    assert tree.ppl_hmm.verdict == {"head": "not recoverable"}
    assert "or ask what another 'given' leaves" in " ".join(tree.ppl_hmm.report().split())
    witness = tree["recoverability/head/witness"].to_dataset()
    law = latent_posterior(model, task, witness["tokens"].values)
    assert (task.labels(law).numpy() == witness["label"].values).all()
    with pytest.raises(ConditionNotMet):
        constructed_head(model, task)


# The usual mask, in front of the text, and one between tokens.


def features_and_labels(model, task, inputs, position, texts):
    law = latent_posterior(model, task, texts)
    kept = task.decidable(law).numpy()
    return masked_conditionals(model, inputs, positions=[position])[:, 0].numpy()[kept], task.labels(law).numpy()[kept]


@pytest.mark.parametrize("where", [0, 2])
def test_another_mask_does_not_do(where):
    # Rows are independent, so every task is recoverable at its own mask; in front, or after x_2, heads have witnesses.
    texts = oracle.all_texts(3, 5)
    inputs = np.insert(texts, where, MASK, axis=1)
    for seed in range(3):
        model = random_hmm("dirichlet", 3, 3, seed)
        task = random_task(model, seed, texts, position=1)
        assert position_certificate(model, task).recoverable
        assert find_witness(*features_and_labels(model, task, inputs, where, texts)) is not None


def test_blocks_are_the_exception():
    # H_t stays in the block of H₀, so that its law is that of H₀: a mask anywhere tells the block.
    block = np.array([[0.7, 0.3], [0.4, 0.6]])
    A = np.kron(np.eye(2), block)
    W = np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1], [0.1, 0.2, 0.2, 0.5]])
    model, texts = HMM([0.25] * 4, A, W), oracle.all_texts(4, 4)
    task = PosteriorTask([[1, 1, 0, 0], [0, 0, 1, 1]], position=1)
    for where in range(5):
        inputs = np.insert(texts, where, MASK, axis=1)
        assert find_witness(*features_and_labels(model, task, inputs, where, texts)) is None


# Latents with one possible value.


def test_certain_latents_are_refused_with_the_way_out():
    model = HMM([0, 1], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.4, 0.6]])
    task, texts = PosteriorTask(np.eye(2)), sample(model, 50, 4, 0).tokens
    for call in (
        lambda: random_task(model, 0),
        lambda: random_task(model, 0, texts),
        lambda: audit(model, task, length=3, seed=0),
        lambda: head_certificate(model, task),
        lambda: prompt_certificate(model, task),
        lambda: constant_certificate(model, task),
        lambda: constructed_head(model, task),
    ):
        with pytest.raises(InvalidInput, match=r"got state 1 only.*PosteriorTask\(weights, position=0\)"):
            call()
    for position, given in itertools.product((0, -1), ("text", "prefix")):
        drawn = random_task(model, 0, texts, position=position, given=given)
        assert (drawn.position, drawn.given) == (position, given)
        labels = drawn.labels(latent_posterior(model, drawn, texts)).double()
        assert 0.05 <= labels.mean() <= 0.95
    one_state = HMM([1], [[1]], [[0.5, 0.5]])
    for position in (None, 0, -1):
        with pytest.raises(InvalidInput, match="more than one possible state"):
            random_task(one_state, 0, position=position)


def test_certain_cells_are_refused_and_not_drawn():
    model = random_memory_hmm("dirichlet", 3, 2, 6, 0, n_cells=2)
    certain = type(model)([[1, 0], [0.5, 0.5]], model.initial, model.transition, model.cell_of_state, model.emission)
    assert {int(random_task(certain, seed).target_cell) for seed in range(10)} == {1}
    for call in (memory_certificate, lambda *pair: audit(*pair, length=3, seed=0)):
        with pytest.raises(InvalidInput, match=r"memory cell 0: expected more than one .* got value 0 only"):
            call(certain, MemoryTask(np.eye(2), 0))
    with pytest.raises(InvalidInput, match="random_task on a position: expected an HMM, got MemoryHMM"):
        random_task(model, 0, position=1)
    with pytest.raises(InvalidInput, match="expected one MemoryTask"):
        audit(model, PosteriorTask(np.eye(3), 0), length=3, seed=0)


def test_a_constant_label_of_an_uncertain_state_stays_a_certificate():
    model = random_hmm("dirichlet", 3, 4, 0)
    tree = audit(model, PosteriorTask([[0, 0, 0], [1, 2, 3]]), length=3, seed=0)
    assert set(tree.ppl_hmm.verdict.values()) == {"recoverable"}


# Audits.


@pytest.mark.parametrize("place", [(1, "text"), (-1, "context"), (-1, "prefix")], ids=str)
def test_audits_of_positions(place, tmp_path):
    model = random_hmm("dirichlet", 3, 5, 2)
    task = random_task(model, 0, sample(model, 200, 4, 0).tokens, position=place[0], given=place[1])
    tree = audit(model, task, length=4, seed=0)
    assert tree.ppl_hmm.verdict == {"head": "recoverable"}
    row = tree["recoverability"].to_dataset().sel(question="head")
    assert row["agreeing"] == row["decidable"] >= 620
    assert f"the state at position {place[0]} given" in tree.ppl_hmm.report()
    assert tree["exact_posterior/state"].dims == ("sequence", "state")
    texts = tree["observed_data/tokens"].values
    np.testing.assert_allclose(tree["exact_posterior/state"], latent_posterior(model, task, texts), atol=1e-14)
    assert PosteriorTask.from_dataset(tree["task"].to_dataset()).identical(task)
    prior = latent_prior(model, task, texts[:1]).reshape(-1, 3)[0]
    entropy = -(prior * prior.log()).sum()
    np.testing.assert_allclose(tree["diagnostics/information/prior_entropy"], entropy, rtol=1e-12)
    for figure in ("margins", "linear-map", "lengths"):
        tree.ppl_hmm.plot(figure)


def test_ragged_texts_end_where_they_end():
    model = random_hmm("dirichlet", 3, 5, 2)
    rng = np.random.default_rng(0)
    texts, lengths = rng.integers(5, size=(300, 6)), rng.integers(2, 7, size=300)
    task = PosteriorTask(rng.normal(size=(2, 3)), position=-2)
    tree = audit(model, task, texts, lengths=lengths, seed=0)
    expected = [oracle.marginals(model, text[:n])[n - 1] for text, n in zip(texts[:30], lengths[:30], strict=True)]
    np.testing.assert_allclose(tree["exact_posterior/state"][:30], expected, atol=1e-12)
    row = tree["recoverability"].to_dataset().sel(question="head")
    assert row["agreeing"] == row["decidable"] > 290


def test_the_command_line_asks_of_positions(tmp_path, capsys):
    model = HMM([1, 0], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.4, 0.6]])
    save(model, tmp_path / "model.nc")
    save(PosteriorTask([[1, 0], [0, 2]], -1, "prefix"), tmp_path / "task.nc")
    assert load_task(tmp_path / "task.nc").given == "prefix"

    def run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main(["audit", str(tmp_path / "model.nc"), "--length", "4", *arguments])
        return stopped.value.code, capsys.readouterr()

    status, said = run("--task", str(tmp_path / "task.nc"))
    assert status == 0
    assert "asked of: the state at position -1 given the text up to it" in said.out
    status, said = run()
    assert status == 2
    assert "position=" in said.err
    status, said = run("--position", "-1")
    assert status == 0
    assert "the state at position -1 given the text" in said.out
    status, said = run("--task", str(tmp_path / "task.nc"), "--position", "0")
    assert (status, "--position for a random task" in said.err) == (2, True)
