"""Audits ask of heads on several masks, seek witnesses on short texts first, and recommend the cheapest remedy."""

import numpy as np
import pytest

from ppl_hmm import (
    HMM,
    LinearHead,
    OracleLM,
    PosteriorTask,
    audit,
    example,
    masks_needed,
    posterior,
    probe_features,
    random_hmm,
    random_memory_hmm,
    random_task,
    sample,
)
from ppl_hmm.audits.remedy import LARGEST_HALF_RANGE, Candidate, choose
from ppl_hmm.audits.texts import SHORT_TEXTS, short_texts
from ppl_hmm.base.positions import Place
from ppl_hmm.schema import Basis, Remedy

NAN = float("nan")


def of_the_paper(n_states, seed, n_texts=300, length=40):
    """Return a model of the paper's regime with its task and text."""
    model = random_hmm("wei2021", n_states, 10, seed)
    tokens = sample(model, n_texts, length, seed).tokens
    return model, random_task(model, seed, tokens), tokens


def row_of(tree, question):
    return tree["recoverability"].to_dataset().sel(question=question)


@pytest.fixture(scope="module", params=["aliased", "degenerate"])
def audited(request):
    model, task = example(request.param)
    return model, task, audit(model, task, length=5, n_prompt_tokens=0, seed=0)


def test_masks_are_those_of_the_certificate(audited):
    model, task, tree = audited
    row, certificate = row_of(tree, "masks"), masks_needed(model, task)
    assert row["verdict"] == "recoverable"
    assert row["n_masks"] == certificate.n_masks > 1
    assert row["half_range"] == pytest.approx(certificate.half_range / float(task.contrasts.abs().max()))
    assert row["agreeing"] == row["decidable"] > 0
    assert row["learned_accuracy"] > 0.99
    texts = tree["observed_data/tokens"].values
    features = probe_features(OracleLM(model), texts, n_masks=certificate.n_masks)
    np.testing.assert_allclose(tree["features/conditionals_at_masks"].values, features, rtol=0, atol=1e-12)
    labels, decidable = tree["exact_posterior/label"].values, tree["exact_posterior/decidable"].values == 1
    for name in ("masks", "masks-learned"):
        head = LinearHead.from_dataset(tree[f"head/{name}"].to_dataset())
        right = head.predict(features.flatten(-2).numpy()) == labels
        assert right[decidable].mean() > 0.98


def test_the_fewest_masks_are_recommended(audited):
    _, _, tree = audited
    found = tree.ppl_hmm.remedy
    assert (found["recommended"], found["basis"], found["n_prompt_tokens"]) == ("masks", "proof", 0)
    assert found["n_masks"] == row_of(tree, "masks")["n_masks"]
    assert found["half_range"] == row_of(tree, "masks")["half_range"]
    assert tree.ppl_hmm.report().split("\n\n")[-1].startswith(f"Use a linear head on {found['n_masks']} masks")
    assert "log-probabilities" not in tree["remedy"].to_dataset()["remedy"]  # asked only where nothing is proved


def test_one_mask_is_not_asked_twice():
    model = random_hmm("dirichlet", 3, 4, 0)
    tree = audit(model, PosteriorTask([[1, 0, 0], [0, 1, 0]]), length=4, seed=0)
    head, masks = row_of(tree, "head"), row_of(tree, "masks")
    assert head["verdict"] == "recoverable"
    assert head.drop_vars("question").equals(masks.drop_vars("question"))
    assert masks["n_masks"] == 1
    assert "conditionals_at_masks" not in tree["features"]
    assert tree.ppl_hmm.remedy["recommended"] == "head"
    assert "One mask is enough" in tree.ppl_hmm.report()


def test_one_label_needs_nothing():
    tree = audit(random_hmm("dirichlet", 4, 3, 0), PosteriorTask([[0, 0, 0, 0], [1, 1, 1, 2]]), length=4, seed=0)
    assert tree.ppl_hmm.remedy == {"recommended": "nothing", "basis": "proof"}
    assert "every text has the same label" in tree.ppl_hmm.report().split("\n\n")[-1]


@pytest.mark.parametrize(("n_states", "seed"), [(15, 0), (20, 1), (25, 2), (30, 3)])
def test_one_mask_is_decided_in_the_regime_of_the_paper(n_states, seed):
    model, task, tokens = of_the_paper(n_states, seed)
    tree = audit(model, task, tokens, n_prompt_tokens=0, seed=seed)
    assert tree.ppl_hmm.verdict["head"] == "not recoverable"
    assert tree.ppl_hmm.verdict["masks"] == "recoverable"
    witness = tree["recoverability/head/witness"].to_dataset()
    texts = witness["tokens"].values
    assert texts.shape[1] <= 3
    features = probe_features(OracleLM(model), texts).numpy()
    answers = task.answers(posterior(model, texts))
    assert answers.decidable.all()
    np.testing.assert_array_equal(answers.labels.numpy(), witness["label"])
    np.testing.assert_allclose(posterior(model, texts).initial.numpy(), witness["posterior"], atol=1e-12)
    sides = [witness["weights"].values[:, k] @ features for k in (0, 1)]
    np.testing.assert_allclose(*sides, rtol=0, atol=1e-13)


