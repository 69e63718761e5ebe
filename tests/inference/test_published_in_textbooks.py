"""Worked examples of textbooks and tutorials: every printed digit."""

import dataclasses

import numpy as np
import pytest
import torch
from published import Exact, Example, Ours, assert_rounds_to, check, with_end

from ppl_hmm import MASK, log_likelihood, masked_conditionals, posterior, sample_posterior, smoothed_segments

EVERY_BACKEND = True

# Russell & Norvig, Artificial Intelligence: A Modern Approach (3rd edition, 2010): the umbrella world. R_0 is silent.
UMBRELLA = Example(
    name="Russell & Norvig 2010, 15.2.1-2: two days of umbrellas, and the day after",
    start="0.5 0.5",
    transition="0.7 0.3; 0.3 0.7",
    emission="0.9 0.1; 0.2 0.8",
    alphabet="uo",
    text="uu?",
    states="RS",
    silent_start=True,
    published={
        "entered": "0.500 0.500",
        "filtered": "0.818 0.182; 0.883 0.117",
        "smoothed": "0.883 0.117; 0.883 0.117",
    },
)
# Its smoothed probabilities start with day 0: our P(H₀|x).
FIVE_DAYS = dataclasses.replace(
    UMBRELLA,
    name="Wikipedia, Forward-backward algorithm (2024): five days of umbrellas",
    text="uuouu",
    published={
        "filtered": "0.8182 0.1818; 0.8834 0.1166; 0.1907 0.8093; 0.7308 0.2692; 0.8673 0.1327",
        "initial": "0.6469 0.3531",
        "smoothed": "0.8673 0.1327; 0.8204 0.1796; 0.3075 0.6925; 0.8204 0.1796; 0.8673 0.1327",
    },
)
# Its best paths start on day 1, whose law is P(R_1): π₀A.
BEST_DAYS = dataclasses.replace(
    UMBRELLA,
    name="Russell & Norvig 2010, 15.2.3: the most likely five days",
    text="uuouu",
    silent_start=False,
    published={"path": "RRSRR"},
)
FEVER = Example(
    name="Wikipedia, Viterbi algorithm (2024): a village's patients feel normal, cold, dizzy",
    start="0.6 0.4",
    transition="0.7 0.3; 0.4 0.6",
    emission="0.5 0.4 0.1; 0.1 0.3 0.6",
    alphabet="ncd",
    text="ncd",
    states="HF",
    published={"path": "HHF", "best_of_prefixes": "0.3 0.084 0.01512", "path_probability": "0.01512"},
)
STAMP = Example(
    name="Stamp, A revealing introduction to hidden Markov models (2004), 1: tree rings",
    start="0.6 0.4",
    transition="0.7 0.3; 0.4 0.6",
    emission="0.1 0.4 0.5; 0.7 0.2 0.1",
    alphabet="SML",
    text="SMSL",
    states="HC",
    published={"path": "CCCH", "path_probability": "0.002822", "likeliest": "CHCH"},
)
# Arcs emit, by the state that they leave: a token at t, and one transition more after the last.
SOFT_DRINKS = Example(
    name="Manning & Schütze, Foundations of Statistical Natural Language Processing (1999), table 9.2",
    start="1 0",
    transition="0.7 0.3; 0.5 0.5",
    emission="0.6 0.1 0.3; 0.1 0.7 0.2",
    alphabet="cil",
    text="lic?",
    states="CI",
    published={
        "entered": "1.0 0.0; 0.21 0.09; 0.0462 0.0378; 0.021294 0.010206",
        "own_and_backward": "0.0315 0.029; 0.045 0.245; 0.6 0.1; 1.0 1.0",
        "likelihood": "0.0315",
        "smoothed": "1.0 0.0; 0.3 0.7; 0.88 0.12; 0.676 0.324",
        "likeliest": "CICC",
        "path": "CICC",
        # The table gives δ(4) = 0.01323 for this path. P(X̂) = 0.019404 beneath it is α(3)·0.6·0.7, no path's.
        "path_probability": "0.01323",
    },
)
ICE_CREAM = Example(
    name="Jurafsky & Martin, Speech and Language Processing (3rd edition, drafts), A.5 and A.8: 3 1",
    start="0.8 0.2",
    transition="0.6 0.4; 0.5 0.5",
    emission="0.2 0.4 0.4; 0.5 0.4 0.1",
    alphabet="123",
    text="31",
    states="HC",
    published={"forward": "0.32 0.02; 0.0404 0.069", "best_of_prefixes": "0.32 0.064"},
)
DIARY = with_end(
    Example(
        name="Eisner, An interactive spreadsheet for teaching the forward-backward algorithm (2002): 33 days",
        start="0.5 0.5",
        transition="0.8 0.1 0.1; 0.1 0.8 0.1",
        emission="0.7 0.2 0.1; 0.1 0.2 0.7",
        alphabet="123",
        text="233232322313311121113121112332322",
        states="CH",
        published={"forward": "0.1 0.1; 0.009 0.063; 0.00135 0.03591"},
    )
)
DNA = Example(
    name="Borodovsky & Ekisheva, Problems and Solutions in Biological Sequence Analysis (2006), 3: GGCACTGAA",
    start="0.5 0.5",
    transition="0.5 0.5; 0.4 0.6",
    emission="0.2 0.3 0.3 0.2; 0.3 0.2 0.2 0.3",
    alphabet="ACGT",
    text="GGCACTGAA",
    states="HL",
    published={"path": "HHHLLLLLL", "path_probability": "4.25e-8", "log2_path_probability": "-24.49"},
)
DNA_START = dataclasses.replace(DNA, name="the same: GGCA", text="GGCA", published={"likelihood": "0.0038432"})
WEATHER = Example(
    name="Rabiner, A tutorial on hidden Markov models (1989), II: sun sun sun rain rain sun cloud sun, after sun",
    start="0 0 1",
    transition="0.4 0.3 0.3; 0.2 0.6 0.2; 0.1 0.1 0.8",
    emission="1 0 0; 0 1 0; 0 0 1",
    alphabet="123",
    text="33311323",
    states="123",
    published={"likelihood": "1.536e-4", "path": "33311323"},
)
# Compeau & Pevzner, Bioinformatics Algorithms (2015), chapter 10, whose sample data Rosalind publishes as BA10A-J.
HIDDEN_PATH = Example(
    name="Compeau & Pevzner, BA10A: the probability of a path",
    start="0.5 0.5",
    transition="0.194 0.806; 0.273 0.727",
    emission="1 0; 0 1",
    alphabet="AB",
    text="AABBBAABABAAAABBBBAABBABABBBAABBAAAABABAABBABABBAB",
    published={"likelihood": "5.01732865318e-19"},
)
OUTCOME = Example(
    name="Compeau & Pevzner, BA10D: the probability of an outcome",
    start="0.5 0.5",
    transition="0.303 0.697; 0.831 0.169",
    emission="0.533 0.065 0.402; 0.342 0.334 0.324",
    alphabet="xyz",
    text="xzyyzzyzyy",
    published={"likelihood": "1.1005510319694847e-06"},
)
DECODED = dataclasses.replace(
    OUTCOME,
    name="Compeau & Pevzner, BA10C: the most probable path",
    transition="0.641 0.359; 0.729 0.271",
    emission="0.117 0.691 0.192; 0.097 0.42 0.483",
    text="xyxzzxyxyy",
    published={"path": "AAABBAAAAA"},
)
LONGER_OUTCOME = dataclasses.replace(
    OUTCOME,
    name="Compeau & Pevzner, BA10D: a hundred letters",
    transition="0.994 0.006; 0.563 0.437",
    emission="0.55 0.276 0.174; 0.311 0.368 0.321",
    text="zxxxzyyxyzyxyyxzzxzyyxzzxyxxzyzzyzyzzyxxyzxxzyxxzxxyzzzzzzzxyzyxzzyxzzyzxyyyyyxzzzyzxxyyyzxyyxyzyyxz",
    published={"likelihood": "4.08210708381e-55"},
)
SOFT_DECODING = dataclasses.replace(
    OUTCOME,
    name="Compeau & Pevzner, BA10J: soft decoding",
    transition="0.911 0.089; 0.228 0.772",
    emission="0.356 0.191 0.453; 0.04 0.467 0.493",
    text="zyxxxxyxzz",
    published={
        "smoothed": """0.5438 0.4562; 0.6492 0.3508; 0.9647 0.0353; 0.9936 0.0064; 0.9957 0.0043
            0.9891 0.0109; 0.9154 0.0846; 0.9640 0.0360; 0.8737 0.1263; 0.8167 0.1833"""
    },
)
# 300 rolls of a die that is loaded at times, and the path printed beneath them.
CASINO = Example(
    name="Durbin, Eddy, Krogh & Mitchison, Biological Sequence Analysis (1998), figure 3.5",
    start="0.5 0.5",
    transition="0.95 0.05; 0.1 0.9",
    emission="1/6 1/6 1/6 1/6 1/6 1/6; 1/10 1/10 1/10 1/10 1/10 1/2",
    alphabet="123456",
    text="315116246446644245311321631164152133625144543631656626566666"
    "651166453132651245636664631636663162326455236266666625151631"
    "222555441666566563564324364131513465146353411126414626253356"
    "366163666466232534413661661163252562462255265252266435353336"
    "233121625364414432335163243633665562466662632666612355245242",
    states="FL",
    published={
        "path": "F" * 48 + "L" * 18 + "F" * 12 + "L" * 34 + "F" * 67 + "L" * 13 + "F" * 78 + "L" * 19 + "F" * 11,
    },
)

