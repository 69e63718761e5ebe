"""Memory against vanilla with trained language models: the exact arms are the exact experiment's, bit for bit."""

import numpy as np
import pytest

import ppl_hmm
from ppl_hmm import InvalidInput, OracleLM, cli, schema
from ppl_hmm.experiments.look import drawing, tables
from ppl_hmm.experiments.trained import memory_vs_vanilla
from ppl_hmm.experiments.trained.configurations import LanguageModelKind, MemoryVsVanillaTrained
from ppl_hmm.language_models.training import Training

LITTLE = {"length": 6, "n_train": 50, "n_validation": 30, "n_test": 40}
NAME = "memory-vs-vanilla-trained"
PAIRS = {schema.ATTENTION_SOFTMAX: schema.ATTENTION_TRAINED, schema.VANILLA_LINEAR: schema.VANILLA_TRAINED}


def compute(out):
    return ppl_hmm.memory_vs_vanilla_trained([8], 1, out, workers=1, budget=2, **LITTLE)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("trained")


@pytest.fixture(scope="module")
def tree(out):
    return compute(out)


def test_the_exact_arms_have_the_numbers_of_the_exact_experiment(tree, tmp_path):
    exact = ppl_hmm.memory_vs_vanilla([8], 1, tmp_path, workers=1, **LITTLE)["results"]
    for name in (schema.ACCURACY, schema.SEPARABLE):
        of_both = {schema.APPROACH: list(PAIRS)}
        np.testing.assert_array_equal(tree["results"][name].sel(of_both), exact[name].sel(of_both))
    np.testing.assert_array_equal(tree["results/undecidable"], exact["undecidable"])


def test_the_oracle_in_place_of_trained_models_changes_nothing(monkeypatch):
    real = memory_vs_vanilla.trained

    def with_oracle(settings, model, *rest):
        return Training(OracleLM(model), real(settings, model, *rest).log, "tokens")

    monkeypatch.setattr(memory_vs_vanilla, "trained", with_oracle)
    settings = MemoryVsVanillaTrained((8,), 1, budget=1, **LITTLE)
    results = memory_vs_vanilla._compute(settings, settings.cells()[0])
    for exact, own in PAIRS.items():
        for name in (schema.ACCURACY, schema.SEPARABLE):
            np.testing.assert_array_equal(results[name].sel(approach=own), results[name].sel(approach=exact))
    assert (results[schema.TOTAL_VARIATION] == 0).all()


def test_distances_from_exact_are_by_approach(tree):
    results = tree["results"].to_dataset()
    for name in (schema.TOTAL_VARIATION, schema.EXCESS):
        assert set(results[name].dims) == {schema.APPROACH, schema.N_STATES, schema.SEED}
        assert (results[name].sel(approach=list(PAIRS)) == 0).all()
        assert (results[name].sel(approach=list(PAIRS.values())) > 0).all()
    assert (results[schema.SEPARABLE].sel(approach=schema.ATTENTION_TRAINED) == schema.NOT_ASKED).all()


def test_a_finished_run_is_returned_as_it_is(out, tree, monkeypatch):
    monkeypatch.setattr(memory_vs_vanilla, "_compute", None)
    assert compute(out).identical(tree)


def test_results_are_shown(tree):
    labels = [text.get_text() for text in drawing.draw(NAME, tree).legends[0].get_texts()]
    assert "memory: softmax attention, trained gru (tokens)" in labels
    assert "vanilla: linear head, trained gru (tokens)" in labels
    assert sum("published" in label for label in labels) == 2
    accuracy, distance = tables.table(NAME, tree).renderables
    assert "gru, objective tokens, 2 steps" in accuracy.caption
    own = tree["results/total_variation"].sel(approach=schema.VANILLA_TRAINED).mean().item()
    assert list(distance.columns[3].cells) == [f"{own:.4f}"]


def test_settings_are_checked():
    for wrong in ({"language_model": "lstm"}, {"objective": "mse"}, {"budget": 0}, {"states": (6,)}, {"states": (4,)}):
        with pytest.raises(InvalidInput):
            MemoryVsVanillaTrained(**{"states": (8,), "n_seeds": 1, **wrong})
    assert [MemoryVsVanillaTrained((8,), 1, language_model=kind).training_length for kind in LanguageModelKind] == [
        40,
        81,
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "3"], "expected --objective, --budget and --device with --lm, got budget"),
        (["--lm", "lstm"], "unknown --lm: expected one of gru, transformer"),
        (["--lm", "gru", "--states", "9"], "states: expected multiples of 4, got 9"),
    ],
)
def test_bad_usage_is_one_line(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["reproduce", "memory-vs-vanilla", "--out", str(tmp_path / "out"), *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "largest"), [(LanguageModelKind.GRU, 0.05), (LanguageModelKind.TRANSFORMER, 0.1)])
def test_smoke_learns_the_models(kind, largest, tmp_path):
    extent = MemoryVsVanillaTrained.smokes[kind]
    tree = ppl_hmm.memory_vs_vanilla_trained(
        extent.states, extent.n_seeds, tmp_path, workers=1, language_model=str(kind), **extent.sizes
    )
    assert tree["results/total_variation"].max() <= largest