def test_short_texts_are_all_there_are():
    model = random_hmm("dirichlet", 3, 4, 0)
    found = short_texts(model, Place()).numpy()
    longest = found.shape[1]
    assert sum(4**length for length in range(1, longest + 1)) == len(found) <= SHORT_TEXTS
    assert len(np.unique(found, axis=0)) == len(found)
    assert set(map(tuple, found[:4])) == {(token, *(longest - 1) * (-1,)) for token in range(4)}
    impossible = HMM([1.0, 0], [[0, 1], [1, 0]], [[1.0, 0], [0, 1.0]])
    assert len(short_texts(impossible, Place())) == 9  # one text of each length
    assert ((short_texts(model, Place(-2)) >= 0).sum(1) >= 2).all()
    assert ((short_texts(model, Place(3)) >= 0).sum(1) >= 4).all()
    assert len(short_texts(random_hmm("dirichlet", 2, SHORT_TEXTS + 1, 0), Place())) == 0


def test_more_memories_than_short_texts_are_allowed():
    model = random_memory_hmm("dirichlet", 2, 2, 4, 0, n_cells=11)
    assert len(short_texts(model, Place())) == 0
    tree = audit(model, random_task(model, 0), length=2, n_sequences=8, seed=0)
    assert tree["recoverability/cause"].sel(question="masks") in ("too large", "witness")


def candidate(remedy, certified=False, half_range=NAN, accuracy=NAN):
    return Candidate(remedy, certified, 1, 0, half_range, accuracy)


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        ([candidate(Remedy.HEAD, True, 2), candidate(Remedy.PROMPT, True, 1)], (Remedy.HEAD, Basis.PROOF)),
        ([candidate(Remedy.HEAD), candidate(Remedy.MASKS, True, 9)], (Remedy.MASKS, Basis.PROOF)),
        (
            [candidate(Remedy.HEAD, True, 10 * LARGEST_HALF_RANGE), candidate(Remedy.PROMPT, True, 1)],
            (Remedy.PROMPT, Basis.PROOF),
        ),
        (
            [candidate(Remedy.HEAD, True, 1e9), candidate(Remedy.PROMPT, True, 1e8)],
            (Remedy.PROMPT, Basis.PROOF),
        ),
        ([candidate(Remedy.MASKS), candidate(Remedy.ATTENTION, True)], (Remedy.ATTENTION, Basis.PROOF)),
        (
            [candidate(Remedy.HEAD, accuracy=0.8), candidate(Remedy.PROMPT, accuracy=0.9)],
            (Remedy.PROMPT, Basis.MEASUREMENT),
        ),
        (
            [candidate(Remedy.HEAD, accuracy=0.899), candidate(Remedy.PROMPT, accuracy=0.9)],
            (Remedy.HEAD, Basis.MEASUREMENT),
        ),
        ([candidate(Remedy.HEAD), candidate(Remedy.PROMPT)], (Remedy.UNKNOWN, Basis.NONE)),
    ],
)
def test_the_cheapest_that_works_is_chosen(candidates, expected):
    assert choose(candidates, 1000) == expected


def test_heads_on_log_probabilities_are_learned_where_nothing_is_proved():
    # Too few tokens for any number of masks that is tried: states that are told apart by what is next to nothing.
    rng = np.random.default_rng(0)
    model = HMM(rng.dirichlet(np.ones(30)), rng.dirichlet(np.ones(30), 30), rng.dirichlet(np.ones(2), 30))
    tokens = sample(model, 400, 12, 0).tokens
    tree = audit(model, random_task(model, 0, tokens), tokens, n_prompt_tokens=0, seed=0)
    assert set(tree.ppl_hmm.verdict.values()) <= {"undecided", "not recoverable"}
    found = tree["remedy"].to_dataset()
    assert found["basis"] == "measurement"
    assert found["remedy"].values[-1] == "log-probabilities"
    accuracies = dict(zip(found["remedy"].values, found["accuracy"].values, strict=True))
    assert tree.ppl_hmm.remedy["accuracy"] >= max(accuracies.values()) - 0.06
    assert tree.ppl_hmm.report().split("\n\n")[-1].startswith("Nothing is proved to solve this task.")


@pytest.mark.slow
@pytest.mark.parametrize("n_states", [15, 20, 25, 30])
def test_one_mask_is_decided_in_every_model_of_the_paper(n_states):
    for seed in range(20):
        model, task, tokens = of_the_paper(n_states, seed, 5000, 80)
        tree = audit(model, task, tokens, n_prompt_tokens=0, seed=seed)
        assert tree.ppl_hmm.verdict["head"] == "not recoverable", seed


def test_words_of_recommendations(audited):
    last = audited[2].ppl_hmm.report().split("\n\n")[-1]
    assert not any(word in last for word in ("Theorem", "residual", "σ", "π"))
    assert all(len(line) <= 80 for line in last.splitlines())
