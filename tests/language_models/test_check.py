"""The check of language models: each fault is found and named, and nothing is raised."""

# ruff: noqa: ARG002, ARG005  # members take what the protocol gives them

import numpy as np
import pytest
import torch

from ppl_hmm import CausalOracleLM, OracleLM, check_language_model, example, random_hmm, random_memory_hmm
from ppl_hmm.schema import Outcome, Requirement

MODEL, _ = example("aliased")


class Faulty:
    """An exact masked language model with one thing changed."""

    def __init__(self, **changes):
        self.__dict__.update(lm=OracleLM(MODEL), changes=changes)

    def __getattr__(self, name):
        if name in self.changes:
            return self.changes[name](self.lm)
        return getattr(self.lm, name)


class Absent(Faulty):
    def __getattr__(self, name):
        if name in self.changes:
            raise AttributeError(name)
        return super().__getattr__(name)


def laws(change):
    """Return a fault of the laws: ``change`` gets the language model, its laws and the arguments."""

    def member(lm):
        def conditionals(tokens, *, prompt=None, positions=None, lengths=None):
            found = lm.conditionals(tokens, prompt=prompt, positions=positions, lengths=lengths)
            return change(found, torch.as_tensor(tokens), positions)

        return conditionals

    return {"conditionals": member}


def reading_its_token(found, tokens, positions):
    own = tokens if positions is None else tokens[:, list(positions)]
    seen = torch.nn.functional.one_hot(own.clamp(min=0), found.shape[-1]) * (own >= 0)[..., None]
    return (found + seen) / (found + seen).sum(-1, keepdim=True)


def noisy(found, tokens, positions):
    return (found * torch.rand_like(found)).log_softmax(-1).exp()


def of_the_batch(found, tokens, positions):
    mixed = found + found.mean(0, keepdim=True)
    return mixed / mixed.sum(-1, keepdim=True)


def unlike_encoded(lm):
    class Encoded:
        def conditionals(self, prompt=None, positions=None):
            return lm.encode([[0, 0, 0, 0, 0, 0]] * 3).conditionals(prompt, positions)

    return lambda tokens, lengths=None: Encoded()


def detached(lm):
    class Encoded:
        def __init__(self, text):
            self.text = text

        def conditionals(self, prompt=None, positions=None):
            return self.text.conditionals(prompt, positions).detach()

    return lambda tokens, lengths=None: Encoded(lm.encode(tokens, lengths))


def raising(lm):
    raise RuntimeError("no such device\nat all")


FAULTS = {
    "logits": (Faulty(**laws(lambda g, *_: g.log())), Requirement.LAWS, "softmax"),
    "unnormalised": (Faulty(**laws(lambda g, *_: 2 * g)), Requirement.LAWS, "divide by the sum"),
    "NaN": (Faulty(**laws(lambda g, *_: g * torch.nan)), Requirement.LAWS, "mend the language model"),
    "integers": (Faulty(**laws(lambda g, *_: g.long())), Requirement.LAWS, "double"),
    "V": (Faulty(vocabulary_size=lambda lm: lm.vocabulary_size - 1), Requirement.LAWS, "vocabulary_size"),
    "float V": (Faulty(vocabulary_size=lambda lm: 2.0), Requirement.MEMBERS, "correct it"),
    "first token": (Faulty(**laws(reading_its_token)), Requirement.LEAVE_ONE_OUT, "mask it"),
    "dropout": (Faulty(**laws(noisy)), Requirement.REPEATABLE, "dropout"),
    "batch": (Faulty(**laws(of_the_batch)), Requirement.TEXTS_APART, "batch"),
    "all positions": (
        Faulty(conditionals=lambda lm: lambda tokens, *, prompt=None, positions=None, lengths=None: lm.conditionals(
            tokens, prompt=prompt, lengths=lengths)),
        Requirement.POSITIONS,
        "positions",
    ),
    "lengths": (
        Faulty(conditionals=lambda lm: lambda tokens, *, prompt=None, positions=None, lengths=None: lm.conditionals(
            tokens, prompt=prompt, positions=positions)),
        Requirement.LENGTHS,
        "lengths[b]",
    ),
    "encode": (Faulty(encode=unlike_encoded), Requirement.ENCODE, "one function"),
    "gradient": (Faulty(encode=detached), Requirement.PROMPT_GRADIENT, "no_grad"),
    "constraint": (Faulty(prompt_constraint=lambda lm: "positive"), Requirement.SIZES, "real"),
    "shape": (Faulty(prompt_shape=lambda lm: 2), Requirement.SIZES, "tuple"),
    "no encode": (Absent(encode=None), Requirement.MEMBERS, "add what is missing"),
    "raises": (Faulty(encode=raising), Requirement.MEMBERS, "accept"),
    "a model": (MODEL, Requirement.MEMBERS, "OracleLM(model)"),
    "a class": (OracleLM, Requirement.MEMBERS, "instance"),
    "nothing": (None, Requirement.MEMBERS, "add"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_named(name):
    lm, requirement, remedy = FAULTS[name]
    check = check_language_model(lm)
    found = {each.requirement: each for each in check.results}[requirement]
    assert not check.passed
    assert found.outcome is Outcome.FAILED
    assert remedy in found.remedy or remedy in found.got
    assert str(requirement) in str(check)
    assert "does not meet" in str(check).splitlines()[0]
    assert all("\n" not in str(each) for each in check.results)


@pytest.mark.parametrize("seed", range(5))
def test_exact_language_models_pass(seed):
    model = random_hmm("dirichlet", 3, 4, seed)
    for lm in (OracleLM(model), CausalOracleLM(model), OracleLM(random_memory_hmm("dirichlet", 2, 2, 4, seed))):
        check = check_language_model(lm)
        assert check.passed, str(check)
        assert all(each.outcome is Outcome.PASSED for each in check.results)


def test_a_batch_of_models_in_single_precision_passes():
    models = MODEL.stack([MODEL, MODEL])
    for lm in (OracleLM(models), CausalOracleLM(models), OracleLM(MODEL.to(torch.float32))):
        assert check_language_model(lm).passed, str(check_language_model(lm))


def test_causal_faults():
    class Seeing(CausalOracleLM):
        def next_token_laws(self, tokens, *, prompt=None, lengths=None):
            found = super().next_token_laws(tokens, prompt=prompt, lengths=lengths)
            return found.flip(-2)

    class Deaf(CausalOracleLM):
        def law_after(self, tokens, *, prompt=None, suffix=None, lengths=None):
            return super().law_after(tokens, lengths=lengths)

    failed = {each.requirement for each in check_language_model(Seeing(MODEL)).failed}
    assert Requirement.CAUSAL in failed
    failed = {each.requirement for each in check_language_model(Deaf(MODEL)).failed}
    assert {Requirement.SUFFIX, Requirement.PROMPT} <= failed


def test_own_text():
    tokens = np.array([[0, 1, 0, 1, 1], [1, 1, 0, 0, 1]])
    assert check_language_model(OracleLM(MODEL), tokens).passed
