"""``ppl-hmm audit`` of features, and of texts, labels and a language model: results, and one line for bad input."""

import json
from contextlib import nullcontext

import numpy as np
import pytest

from ppl_hmm import BidirectionalLM, OracleLM, example, latent_posterior, open_audit, probe_features, sample
from ppl_hmm.cli import main

MODEL, TASK = example("aliased")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a directory of good and bad files."""
    path = tmp_path_factory.mktemp("labelled")
    tokens = sample(MODEL, 40, 6, 0).tokens
    labels = TASK.labels(latent_posterior(MODEL, TASK, tokens)).numpy()
    features = probe_features(OracleLM(MODEL), tokens).numpy()
    np.savez(path / "good.npz", features=features, labels=labels, groups=np.arange(40) // 2)
    np.savez(path / "nan.npz", features=np.where(np.arange(40)[:, None] == 3, np.nan, features), labels=labels)
    np.savez(path / "one.npz", features=features, labels=0 * labels)
    np.savez(path / "few.npz", features=np.ones((40, 60)), labels=labels)
    np.savez(path / "unlabelled.npz", features=features)
    np.savez(path / "objects.npz", features=features, labels=np.array([{}] * 40))
    (path / "text.npz").write_text("no npz")
    np.savetxt(path / "texts.txt", tokens.numpy(), fmt="%d")
    (path / "labels.txt").write_text("\n".join("ab"[label] for label in labels))
    (path / "short.txt").write_text("a\nb")
    (path / "gap.txt").write_text("0 1\n1 1\n\n2 0\n\n")
    (path / "gap-of-labels.txt").write_text("a\n \nb\n")
    (path / "hub").mkdir()
    (path / "hub" / "config.json").write_text("{}")
    for vocabulary_size in (2, 3):
        BidirectionalLM(vocabulary_size, width=4, seed=0).save(path / f"lm{vocabulary_size}")
    return path


def run(capsys, folder, *words):
    arguments = [str(folder / word[1:]) if word.startswith("@") else word for word in words]
    with pytest.raises(SystemExit) as stopped:
        main(["audit", *arguments])
    return stopped.value.code, *capsys.readouterr()


def test_features(capsys, folder, tmp_path):
    status, printed, _ = run(capsys, folder, "--features", "@good.npz", "--out", str(tmp_path / "new"))
    assert status == 0
    assert "40 labelled texts" in printed
    written = {path.name for path in (tmp_path / "new").iterdir()}
    assert {"audit.nc", "report.txt", "learned.png", "learning-curve.svg"} <= written
    assert "head" in open_audit(tmp_path / "new" / "audit.nc").ppl_hmm.verdict


def test_a_terminal_shows_that_heads_are_learned(capsys, folder, monkeypatch):
    shown = []
    monkeypatch.setattr("ppl_hmm._audit_command.waiting", lambda what: shown.append(what) or nullcontext())
    assert run(capsys, folder, "--features", "@good.npz")[0] == 0
    assert shown == ["learning heads"]


def test_a_language_model(capsys, folder):
    words = ("--text", "@texts.txt", "--labels", "@labels.txt", "--lm", "@lm3", "--prompt-tokens", "0", "--json")
    status, printed, _ = run(capsys, folder, *words)
    found = json.loads(printed)
    assert status == 0
    assert [answer["question"] for answer in found["answers"]] == ["head", "log-probabilities"]
    assert found["language_model"] == "BidirectionalLM"
    assert found["task"].startswith("labels a (")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--features", "@nan.npz"), "NaN or infinity in text 3"),
        (("--features", "@one.npz"), "one class, 0"),
        (("--features", "@few.npz"), "at least 61"),
        (("--features", "@unlabelled.npz"), "arrays features and labels"),
        (("--features", "@objects.npz"), "got array labels of objects; save labels.astype(str)"),
        (("--features", "@text.npz"), "an .npz file"),
        (("--features", "@absent.npz"), "No such file"),
        (("--features", "@good.npz", "--example", "aliased"), "alone"),
        (("--features", "@good.npz", "--lm", "@lm3"), "both"),
        (("--text", "@texts.txt", "--labels", "@labels.txt"), "all three"),
        (("--text", "@texts.txt", "--labels", "@labels.txt", "--lm", "@lm2"), "out of range"),
        (("--text", "@texts.txt", "--labels", "@short.txt", "--lm", "@lm3"), r"labels: expected shape (40,)"),
        (("--text", "@texts.txt", "--labels", "@labels.txt", "--lm", "@"), "language_model.json"),
        (("--text", "@texts.txt", "--labels", "@labels.txt", "--lm", "@hub"), "from_masked_lm(model, tokenizer"),
        (
            ("--text", "@gap.txt", "--labels", "@labels.txt", "--lm", "@lm3"),
            "gap.txt: expected a text, got a blank line; drop it together with its label",
        ),
        (
            ("--text", "@texts.txt", "--labels", "@gap-of-labels.txt", "--lm", "@lm3"),
            "gap-of-labels.txt: expected a label, got a blank line; drop it together with its text",
        ),
        (("--text", "@texts.txt", "--labels", "@labels.txt", "--lm", "@lm3", "--reader", "causal"), "other reader"),
    ],
)
def test_bad_input_is_told_in_one_line(capsys, folder, words, message):
    status, printed, errors = run(capsys, folder, *words)
    assert status == 2
    assert printed == ""
    assert len(errors.splitlines()) == 1
    assert message in errors
