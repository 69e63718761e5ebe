"""The trainer: it learns, measures against the exact law, goes on bit by bit, and refuses what it cannot use."""

import numpy as np
import pytest
import torch

from ppl_hmm import (
    HMM,
    BidirectionalLM,
    CausalGRU,
    ForeignFile,
    InvalidInput,
    OracleLM,
    example,
    probe_features,
    random_hmm,
    sample,
    train,
)
from ppl_hmm.language_models.held_out import divergence
from ppl_hmm.language_models.objectives import Objective
from ppl_hmm.language_models.run import Plan

MODEL, _ = example("aliased")
V = MODEL.vocabulary_size
LITTLE = {"steps": 30, "batch_size": 8, "length": 6, "seed": 0}
MORE = {"steps": 100, "batch_size": 32, "length": 10, "seed": 0}


class Stopped(Exception):
    pass


def stop_at(step):
    def progress(done, of):
        if done == step:
            raise Stopped

    return progress


def parameters(lm):
    return torch.cat([each.detach().flatten() for each in lm.parameters()])


@pytest.mark.parametrize("kind", [BidirectionalLM, CausalGRU])
@pytest.mark.parametrize("objective", list(Objective))
def test_training_comes_nearer_to_the_exact_law(kind, objective):
    lm = kind(V, width=8, seed=0)
    before = parameters(lm)
    found = train(lm, MODEL, objective=objective, **{**LITTLE, "steps": 100})  # clipped laws move late
    assert torch.equal(parameters(lm), before)  # a copy was trained
    assert found.objective == found.log.attrs["objective"] == objective
    log = found.log
    assert log.step.values[[0, -1]].tolist() == [0, 100]
    assert (log["excess"] >= 0).all()
    assert log["excess"][-1] < log["excess"][0]
    assert log["total_variation"][-1] < log["total_variation"][0]
    laws = found.lm.laws(found.lm.logits(sample(MODEL, 5, 4, 0).tokens))
    torch.testing.assert_close(laws.sum(-1), torch.ones(5, 4))
    assert (laws >= 0).all()


def test_a_little_training_learns_a_small_model():
    model = HMM([0.5, 0.5], [[0.9, 0.1], [0.1, 0.9]], [[0.9, 0.1, 0.0], [0.0, 0.2, 0.8]])
    lm = train(BidirectionalLM(3, width=16, seed=0), model, objective="exact", learning_rate=0.02, **MORE).lm
    text = sample(model, 200, 20, 5).tokens  # twice as long as in training
    difference = probe_features(OracleLM(model), text) - probe_features(lm, text)
    assert 0.5 * difference.abs().sum(-1).mean() < 0.03


def test_what_is_measured_is_what_it_says():
    model, lm = random_hmm("dirichlet", 3, V, 0), BidirectionalLM(V, width=4, seed=0)
    log = train(lm, model, **{**LITTLE, "steps": 1}).log
    text = sample(model, 2000, 6, 7).tokens
    exact, own = probe_features(OracleLM(model), text[:, 1:]), probe_features(lm, text[:, 1:]).double()
    # Of other texts: the laws of the first token, given all others.
    np.testing.assert_allclose(log["total_variation"][0], 0.5 * (exact - own).abs().sum(-1).mean(), rtol=0.05)
    np.testing.assert_allclose(log["excess_at_read_position"][0], divergence(exact, own).mean(), rtol=0.1)
    best = OracleLM(model).conditionals(text)
    own = lm.conditionals(text).double()
    np.testing.assert_allclose(log["excess"][0], divergence(best, own).mean(), rtol=0.1)
    loss = -own.gather(-1, text[..., None]).log().mean()
    np.testing.assert_allclose(log["loss"][0], loss, rtol=0.05)


@pytest.mark.parametrize("source", [MODEL, sample(MODEL, 30, 6, 0).tokens])
def test_an_interrupted_training_goes_on_bit_by_bit(source, tmp_path):
    lm = BidirectionalLM(V, width=4, seed=0)
    whole = train(lm, source, **LITTLE)
    with pytest.raises(Stopped):
        train(lm, source, out=tmp_path, progress=stop_at(17), **LITTLE)
    steps = []
    again = train(lm, source, out=tmp_path, progress=lambda done, _: steps.append(done), **LITTLE)
    assert steps[0] == 18
    assert torch.equal(parameters(again.lm), parameters(whole.lm))
    assert again.log.identical(whole.log)
    assert train(lm, source, out=tmp_path, **LITTLE).log.identical(whole.log)  # finished: nothing is left to do
    with pytest.raises(ForeignFile, match="holds another training: expected steps=31, got steps=30"):
        train(lm, source, out=tmp_path, **{**LITTLE, "steps": 31})
    with pytest.raises(ForeignFile, match="holds another training: expected source="):
        train(lm, random_hmm("dirichlet", 3, V, 0), out=tmp_path, **LITTLE)
    (tmp_path / "state.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ForeignFile, match=r"state\.safetensors: expected weights in safetensors"):
        train(lm, source, out=tmp_path, **LITTLE)


def test_texts_are_learned_without_a_model():
    texts = sample(MODEL, 40, 6, 0).tokens
    found = train(CausalGRU(V, width=4, seed=0), texts, lengths=[6, 2] * 20, **LITTLE)
    assert set(found.log.data_vars) == {"loss"}
    assert found.log["loss"][-1] < found.log["loss"][0]


def test_other_directories_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ForeignFile):
        train(BidirectionalLM(V, width=4, seed=0), MODEL, out=tmp_path, **LITTLE)
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]


