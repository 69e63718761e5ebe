"""Models of a corpus: held-out blocks, baselines, labels, executors; what is refused."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import xarray as xr
from comparisons import case, check

from ppl_hmm import HMM, Vocabulary, fit_corpus, log_likelihood, sample, validate
from ppl_hmm.estimation.ngrams import NGramModel
from ppl_hmm.experiments.fits import command
from ppl_hmm.experiments.fits.blocks import cut, hold_out
from ppl_hmm.plots import fits

#: Two topics of six words, that a text rarely changes.
SOURCE = HMM(
    [0.5, 0.5], [[0.95, 0.05], [0.05, 0.95]], [[0.3, 0.3, 0.2, 0.1, 0.05, 0.05], [0.05, 0.05, 0.1, 0.2, 0.3, 0.3]]
)
WORDS = np.array(["river", "forest", "hill", "town", "market", "street"])
TEXT = " ".join(WORDS[sample(SOURCE, 1, 6000, seed=0).tokens[0]])


@pytest.fixture(scope="module")
def tree():
    return fit_corpus(TEXT, "word", (1, 2), restarts=2, seed=0)


def test_blocks_hold_the_text_and_those_held_out_are_random():
    blocks = cut([TEXT], "word")
    assert " ".join(blocks) == TEXT
    assert {len(block.split()) for block in blocks} == {100}
    assert "".join(cut(["abc" * 300, "de"], "char")) == "abc" * 300 + "de"
    training, held = hold_out(blocks, 0.2, seed=0)
    assert (len(training), len(held)) == (48, 12)
    assert sorted(training + held) == sorted(blocks)
    assert held != blocks[-12:]
    assert hold_out(blocks, 0.2, seed=0)[1] == held != hold_out(blocks, 0.2, seed=1)[1]


def test_the_tree(tree):
    validate(tree)
    assert tree.attrs["best"] == 2
    assert tree["held_out/n_states"].values.tolist() == [1, 2]
    assert set(tree["model"].coords["token"].values) == {*WORDS, "<unknown>"}
    vocabulary = Vocabulary.from_dataset(tree["vocabulary"].to_dataset())
    assert HMM.from_dataset(tree["model"].to_dataset()).names == vocabulary.names
    topics = tree["model/emission"].sel(token=["river", "street"]).values
    assert set(topics.argmax(0)) == {0, 1}  # the two words have states of their own


def test_perplexities_are_those_of_the_held_out_text(tree):
    training, held = hold_out(cut([TEXT], "word"), 0.1, seed=0)
    vocabulary = Vocabulary.from_dataset(tree["vocabulary"].to_dataset())
    tokens = vocabulary.encode(held)[0]
    for n_states in (1, 2):
        model = HMM.from_dataset(tree[f"models/{n_states}"].to_dataset())
        wanted = torch.exp(-log_likelihood(model, tokens).sum() / tokens.numel())
        assert tree["held_out/perplexity"].sel(n_states=n_states) == pytest.approx(wanted.item())
    bigram = NGramModel.fit(vocabulary.encode(training)[0], 2, vocabulary_size=len(vocabulary))
    wanted = np.exp(-bigram.log_likelihood(tokens).sum() / tokens.numel())
    assert tree["held_out/baseline_perplexity"].sel(baseline="bigram") == pytest.approx(wanted)
    one, two = tree["held_out/perplexity"].values
    unigram = tree["held_out/baseline_perplexity"].sel(baseline="unigram").item()
    assert one == pytest.approx(unigram, rel=1e-3)  # one state is a unigram model
    assert two < tree["held_out/baseline_perplexity"].min()  # topics last, and n-grams forget them


def test_unseen_words_are_unknown_and_not_impossible():
    rare = " ".join(f"{word} w{number}" if number % 40 == 0 else word for number, word in enumerate(TEXT.split()))
    found = fit_corpus(rare, "word", (2,), restarts=1, max_size=7, seed=0)
    assert 0 < found.attrs["unknown_share"] < 0.1
    assert np.isfinite(found["held_out/perplexity"]).all()


def test_draws_predict_by_their_average(tree, tmp_path):
    options = {"method": "gibbs", "chains": 2, "draws": 20, "seed": 0, "store": tmp_path / "work"}
    done = []
    found = fit_corpus(TEXT, "word", (2,), progress=lambda *each: done.append(each), **options)
    validate(found)
    assert done[-1] == (40, 40)
    draws = found["draws/2/posterior"].to_dataset()
    models = HMM(*(draws[name].values.reshape(40, *draws[name].shape[2:]) for name in HMM.dimensions))
    vocabulary = Vocabulary.from_dataset(found["vocabulary"].to_dataset())
    tokens = vocabulary.encode(hold_out(cut([TEXT], "word"), 0.1, seed=0)[1])[0]
    weights = torch.tensor(found["draws/2/mixing/weight"].values).repeat_interleave(20) / 20
    wanted = (weights[:, None] * log_likelihood(models, tokens).exp()).sum(0).log()
    perplexity = found["held_out/perplexity"].sel(n_states=2).item()
    assert perplexity == pytest.approx(np.exp(-wanted.sum().item() / tokens.numel()))
    assert perplexity == pytest.approx(tree["held_out/perplexity"].sel(n_states=2).item(), rel=0.02)
    assert set(draws["token"].values) == {*WORDS, "<unknown>"}
    with ThreadPoolExecutor(1) as executor:
        again = fit_corpus(TEXT, "word", (2,), executor=executor, **options)
    xr.testing.assert_identical(again["draws/2/posterior"].to_dataset(), draws)


def test_any_executor_gives_the_same(tree):
    done = []
    with ThreadPoolExecutor(1) as executor:
        found = fit_corpus(
            TEXT, "word", (1, 2), restarts=2, seed=0, executor=executor, progress=lambda *counts: done.append(counts)
        )
    xr.testing.assert_identical(found["model"].to_dataset(), tree["model"].to_dataset())
    assert done == [(0, 2), (1, 2), (2, 2)]


def test_figures_name_tokens_and_states(tree):
    named = HMM.from_dataset(tree["model"].to_dataset()).assign_names(state=("wild", "paved")).to_dataset()
    figure = fits.draw_emissions(named)
    assert [axes.get_title() for axes in figure.axes] == ["wild", "paved"]
    ticks = {label.get_text() for axes in figure.axes for label in axes.get_yticklabels()}
    assert set(WORDS) <= ticks
    rows = [label.get_text() for label in fits.draw_transition(named).axes[0].get_yticklabels()]
    assert [row.split(":")[0] for row in rows] == ["wild", "paved"]
    assert dict(command.figures(tree)).keys() == {
        "perplexity",
        "checks",
        *(f"{kind}-{n}" for kind in ("emissions", "transition") for n in (1, 2)),
    }


BAD = [
    case("method", lambda: fit_corpus(TEXT, method="magic", seed=0), "method", "em", "'magic'"),
    case("unit", lambda: fit_corpus(TEXT, "letter", seed=0), "unit", "char, word", "'letter'"),
    case("sizes that are none", lambda: fit_corpus(TEXT, n_states=3, seed=0), "n_states", "a list", "3"),
    case("generator", lambda: fit_corpus(TEXT, seed=torch.Generator()), "seed", "an integer", "Generator"),
    case("no sizes", lambda: fit_corpus(TEXT, n_states=(), seed=0), "n_states", "at least one", "[]"),
    case("equal sizes", lambda: fit_corpus(TEXT, n_states=(2, 2), seed=0), "n_states", "different", "[2, 2]"),
    case("size zero", lambda: fit_corpus(TEXT, n_states=(0,), seed=0), "number of states", "at least 1", "0"),
    case("share", lambda: fit_corpus(TEXT, held_out=1.5, seed=0), "share of text", "between 0 and 1", "1.5"),
    case("little text", lambda: fit_corpus("so little", seed=0), "text to hold some out of", "more blocks", "1 blocks"),
    case("restarts", lambda: fit_corpus(TEXT, restarts=0, seed=0), "restarts", "at least 1", "0"),
    case("numbers", lambda: fit_corpus([1, 2], seed=0), "text", "a list of strings", "int"),
]


@pytest.mark.parametrize(("call", "what", "expected", "got", "error"), BAD)
def test_bad_input(call, what, expected, got, error):
    check(call, what, expected, got, error)