EXAMPLES = [each for each in globals().values() if isinstance(each, Example)]


@pytest.mark.parametrize(
    ("example", "quantity"),
    [pytest.param(each, name, id=f"{each.name}: {name}") for each in EXAMPLES for name in each.published],
)
def test_every_printed_digit(example, quantity):
    check(example, quantity)


def probability_with(example, path):
    """Return P(path, text): a prompt whose rows rule out every other state."""
    states = [example.states.index(state) for state in path]
    ours = Ours(example)
    rows = torch.zeros(len(states), ours.model.n_states, dtype=torch.float64)
    for row, state, likelihoods in zip(rows, states, ours.rows, strict=True):
        row[state] = likelihoods[state]
    return float(log_likelihood(ours.model, [[MASK]], prompt=rows).exp())


def test_viterbi_messages_of_the_umbrella_world():
    """Russell & Norvig, figure 15.5, divide by P(u_1): the first message is the filtered law."""
    ours = Ours(BEST_DAYS)
    assert_rounds_to(np.array(ours.best_of_prefixes) / ours.prefixes[0], "0.8182 0.5155 0.1237 0.0334 0.0210", "m")


def test_the_umbrella_world_forgets():
    """Russell & Norvig, 15.2.1: predictions converge to (0.5, 0.5), here by a factor of 0.7 − 0.3 a day."""
    law = posterior(Ours(UMBRELLA).model, [[0, 0, *[MASK] * 20]]).smoothed[0, 1:, 0]
    expected = 0.5 + (float(law[0]) - 0.5) * 0.4 ** np.arange(21)
    np.testing.assert_allclose(law, expected, rtol=1e-12)