WRONG = {
    "another vocabulary": ({"source": random_hmm("dirichlet", 3, V + 1, 0)}, "expected V = .*as the language model's"),
    "many models": ({"source": HMM.stack([MODEL, MODEL])}, "expected one model, got a batch"),
    "the oracle": ({"source": OracleLM(MODEL)}, "source of training"),
    "a path": ({"source": "model.nc"}, "load the file first"),
    "one text": ({"source": [[0, 1]]}, "at least two texts"),
    "floats": ({"source": [[0.5, 1.0]]}, "expected integers"),
    "an objective": ({"objective": "mse"}, "expected one of exact, quad, tokens"),
    "no exact laws": ({"source": [[0, 1], [1, 0]], "objective": "exact"}, "expected a model, whose laws are exact"),
    "steps": ({"steps": 0}, "steps: expected an integer of at least 1"),
    "a rate": ({"learning_rate": -1}, "learning_rate: expected a number in 0..1"),
    "masks": ({"source": [[-1, -1, -1]] * 4}, "held-out text: expected tokens to predict, got only masks"),
    "lengthening": ({"lengthening": -0.5}, "lengthening: expected a number in 0..1"),
    "more than a float holds": ({"lengthening": 10**400}, "lengthening: expected a number in 0..1"),
    "a warm-up": ({"warm_up": 1.5}, "warm_up: expected a number in 0..1"),
    "a generator": ({"seed": torch.Generator()}, "seed of training: expected an integer"),
    "an exact model": ({"lm": OracleLM(MODEL)}, "language model to train: expected a BidirectionalLM"),
    "lengths of a model": ({"lengths": [1]}, "lengths"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_is_one_clear_line(name):
    changed, message = WRONG[name]
    arguments = {"lm": BidirectionalLM(V, width=4, seed=0), "source": MODEL, **LITTLE, **changed}
    with pytest.raises(InvalidInput, match=message) as error:
        train(arguments.pop("lm"), arguments.pop("source"), **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("warm_up", "peak"), [(0.0, range(40, 60)), (0.5, range(80, 101))])
def test_the_rate_rises_and_falls(warm_up, peak):
    rates = [Plan(Objective.TOKENS, 200, 8, 6, 1.0, 0, warm_up).rate(step) for step in range(200)]
    assert int(np.argmax(rates)) in peak
    assert rates[-1] < 1e-3
    assert Plan(Objective.TOKENS, 5, 8, 6, 1.0, 0, warm_up).rate(0) == 0.2  # as long as a short training, at most


@pytest.mark.parametrize(("lengthening", "n_read"), [(0.0, [83] * 5), (0.5, [10, 46, 83, 83, 83])])
def test_texts_grow_to_their_length(lengthening, n_read):
    plan = Plan(Objective.TOKENS, 100, 8, 83, 1.0, 0, lengthening=lengthening)
    assert [plan.tokens_read(step, 83) for step in (0, 25, 50, 75, 99)] == n_read
    assert {plan.tokens_read(step, 6) for step in range(100)} == {6}  # no shorter text is cut


@pytest.mark.parametrize("source", [MODEL, sample(MODEL, 30, 40, seed=1).tokens])
def test_a_text_that_grows_is_learned_and_goes_on_bit_by_bit(source, tmp_path):
    plan = {"steps": 20, "batch_size": 4, "length": 40, "lengthening": 1, "seed": 0}
    lm = BidirectionalLM(V, width=4, seed=0)
    whole = train(lm, source, **plan)
    with pytest.raises(Stopped):
        train(lm, source, out=tmp_path, progress=stop_at(13), **plan)
    again = train(lm, source, out=tmp_path, **plan)
    assert torch.equal(parameters(again.lm), parameters(whole.lm))
    assert whole.log.loss[-1] < whole.log.loss[0]
    assert whole.log.attrs["lengthening"] == 1
    assert not torch.equal(parameters(train(lm, source, **{**plan, "lengthening": 0}).lm), parameters(whole.lm))
