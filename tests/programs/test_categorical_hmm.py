"""CategoricalHMM at its edges: tokens, types, plates, conversions; against brute force and Pyro's DiscreteHMM."""

import doctest
import warnings

import numpy as np
import oracle
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from comparisons import assert_equal
from hypothesis import given, settings, strategies as st
from pyro import poutine
from sweeps import sweep

from ppl_hmm.base.tokens import MASK
from ppl_hmm.errors import ImpossibleText, InvalidInput
from ppl_hmm.inference.queries import log_likelihood, posterior
from ppl_hmm.inference.sampling import sample
from ppl_hmm.language_models.oracle import OracleLM
from ppl_hmm.language_models.probe import masked_features
from ppl_hmm.models import HMM, hmm as parameters_hmm
from ppl_hmm.programs import distribution
from ppl_hmm.programs.distribution import CategoricalHMM

MODEL = HMM([0.6, 0.4], [[0.7, 0.3], [0.2, 0.8]], [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
TEXT = [[0, 1, 2, 2], [2, 1, 0, 0]]
LOG_EVIDENCE = [-4.09031270110873, -4.641626722998707]  # by hmmlearn: MODEL.to_hmmlearn().score
READERS = {
    "log_prob": CategoricalHMM.log_prob,
    "initial_posterior": CategoricalHMM.initial_posterior,
    "filter": CategoricalHMM.filter,
    "smooth": CategoricalHMM.smooth,
    "viterbi": CategoricalHMM.viterbi,
    "sample_posterior": lambda law, text: law.sample_posterior(text, 2, seed=0),
}
each_reader = pytest.mark.parametrize("read", READERS.values(), ids=READERS)


def law_of(model, **options):
    emission = dist.Categorical(logits=model.emission.log())
    return CategoricalHMM(model.initial.log(), model.transition.log(), emission, **options)


# Tokens.


@each_reader
@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize(
    "tokens",
    [[0, 1, 1000, 0], [3, 0, 0, 0], [0, 0, 0, -2], [0, 900_000_000, 1, 1], [0.0, 0.5, 1.0, 1.0], [0.0, np.nan, 1, 1]],
)
def test_every_method_refuses_tokens_that_are_none(read, validate, tokens):
    with pytest.raises(InvalidInput, match="token"):
        read(law_of(MODEL, validate_args=validate), torch.tensor(tokens))


@each_reader
def test_tokens_are_checked_where_python_and_pyro_validate_nothing(read):
    with pyro.validation_enabled(False):  # as under python -O
        law = MODEL.to_categorical_hmm()
        with pytest.raises(InvalidInput, match=r"at sequence 1, position 2: .* got 1000"):
            read(law.expand((2,)), torch.tensor([[0, 1, 2, 0], [0, 1, 1000, 0]]))


@each_reader
@pytest.mark.parametrize(
    "convert",
    [
        list,
        np.asfortranarray,
        lambda text: np.array(text, np.uint8),
        lambda text: torch.tensor(text, dtype=torch.uint8),
        lambda text: torch.tensor(text).double(),
        lambda text: torch.tensor(text).half(),
    ],
)
def test_tokens_of_any_integer_kind_and_whole_floats_are_read_alike(read, convert):
    law = law_of(MODEL, validate_args=True)
    ours, expected = read(law, convert(TEXT)), read(law, torch.tensor(TEXT))
    if isinstance(ours, dist.Categorical):
        ours, expected = ours.logits, expected.logits
    assert torch.equal(ours, expected)


@each_reader
@pytest.mark.parametrize(
    "value",
    [
        [[0, 1, 2], [2]],
        np.ma.masked_array([[0, 1, 2], [2, 1, 1]], mask=[[0, 0, 0], [0, 1, 1]]),
        pd.DataFrame([[0, 1, 2], [2, None, None]]).astype("Int64"),
        xr.DataArray([[0, 2], [1, MASK], [2, MASK]], dims=("position", "sequence")),
        np.ma.masked_array([[[0, 1, 2], [2, 1, 1]]], mask=[[[0, 0, 0], [0, 1, 1]]]),
    ],
    ids=["ragged", "masked", "frame", "labelled", "nested"],
)
def test_missing_tokens_and_labels_count_as_everywhere(read, value):
    law, expected = MODEL.to_categorical_hmm(), torch.tensor([[0, 1, 2], [2, MASK, MASK]])
    ours, expected = read(law, value), read(law, expected)
    if isinstance(ours, dist.Categorical):
        ours, expected = ours.logits, expected.logits
    assert torch.equal(ours.reshape(expected.shape), expected)


@each_reader
@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize(
    "value",
    [None, 3, "text", [[True, False]], [[1j]], [], [[], []], torch.zeros(0, 4).long(), torch.zeros(3, 4).long()],
)
def test_what_is_no_text_is_refused_in_our_words(read, validate, value):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch, of complex numbers
        with pytest.raises(InvalidInput):
            read(law_of(MODEL, validate_args=validate).expand((2,)), value)


# Parameters.


@pytest.mark.parametrize("single", [{0}, {1}, {2}, {0, 1}, {1, 2}, {0, 2}, {0, 1, 2}])
def test_logits_of_several_types_are_promoted_as_those_of_discrete_hmm(single):
    logits = [MODEL.initial.log(), MODEL.transition.log()[None], MODEL.emission.log()[None]]
    initial, transition, emission = (each.float() if i in single else each for i, each in enumerate(logits))
    values = [
        kind(initial, transition, dist.Categorical(logits=emission)).log_prob(torch.tensor(TEXT))
        for kind in (CategoricalHMM, dist.DiscreteHMM)
    ]
    assert values[0].dtype == values[1].dtype
    assert_equal(values[0], LOG_EVIDENCE, 1e-6)
    assert_equal(*values, 1e-6)


def test_gradients_of_several_types_reach_the_logits():
    logits = [MODEL.initial.log().float(), MODEL.transition.log()[None], MODEL.emission.log()[None].float()]
    gradients = []
    for kind in (CategoricalHMM, dist.DiscreteHMM):
        leaves = [each.clone().requires_grad_() for each in logits]
        value = kind(leaves[0], leaves[1], dist.Categorical(logits=leaves[2])).log_prob(torch.tensor(TEXT))
        gradients.append(torch.autograd.grad(value.sum(), leaves))
    for one, other in zip(*gradients, strict=True):
        assert one.dtype == other.dtype
        assert_equal(one, other, 1e-6)


@pytest.mark.parametrize("kind", [torch.distributions.Categorical, dist.Categorical])
def test_emissions_may_be_torchs_or_pyros(kind):
    law = CategoricalHMM(MODEL.initial.log(), MODEL.transition.log(), kind(logits=MODEL.emission.log()))
    assert_equal(law.log_prob(TEXT), LOG_EVIDENCE, 1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"emission": dist.OneHotCategorical(logits=torch.zeros(2, 3))}, "pyro.distributions.torch.OneHotCategorical"),
        ({"emission": dist.Categorical(logits=torch.zeros(2, 3)).mask(False)}, "MaskedDistribution"),
        ({"initial": torch.tensor(0.0)}, "K"),
        ({"initial": torch.zeros(2, dtype=torch.complex64)}, "real numbers"),
        ({"transition": torch.zeros(2)}, "transition_logits"),
        ({"transition": torch.zeros(2, 2, device="meta")}, "device"),
        ({"transition": torch.zeros(5, 2, 2)}, "unsqueeze"),
        ({"initial": torch.zeros(3, 2), "transition": torch.zeros(4, 1, 2, 2)}, r"plates of .*\(3,\).*\(4,\)"),
        ({"transition": torch.tensor([[0.0, -800.0], [0.0, 0.0]]).double()}, r"transition_logits\[0, 1\].*-800"),
        ({"initial": torch.tensor([0.0, -120.0])}, r"initial_logits\[1\].*float32 can hold.*-120"),
        ({"duration": 0}, "duration"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_in_our_words(change, message):
    given = {
        "initial": torch.zeros(2),
        "transition": torch.zeros(2, 2),
        "emission": dist.Categorical(logits=torch.zeros(2, 3)),
        "duration": None,
    } | change
    with pytest.raises(InvalidInput, match=message):
        CategoricalHMM(
            given["initial"], given["transition"], given["emission"], duration=given["duration"], validate_args=True
        )


@pytest.mark.parametrize("batch_shape", [(), (4, 1)])
def test_probabilities_in_place_of_logarithms_are_warned_of(batch_shape):
    emission = dist.Categorical(logits=MODEL.emission.log())
    initial, transition = MODEL.initial, MODEL.transition.expand(*batch_shape, 2, 2)
    with pytest.warns(UserWarning, match=r"initial_logits look like probabilities.*pass initial\.log\(\)"):
        CategoricalHMM(initial, transition.log(), emission)
    with pytest.warns(UserWarning, match="transition_logits look like probabilities"):
        CategoricalHMM(initial.log(), transition.float(), emission)


@pytest.mark.parametrize("initial", [[0.0, 0.0], [0.5, 0.6], [1.5, -0.5], [0.0, -np.inf]])
def test_logits_that_are_no_probabilities_are_not_warned_of(initial):
    with_transition(torch.zeros(2, 2), torch.tensor(initial))  # warnings are errors
    certain = dist.Categorical(logits=torch.zeros(1, 3))
    CategoricalHMM(torch.ones(1), torch.ones(1, 1), certain)  # one state: both say the same


def test_exact_zeros_and_the_smallest_probabilities_are_no_mistakes():
    smallest = torch.tensor([1.0, 1e-45])
    law = CategoricalHMM(smallest.log(), torch.eye(2).log(), dist.Categorical(logits=torch.eye(2).log()))
    assert_equal(law.log_prob([[0], [1]]), [0.0, smallest[1].double().log()], 1e-4)


# Laws: brute force and DiscreteHMM.


@pytest.mark.parametrize("seed", sweep(60, quick=20))
def test_laws_equal_brute_force(seed):
    case = oracle.random_case(seed)
    expected = oracle.truth(case.model, case.masked_tokens)
    law = case.model.to_categorical_hmm()
    tokens = torch.tensor(case.masked_tokens)
    assert_equal(law.log_prob(tokens), expected.log_evidence)
    assert_equal(law.initial_posterior(tokens), expected.initial)
    assert_equal(law.smooth(tokens), expected.smoothed)
    possible = torch.tensor(expected.log_evidence > -np.inf)
    assert ((law.viterbi(tokens) >= 0).all(-1) == possible).all()
    if possible.any():
        assert_equal(law.filter(tokens[possible]).logits.exp(), expected.smoothed[possible][:, -1])
    if not possible.all():
        with pytest.raises(ImpossibleText, match=rf"text \[{(~possible).nonzero()[0].item()}\]"):
            law.filter(tokens)
        with pytest.raises(ImpossibleText):
            law.sample_posterior(tokens, 1, seed=0)


@settings(max_examples=50)
@given(st.integers(0, 10_000))
def test_log_prob_and_filter_equal_those_of_discrete_hmm(seed):
    rng = np.random.default_rng(seed)
    n_states, n_tokens, length = rng.integers(1, 5, size=3)
    zeros = rng.choice([0.0, 0.4])
    batches = [(), (2,), (3, 1), (3, 2)]
    sizes = [(n_states,), (1, n_states, n_states), (1, n_states, n_tokens)]
    logits = [
        torch.tensor(oracle.random_rows(rng, *batches[rng.integers(4)], *size, zeros=zeros)).log() for size in sizes
    ]
    ours, theirs = (
        kind(logits[0], logits[1], dist.Categorical(logits=logits[2]), validate_args=False)
        for kind in (CategoricalHMM, dist.DiscreteHMM)
    )
    assert ours.batch_shape == theirs.batch_shape
    if rng.random() < 0.5:
        ours, theirs = (each.expand((4, 3, 2)) for each in (ours, theirs))
    text = torch.tensor(rng.integers(n_tokens, size=(*[(), (2,), (3, 2), (4, 3, 2)][rng.integers(4)], length)))
    expected = theirs.log_prob(text)
    assert ours.log_prob(text).shape == expected.shape
    assert_equal(ours.log_prob(text), expected)
    if (expected > -torch.inf).all():
        assert ours.filter(text).batch_shape == theirs.filter(text).batch_shape
        assert_equal(ours.filter(text).logits.exp(), theirs.filter(text).logits.exp())


@pytest.mark.parametrize(("dtype", "least"), [(torch.float64, 1e-200), (torch.float32, 1e-25)])
def test_filtered_laws_keep_what_probabilities_cannot_hold(dtype, least):
    rows = torch.tensor([[1 - least, least], [0.5, 0.5]], dtype=dtype)
    transition = torch.eye(2, dtype=dtype)
    ours, theirs = (
        kind(torch.zeros(2, dtype=dtype), transition.log()[None], dist.Categorical(logits=rows.log()[None]))
        for kind in (CategoricalHMM, dist.DiscreteHMM)
    )
    text = torch.ones(6, dtype=torch.int64)
    expected = 6 * np.log(least) - 6 * np.log(0.5)  # the odds of the states
    assert_equal(ours.filter(text).logits[0], expected, 1e-5 * abs(expected))
    assert_equal(ours.filter(text).logits, theirs.filter(text).logits, 1e-5 * abs(expected))


@pytest.mark.parametrize("zeros", [0.0, 0.4])
@pytest.mark.parametrize("seed", range(5))
def test_filter_is_differentiable_as_that_of_discrete_hmm(seed, zeros):
    rng = np.random.default_rng(seed)
    rows = [torch.tensor(oracle.random_rows(rng, *size, zeros=zeros)) for size in ((3,), (1, 3, 3), (1, 3, 4))]
    text = sample(HMM(rows[0], rows[1][0], rows[2][0]), 2, 5, seed=0).tokens
    weights = torch.tensor(rng.normal(size=(2, 3)))
    gradients = []
    for kind, zero in ((CategoricalHMM, -torch.inf), (dist.DiscreteHMM, -80.0)):  # Pyro's gives NaN at -inf
        leaves = [torch.where(r > 0, r.log(), zero).requires_grad_() for r in rows]
        law = kind(leaves[0], leaves[1], dist.Categorical(logits=leaves[2])).filter(text).logits.exp()
        gradients.append(torch.autograd.grad((law * weights).sum(), leaves))
    for one, other, r in zip(*gradients, rows, strict=True):
        assert_equal(one[r > 0], other[r > 0])


def test_text_after_a_filtered_law():
    law = MODEL.to_categorical_hmm()
    emission = dist.Categorical(logits=law.emission_logits)
    later = CategoricalHMM(law.filter([0, 1, MASK]).logits, law.transition_logits, emission)
    total = law.log_prob([0, 1, MASK]) + later.log_prob([2, MASK, 1])
    assert_equal(total, law.log_prob([0, 1, MASK, 2, MASK, 1]), 1e-12)


# Conversions.


def test_models_and_distributions_convert_into_each_other():
    models = HMM.stack([oracle.random_model(np.random.default_rng(seed), 3, 4) for seed in range(2)])
    law = models.to_categorical_hmm(duration=5)
    assert law.batch_shape == (2,)
    assert law.event_shape == (5,)
    assert law.to_hmm().allclose(models)
    assert HMM.from_discrete_hmm(law).allclose(models)
    assert HMM.from_discrete_hmm(models.to_discrete_hmm()).allclose(law.to_hmm())
    text = torch.randint(4, (2, 7, 5), generator=torch.Generator().manual_seed(0))
    assert_equal(law.log_prob(text.transpose(0, 1)).T, log_likelihood(models, text))


def test_batch_dimensions_of_parameters_expand_in_the_model():
    initial = torch.zeros(4, 1, 2).double().requires_grad_()
    transition, emission = MODEL.transition.log().expand(3, 1, 2, 2), dist.Categorical(logits=MODEL.emission.log())
    model = CategoricalHMM(initial, transition, emission).expand((5, 4, 3)).to_hmm()
    assert model.batch_shape == (5, 4, 3)
    assert torch.equal(model.transition, MODEL.transition.log().log_softmax(-1).exp().expand(5, 4, 3, 2, 2))
    assert model.initial.requires_grad


def test_where_a_model_is_asked_for_the_message_names_the_conversion():
    law = MODEL.to_categorical_hmm()
    for ask in (lambda: posterior(law, TEXT), lambda: OracleLM(law), lambda: masked_features(law, TEXT)):
        with pytest.raises(InvalidInput, match=r"distribution\.to_hmm\(\)"):
            ask()


def test_from_discrete_hmm_names_what_it_takes():
    for other in (MODEL, dist.Categorical(torch.ones(2)), None):
        with pytest.raises(InvalidInput, match="a DiscreteHMM or CategoricalHMM"):
            HMM.from_discrete_hmm(other)


# Plates.

GROUPS = 4


def grouped(seed=0):
    """Return a transition for each group, as drawn in a plate (group, 1), and texts (group, text)."""
    rng = np.random.default_rng(seed)
    transition = torch.tensor(oracle.random_rows(rng, GROUPS, 1, 2, 2)).log()
    return transition, torch.tensor(rng.integers(3, size=(GROUPS, GROUPS, 5)))


def with_transition(transition, initial=None):
    initial = MODEL.initial.log() if initial is None else initial
    return CategoricalHMM(initial, transition, dist.Categorical(logits=MODEL.emission.log()))


def test_a_plate_that_may_be_time_is_warned_of_where_sizes_hide_it():
    transition, text = grouped()
    meant = with_transition(transition.unsqueeze(-3))
    of_groups = [HMM(MODEL.initial, each[0].exp(), MODEL.emission) for each in transition]
    expected = torch.stack([log_likelihood(model, of) for model, of in zip(of_groups, text, strict=True)])
    assert_equal(meant.log_prob(text), expected)
    with pytest.warns(UserWarning, match=r"transition_logits.*\.unsqueeze\(-3\)"):
        with_transition(transition).log_prob(text)
    with pytest.warns(UserWarning, match=r"transition_logits.*\.unsqueeze\(-3\)"):
        with_transition(transition).expand((GROUPS, GROUPS)).smooth(text)
    with pytest.warns(UserWarning, match=r"transition_logits.*\.unsqueeze\(-3\)"):  # the groups twice
        with_transition(transition, torch.zeros(GROUPS, 1, 2)).log_prob(text[0, 0])
    emission = torch.zeros(GROUPS, 1, 2, 3)
    with pytest.warns(UserWarning, match=r"observation_dist.*\.unsqueeze\(-3\)"):
        CategoricalHMM(torch.zeros(2), torch.zeros(2, 2), dist.Categorical(logits=emission)).log_prob(text)


def test_plates_of_other_sizes_show_the_error_themselves():
    transition, text = grouped()
    with pytest.raises(InvalidInput, match=r"unsqueeze\(-3\)"):
        with_transition(transition).log_prob(text[:, :3])


@pytest.mark.parametrize(
    ("initial", "transition", "text"),
    [
        ((2,), (2, 2), (4, 4)),
        ((2,), (1, 2, 2), (4, 4)),
        ((2,), (1, 1, 2, 2), (4, 4)),
        ((2,), (4, 1, 2, 2), (4,)),
        ((2,), (4, 1, 2, 2), ()),
        ((2,), (4, 1, 2, 2), (3, 4)),
        ((4, 2), (4, 1, 2, 2), (4, 4)),  # the initial law says so
        ((4, 1, 2), (4, 1, 1, 2, 2), (4, 4)),
        ((2,), (4, 1, 1, 2, 2), (4, 4)),
        ((2,), (1, 4, 1, 2, 2), (4, 4)),  # as many axes as plates, and time
        ((4, 4, 2), (4, 4, 1, 2, 2), (4, 4)),
    ],
)
def test_parameters_of_one_meaning_are_not_warned_of(initial, transition, text):
    with_transition(torch.zeros(transition), torch.zeros(initial)).log_prob(torch.zeros(*text, 3).long())


@pytest.mark.parametrize("n_texts", [3, GROUPS])
def test_nested_plates_give_each_group_its_model(n_texts):
    transition, text = grouped()
    text = text[:, :n_texts]

    def program():
        with pyro.plate("group", GROUPS, dim=-2):
            moves = pyro.sample("moves", dist.Dirichlet(torch.ones(2, 2).double()).to_event(1))
            with pyro.plate("text", n_texts, dim=-1), poutine.mask(mask=torch.arange(n_texts) > 0):
                pyro.sample("tokens", with_transition(moves.log().unsqueeze(-3)), obs=text)

    trace = poutine.trace(poutine.condition(program, {"moves": transition.exp()})).get_trace()
    trace.compute_log_prob()
    of_groups = [HMM(MODEL.initial, each[0].exp(), MODEL.emission) for each in transition]
    expected = torch.stack([log_likelihood(model, of) for model, of in zip(of_groups, text, strict=True)])
    expected[:, 0] = 0
    assert_equal(trace.nodes["tokens"]["log_prob"], expected)


def test_vectorised_particles_are_plates():
    text = torch.tensor(TEXT)

    def program():
        moves = pyro.sample("moves", dist.Dirichlet(torch.ones(2, 2).double()).to_event(1))
        with pyro.plate("text", 2, dim=-1):
            pyro.sample("tokens", with_transition(moves.log().unsqueeze(-3)), obs=text)

    pyro.set_rng_seed(0)
    particles = pyro.plate("particles", 2, dim=-2)  # as many as texts
    trace = poutine.trace(lambda: particles(program)()).get_trace()
    trace.compute_log_prob()
    moves = trace.nodes["moves"]["value"]
    expected = [log_likelihood(HMM(MODEL.initial, each[0], MODEL.emission), text) for each in moves]
    assert_equal(trace.nodes["tokens"]["log_prob"], torch.stack(expected))


def test_docstring_examples_run():
    for module in (distribution, parameters_hmm):
        result = doctest.testmod(module)
        assert result.attempted > 0
        assert result.failed == 0


@pytest.mark.parametrize("which", ["initial", "transition", "emission"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_diverged_give_nan_without_validation(which, value):
    logits = {name: getattr(MODEL, name).log().clone() for name in MODEL.dimensions}
    logits[which][..., 0] = value
    emission = dist.Categorical(logits=logits["emission"], validate_args=False)
    law = CategoricalHMM(logits["initial"], logits["transition"], emission, validate_args=False)
    assert law.log_prob(TEXT).isnan().all()
    with pytest.raises(ValueError, match="logits"):
        CategoricalHMM(logits["initial"], logits["transition"], emission, validate_args=True)


def test_one_model_that_diverged_leaves_the_others():
    transition = torch.stack([MODEL.transition.log(), torch.full((2, 2), torch.nan, dtype=torch.float64)])
    emission = dist.Categorical(logits=MODEL.emission.log())
    law = CategoricalHMM(MODEL.initial.log(), transition[:, None], emission, validate_args=False)
    found = law.log_prob(torch.tensor(TEXT[0]))
    np.testing.assert_allclose(found, [LOG_EVIDENCE[0], np.nan], rtol=1e-13)
