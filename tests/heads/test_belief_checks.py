"""What a probe takes for beliefs: laws that follow from the model's own, after the same prefix."""

import numpy as np
import pytest
import torch

from ppl_hmm import InvalidInput, SoftPrompt, belief_probe, beliefs, process, sample

MESS3 = process("mess3")
TEXT = sample(MESS3, 60, 6, seed=0).tokens
LAWS = beliefs(MESS3, TEXT).filtered
NOISE = torch.randn(*LAWS.shape[:2], 2, generator=torch.Generator().manual_seed(0))


def of_machine(machine, shift=0):
    text = sample(machine.hmm, 60, 8, seed=0).tokens
    laws = machine.mealy_beliefs(beliefs(machine.hmm, text).filtered)
    shape = (60, 8, 1)
    return belief_probe(torch.zeros(shape), laws[:, 1 + shift : 9 + shift], machine.hmm, text)


LATE, EARLY = r"laws after x_1..x_t, got those after x_1..x_\(t-1\): they are a token late", r"x_\(t\+1\): .* early"
OTHER = r"laws that follow from the model's P\(H_t \| x_1..x_t\).*another model's, or after a prompt"
REFUSED = {
    "late, without the first": (NOISE[:, 1:], LAWS[:, :-1], LATE),
    "late, and filled up": (NOISE, LAWS[:, [0, *range(6)]], LATE),
    "late, in a circle": (NOISE, LAWS.roll(1, 1), LATE),
    "late, at the ends": (NOISE[:, -1], LAWS[:, -2], LATE),
    "early, in a circle": (NOISE, LAWS.roll(-1, 1), EARLY),
    "another model": (NOISE, beliefs(process("mess3", x=0.2), TEXT), OTHER),
    "another model, float32": (NOISE, beliefs(process("mess3", x=0.2), TEXT).filtered.float(), OTHER),
    "after a prompt": (NOISE, beliefs(MESS3, TEXT, prompt=SoftPrompt([[1.0, 0.2, 0.1]])), OTHER),
    "after shorter memory": (NOISE, LAWS**2 / (LAWS**2).sum(-1, keepdim=True), OTHER),
}


@pytest.mark.parametrize(("activations", "laws", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_follow_from_the_models_beliefs_is_refused(activations, laws, message):
    with pytest.raises(InvalidInput, match=message):
        belief_probe(activations, laws, MESS3, TEXT)


def test_beliefs_of_a_machine_that_are_late_are_refused():
    of_machine(process("rrxor"))
    with pytest.raises(InvalidInput, match="a token late"):
        of_machine(process("rrxor"), shift=-1)


def test_what_depends_on_the_text_through_the_state_is_a_belief():
    found = beliefs(MESS3, TEXT)
    grouped = torch.stack([found.filtered[..., 0] + found.filtered[..., 1], found.filtered[..., 2]], -1)
    for laws in (found.filtered[..., [2, 0, 1]], found.predicted, found.next_token, found.filtered.float(), grouped):
        tree = belief_probe(NOISE, laws, MESS3, TEXT)
        np.testing.assert_allclose(tree["prefixes/beliefs"], laws.reshape(-1, laws.shape[-1]), atol=1e-7)