# Every path of table 1, with its probability, and the same over their sum.
TABLE_1 = """HHHH 0.000412 0.042787; HHHC 0.000035 0.003635; HHCH 0.000706 0.073320; HHCC 0.000212 0.022017;
    HCHH 0.000050 0.005193; HCHC 0.000004 0.000415; HCCH 0.000302 0.031364; HCCC 0.000091 0.009451;
    CHHH 0.001098 0.114031; CHHC 0.000094 0.009762; CHCH 0.001882 0.195451; CHCC 0.000564 0.058573;
    CCHH 0.000470 0.048811; CCHC 0.000040 0.004154; CCCH 0.002822 0.293073; CCCC 0.000847 0.087963"""
TREE_RINGS = {path: (probability, normalised) for path, probability, normalised in map(str.split, TABLE_1.split(";"))}


def test_every_path_of_the_tree_rings():
    """Stamp normalises probabilities that he rounded to six digits: 0.042787 is 0.000412 over the sum of such."""
    ours = {path: probability_with(STAMP, path) for path in TREE_RINGS}
    assert sum(ours.values()) == pytest.approx(Ours(STAMP).likelihood, rel=1e-12)
    rounded = {path: round(probability, 6) for path, probability in ours.items()}
    for path, (probability, normalised) in TREE_RINGS.items():
        assert_rounds_to(ours[path], probability, path)
        assert_rounds_to(rounded[path] / sum(rounded.values()), normalised, path)


