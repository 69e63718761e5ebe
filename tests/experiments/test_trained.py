"""Heads and prompts with trained language models: the exact arm is the exact experiment's, bit for bit."""

import numpy as np
import pytest
import torch

import ppl_hmm
from ppl_hmm import InvalidInput, OracleLM, cli, schema
from ppl_hmm.experiments.look import drawing, tables
from ppl_hmm.experiments.trained import head_vs_prompt, learned
from ppl_hmm.experiments.trained.configurations import HeadVsPromptTrained, LanguageModelKind
from ppl_hmm.language_models.training import Training

LITTLE = {"length": 8, "n_train": 60, "n_validation": 30, "n_test": 40, "restarts": 1}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    return ppl_hmm.head_vs_prompt_trained([4], 1, out, workers=1, budget=3, prompt_length=1, **LITTLE)


def test_the_exact_arm_has_the_numbers_of_the_exact_experiment(tree, tmp_path):
    exact = ppl_hmm.head_vs_prompt([4], 1, tmp_path, workers=1, **LITTLE)
    for name in (schema.ACCURACY, schema.SEPARABLE):
        of_both = {schema.APPROACH: [schema.HEAD, schema.PROMPT]}
        np.testing.assert_array_equal(tree["results"][name].sel(of_both), exact["results"][name].sel(of_both))


def test_the_oracle_in_place_of_a_trained_model_changes_nothing(tmp_path, monkeypatch):
    real = head_vs_prompt.trained

    def with_oracle(settings, model, *rest):
        return Training(OracleLM(model), real(settings, model, *rest).log, "tokens")

    monkeypatch.setattr(head_vs_prompt, "trained", with_oracle)
    results = ppl_hmm.head_vs_prompt_trained([4], 1, tmp_path, workers=1, budget=1, prompt_steps=5, **LITTLE)["results"]
    accuracy = results[schema.ACCURACY]
    for exact, own in ((schema.HEAD, schema.HEAD_TRAINED), (schema.PROMPT, schema.PROMPT_TRAINED)):
        np.testing.assert_array_equal(accuracy.sel(approach=own), accuracy.sel(approach=exact))
    assert (results[schema.TOTAL_VARIATION] == 0).all()


def test_results_name_the_objective_and_are_shown(tree):
    assert tree["settings"].attrs["objective"] == "tokens"
    assert tree["settings"].attrs["language_model"] == "gru"
    assert 0 < tree["results/total_variation"].item() < 1
    assert tree["results/excess"].item() > 0
    figure = drawing.draw("head-vs-prompt-trained", tree)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "head on probabilities, trained gru (tokens)" in labels
    assert sum("published" in label for label in labels) == 2
    assert "gru, objective tokens, 3 steps" in tables.table("head-vs-prompt-trained", tree).renderables[0].caption


def test_settings_are_checked():
    words = ({"language_model": "lstm"}, {"objective": "mse"}, {"device": "tpu"})
    numbers = ({"budget": 0}, {"length": 1}, {"network": (8,)}, {"network": (0, 1)})
    for wrong in (*words, *numbers):
        with pytest.raises(InvalidInput):
            HeadVsPromptTrained((3,), 1, **wrong)
    assert [HeadVsPromptTrained((3,), 1, language_model=kind).training_length for kind in LanguageModelKind] == [40, 83]


def test_heads_of_a_transformer_divide_its_width():
    with pytest.raises(InvalidInput, match="width of the network: expected a multiple of 4 for a transformer, got 6"):
        HeadVsPromptTrained((4,), 1, language_model="transformer", network=(6, 1))
    assert HeadVsPromptTrained((4,), 1, network=(6, 1)).network == (6, 1)


def test_the_network_has_the_sizes_that_are_asked_for():
    for kind in LanguageModelKind:
        settings = HeadVsPromptTrained((4,), 1, language_model=str(kind), network=(8, 3))
        sizes = learned.untrained(settings, 4, 0).configuration
        assert (sizes["width"], sizes["layers"], sizes.get("heads", 4)) == (8, 3, 4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_none_is_used(tmp_path):
    with pytest.raises(InvalidInput, match="device: expected a GPU that PyTorch sees, got none"):
        ppl_hmm.head_vs_prompt_trained([4], 1, tmp_path, workers=1, device="cuda", **LITTLE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--objective", "exact"], "expected --objective, --budget and --device with --lm, got objective"),
        (["--lm", "lstm"], "unknown --lm: expected one of gru, transformer"),
        (["--lm", "gru", "--objective", "mse"], "unknown objective: expected one of exact, quad, tokens"),
        (["--lm", "gru", "--budget", "0"], "budget: expected an integer of at least 1"),
    ],
)
def test_bad_usage_is_one_line(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["reproduce", "head-vs-prompt", "--out", str(tmp_path / "out"), *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(LanguageModelKind))
def test_smoke_learns_the_model(kind, tmp_path):
    extent = HeadVsPromptTrained.smokes[kind]
    tree = ppl_hmm.head_vs_prompt_trained(
        extent.states, extent.n_seeds, tmp_path, workers=1, language_model=str(kind), **extent.sizes
    )
    assert tree["results/total_variation"].max() <= 0.05