def test_draws_of_paths_of_the_tree_rings():
    """Within four standard deviations, and the error of the printed law."""
    n_draws = 5000
    draws = sample_posterior(Ours(STAMP).model, [STAMP.tokens], n_draws, seed=0).states[0]
    for path, (_, normalised) in TREE_RINGS.items():
        wanted = torch.tensor([STAMP.states.index(state) for state in path])
        share, printed = float((draws == wanted).all(-1).double().mean()), float(normalised)
        assert abs(share - printed) < 4 * np.sqrt(printed * (1 - printed) / n_draws) + 2e-4, path


def test_table_2_of_the_tree_rings():
    """Stamp's P(H), day by day, are sums of the rounded table 1; exact are 0.188170 0.519432 0.228795 0.803979."""
    rounded = {path: float(probability) for path, (probability, _) in TREE_RINGS.items()}
    hot = [sum(rounded[path] for path in rounded if path[day] == "H") for day in range(4)]
    sums = np.array(hot) / sum(rounded.values())
    assert_rounds_to(sums, "0.188182 0.519576 0.228788 0.804029", "table 2")
    np.testing.assert_allclose(Ours(STAMP).smoothed[:, 0], sums, rtol=0, atol=2e-4)


def test_the_next_drink():
    """Manning & Schütze print P(lem), P(lem, ice_t), P(lem, ice_t, cola) = 0.3, 0.084, 0.0315: ratios are G's."""
    texts = [[MASK] * 3, [2, MASK, MASK], [2, 1, MASK]]
    conditionals = masked_conditionals(Ours(SOFT_DRINKS).model, texts)
    found = [float(conditionals[b, b, token]) for b, token in enumerate(SOFT_DRINKS.tokens[:3])]
    assert found == pytest.approx([0.3, 0.084 / 0.3, 0.0315 / 0.084], rel=1e-12)


def test_the_last_days_of_the_diary():
    """Eisner's backward probabilities, from the end: 0.1, 0.018, 0.00324 for either weather."""
    last = Ours(dataclasses.replace(DIARY, text=DIARY.text[-4:])).backward
    assert_rounds_to(last, "0.00324 0.00324; 0.018 0.018; 0.1 0.1", "backward")


def test_an_outcome_given_its_path():
    """Compeau & Pevzner, BA10B. A row of the published emissions sums to 0.999. Each path has P = 2^−50."""
    example = dataclasses.replace(
        OUTCOME,
        transition="0.5 0.5; 0.5 0.5",
        emission="0.612 0.314 0.074; 0.346 0.317 0.336",
        text="xxyzyxzzxzxyxyyzxxzzxxyyxxyxyzzxxyzyzxzxxyxyyzxxzx",
    )
    path = "BBBAAABABABBBBBBAAAAAABAAAABABABBBBBABAABABABABBBB"
    assert_rounds_to(probability_with(example, path) * 2.0**50, "1.93157070893e-28", "BA10B")


def test_the_casino_segment_by_segment():
    ours = Ours(CASINO)
    segments = [segment.smoothed for segment in smoothed_segments(ours.model, ours.tokens, 77)]
    found = torch.cat(segments[::-1], dim=-2)
    np.testing.assert_allclose(found[0, :, :2], np.array(Exact(CASINO).smoothed, float), rtol=1e-10)
