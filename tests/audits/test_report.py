"""What an audit says is true of its numbers, its advice can be followed, and its JSON is strict."""

import functools
import json
import re

import numpy as np
import pytest
import xarray as xr
from by_hand import observability
from scipy.optimize import linprog

import ppl_hmm
from ppl_hmm import (
    HMM,
    AttentionHead,
    LinearHead,
    MemoryHMM,
    MemoryTask,
    OracleLM,
    PosteriorTask,
    audit,
    example,
    masked_features,
    posterior,
    probe_features,
    random_hmm,
    random_memory_hmm,
)
from ppl_hmm.audits.report import answers, as_json, report
from ppl_hmm.audits.tree import Audited
from ppl_hmm.audits.words import recommendation

FILLER, GOOD, BAD = [0.5, 0.5, 0, 0], [0, 0, 0.9, 0.1], [0, 0, 0.1, 0.9]


def near_aliases():
    """Two states that differ by 1e-5: solved up to a tolerance of 1e-3 only, by dropping what tells them apart."""
    model = HMM(
        [0.3, 0.3, 0.4],
        [[0.4, 0.3, 0.3], [0.3, 0.4, 0.3], [0.3, 0.3, 0.4]],
        [[0.6, 0.4], [0.2, 0.8], [0.4 + 1e-5, 0.6 - 1e-5]],
    )
    return model, PosteriorTask([[0, 0, 0], [1.0, -1.0, 1e-5]])


def no_way_back():
    """No prompt restricts the cell: the only state that reads it is never left, and no text starts in it."""
    model = MemoryHMM(
        [[0.5, 0.5], [0.5, 0.5]],
        [0, 1],
        [[1, 0], [0.5, 0.5]],
        [0, 1],
        [[[0.7, 0.3, 0, 0], FILLER[::-1]], [[0.3, 0.7, 0, 0], FILLER[::-1]]],
    )
    return model, MemoryTask([[1, 0], [0, 1]], 0)


def readable_by_a_head():
    """Filler states tell nothing and the other state's words are of its value alone."""
    model = MemoryHMM([[0.5, 0.5]], [0.5, 0.5], [[0.5, 0.5], [0.5, 0.5]], [0, 0], [[FILLER, GOOD], [FILLER, BAD]])
    return model, MemoryTask([[1, 0], [0, 1]], 0)


def too_few_tokens(n_cells):
    model = random_memory_hmm("dirichlet", 3, 2, 3, 0, n_cells=n_cells)
    return model, MemoryTask(np.diag(1 / model.memory_prior[0].numpy()), 0)  # which value gains


def gains(model, n_classes):
    """Return a model and its task: which of the first states does the text speak for?"""
    return model, PosteriorTask(np.diag(1 / model.initial.numpy())[:n_classes])


FEW_STATES, MANY_STATES = random_hmm("dirichlet", 3, 4, 0), random_hmm("dirichlet", 4, 3, 0)
CASES = {
    "aliased": (*example("aliased"), {"length": 4}),
    "degenerate": (*example("degenerate"), {"length": 4}),
    "memory": (*example("memory"), {"length": 4, "n_sequences": 300}),
    "solved": (*gains(FEW_STATES, 2), {"length": 4}),
    "sampled": (*gains(FEW_STATES, 2), {"length": 9, "n_sequences": 200}),
    "three-classes": (*gains(FEW_STATES, 3), {"length": 4}),
    "one-label": (MANY_STATES, PosteriorTask([[0, 0, 0, 0], [1, 1, 1, 2]]), {"length": 4}),
    "one-label-of-three": (MANY_STATES, PosteriorTask([[0, 0, 0, 0], [1, 1, 1, 2], [0, 1, 0, 0]]), {"length": 4}),
    "tolerated": (*near_aliases(), {"length": 4, "tolerance": 0.1}),
    "hardly-any-text": (*gains(MANY_STATES, 2), {"length": 6, "n_sequences": 2}),
    "read-by-a-head": (*readable_by_a_head(), {"length": 4}),
    "no-way-back": (*no_way_back(), {"length": 4}),
    "too-few-tokens": (*too_few_tokens(1), {"length": 4}),
    "not-flattened": (*too_few_tokens(8), {"length": 3, "n_sequences": 40}),
}
COMBINATIONS = {
    ("head", "recoverable"),
    ("head", "not recoverable"),
    ("head", "undecided"),
    ("masks", "recoverable"),
    ("masks", "not recoverable"),
    ("prompt", "recoverable"),
    ("prompt", "undecided"),
    ("attention", "recoverable"),
    ("attention", "undecided"),
    ("attention-prompt", "recoverable"),
    ("attention-prompt", "undecided"),
}


@functools.cache
def made(name):
    model, task, options = CASES[name]
    return model, task, audit(model, task, seed=0, **options)


def questions_of(model):
    of_model = ("attention", "attention-prompt") if isinstance(model, MemoryHMM) else ("prompt",)
    return ("head", "masks", *of_model)


ASKED = [(name, question) for name, (model, *_) in CASES.items() for question in questions_of(model)]


def answer_of(name, question):
    """Return the parts of an audit that one question is about: model, task, tree, its row, its answer."""
    model, task, tree = made(name)
    (found,) = (each for each in answers(tree) if each.question == question)
    return model, task, tree, tree["recoverability"].to_dataset().sel(question=question), found


def find(pattern, sentences):
    """Return the groups of the one sentence that matches all of the pattern, None if there is none."""
    matches = [match for match in (re.fullmatch(pattern, sentence) for sentence in sentences) if match]
    assert len(matches) <= 1
    return matches[0].groups() if matches else None


def test_every_combination_occurs():
    found = {(each.question, each.verdict) for name in CASES for each in answers(made(name)[2])}
    assert found == COMBINATIONS


@pytest.mark.parametrize(("name", "question"), ASKED)
def test_the_reasons_are_those_of_the_certificate(name, question):
    _, _, tree, row, found = answer_of(name, question)
    assert found.verdict == row["verdict"].item()
    witness = find(r"(\d+) texts that no linear head classifies, residual (\S+)", found.why)
    assert (witness is not None) == (found.verdict == "not recoverable")
    if witness:
        group = tree[f"recoverability/{question}/witness"].to_dataset()
        assert int(witness[0]) == group.sizes["witness_text"]
        assert float(witness[1]) == pytest.approx(group["residual"].item(), rel=0.05)
        own, other = (group["weights"].values[:, [k]] * group["conditionals"].values for k in (0, 1))
        assert np.abs(own.sum(0) - other.sum(0)).max() < 1e-13 or group["weights"].shape[1] > 2
    (theorem,) = [sentence for sentence in found.why if sentence.startswith(f"{row['theorem'].item()}: ")]
    for pattern, column in (
        (r".*relative margin error (\S+), .*", "residual"),
        (r".*residual (\S+?)(?:,.*)?", "residual"),
    ):
        stated = find(pattern, [theorem])
        assert stated is None or float(stated[0]) == pytest.approx(row[column].item(), rel=0.01)


@pytest.mark.parametrize(("name", "question"), ASKED)
def test_counts_are_true(name, question):
    _, task, tree, row, found = answer_of(name, question)
    counts = find(r"(\d+) of (\d+) texts agree; nothing is claimed on (\d+), (.*)", found.stability)
    assert (counts is not None) == (found.verdict == "recoverable")
    if not counts:
        return
    agreeing, decidable, left_out = map(int, counts[:3])
    n_texts = tree["observed_data"].sizes["sequence"]
    assert (agreeing, decidable + left_out) == (decidable, n_texts)
    if question in ("attention", "attention-prompt"):
        assert counts[3] == "where no position is sure enough for the margin"
        return
    # The same by the weights that are in the tree.
    margins = np.abs(tree["exact_posterior/margin"].values)
    features = features_of(tree, question)
    weights = LinearHead.from_dataset(tree[f"head/{question}"].to_dataset()).coef_
    scores = np.sort(features @ (weights if len(weights) > 1 else np.r_[0 * weights, weights]).T, axis=1)
    limit = max(row["margin_error"].item(), float(task.tolerance))
    clear = (margins > limit) & (scores[:, -1] - scores[:, -2] > 4e-16 * np.abs(weights).sum(1).max())
    assert clear.sum() == decidable
    said = re.fullmatch(r"whose \|margin\| is at most (\S+) or whose score is rounding", counts[3])
    assert float(said[1]) == pytest.approx(limit, rel=0.05)


def features_of(tree, question):
    """Return what the heads of a question read, (B,V) or mask by mask (B,J·V)."""
    if question == "masks" and tree["recoverability/n_masks"].sel(question="masks") > 1:
        return tree["features/conditionals_at_masks"].values.reshape(tree["observed_data"].sizes["sequence"], -1)
    return tree[f"features/conditionals{'_after_prompt' * after_a_prompt(tree, question)}"].values


def after_a_prompt(tree, question):
    return "prompt" in tree.children and question in tree["prompt"].children


@pytest.mark.parametrize(("name", "question"), ASKED)
def test_conditioning_and_learned_heads_are_true(name, question):
    model, _, tree, row, found = answer_of(name, question)
    stated = find(r"the smallest singular value of (.*) is ([\d.e+-]+)(: as good as dependent.*)?", found.stability)
    if row["theorem"] == "constant label" or (name == "not-flattened" and question in ("head", "masks")):
        assert stated is None  # it has nothing to do with the head, or is not known
    else:
        rows, value, ill = stated
        assert float(value) == pytest.approx(row["sigma_min"].item(), rel=0.06, abs=1e-300)
        assert (ill is not None) == (0 < row["sigma_min"].item() < 1e-6)
        if row["n_masks"] > 1:
            assert rows == "the matrix R of the masks, that every state be told by them,"
            flat = model.flatten() if isinstance(model, MemoryHMM) else model
            seen = observability(flat, int(row["n_masks"]), (flat.initial @ flat.transition).numpy())
            expected = np.linalg.svd(seen, compute_uv=False)[-1] if len(seen) <= seen.shape[1] else 0
            assert float(value) == pytest.approx(expected, rel=0.06, abs=1e-15)
        elif question in ("head", "masks", "prompt"):
            assert rows == "W on the states that enter the mask"
            flat = model.flatten() if isinstance(model, MemoryHMM) else model
            law = (flat.initial @ flat.transition).numpy()
            if after_a_prompt(tree, question):
                (prompt,) = tree[f"prompt/{question}/rows"].values
                law = (law * prompt) @ flat.transition.numpy()
            entered = flat.emission.numpy()[law > 0]
            values = np.linalg.svd(entered, compute_uv=False)
            expected = values[-1] if len(entered) <= flat.vocabulary_size else 0
            assert float(value) == pytest.approx(expected, rel=0.06, abs=1e-15)
        else:
            assert rows == "the rows that are read, off the span of all others,"
            if found.verdict == "recoverable" and question == "attention":
                assert 1 / float(value) == pytest.approx(tree["diagnostics/memory/theta_norm"].item(), rel=0.06)
    accuracy = find(
        r"(a learned prompt of (\d+) tokens? with its head|a learned head|the one label that was seen) is right on "
        r"(\S+)% of new text with a clear label",
        found.stability,
    )
    assert (accuracy is None) == bool(np.isnan(row["learned_accuracy"]))
    if accuracy:
        assert float(accuracy[2]) / 100 == pytest.approx(row["learned_accuracy"].item(), abs=6e-5)
        assert (accuracy[0] != "the one label that was seen") == (f"/head/{question}-learned" in tree.groups)
        assert (accuracy[1] is not None) == (f"/prompt/{question}-learned" in tree.groups)


def best_margin(tree, question):
    """Return the largest smallest margin on decidable texts of heads with ‖b‖_∞ ≤ 1, for two classes."""
    features = features_of(tree, question)
    kept = (tree["exact_posterior/decidable"].values == 1) & (features.sum(1) > 0)
    signs = 2 * tree["exact_posterior/label"].values[kept] - 1
    forms = np.c_[-signs[:, None] * features[kept], np.ones(kept.sum())]
    bounds = [(-1, 1)] * features.shape[1] + [(0, None)]
    return -linprog(np.r_[np.zeros(features.shape[1]), -1], forms, np.zeros(len(forms)), bounds=bounds).fun


@pytest.mark.parametrize(("name", "question"), ASKED)
def test_separation_and_transfer_are_true(name, question):
    _, task, tree, _, found = answer_of(name, question)
    by = find(r"a linear head with \|b\| ≤ 1 separates the decidable texts by (\S+)", found.stability)
    none = "no linear head with |b| ≤ 1 separates the decidable texts by more than 1e-09" in found.stability
    asked_for = question in ("head", "masks", "prompt") and found.verdict != "recoverable"
    assert asked_for == (by is not None or none)
    assert not (by and none)
    if asked_for and task.n_classes == 2:
        margin = best_margin(tree, question)
        assert float(by[0]) == pytest.approx(margin, rel=0.06) if by else margin <= 1e-9 + 1e-7
    said = find(
        r"a language model that loses (\S+) nats over the exact one (changes at most|may change over) 5% of the (.*) "
        r"head's answers",
        found.stability,
    )
    assert (said is not None) == (question == "head" and "transfer" in tree["diagnostics"].children)
    if said:
        curve = tree["diagnostics/transfer"].to_dataset()
        excess, bound = curve["excess"].values, curve["sharp_bound"].values
        at = int(np.flatnonzero(np.isclose(excess, float(said[0]), rtol=1e-6, atol=0))[0])
        assert said[2] == ("constructed" if found.verdict == "recoverable" else "learned")
        if said[1] == "changes at most":
            assert bound[at] <= 0.05
            assert at == len(excess) - 1 or bound[at + 1] > 0.05
        else:
            assert at == 0
            assert bound[0] > 0.05


@pytest.mark.parametrize(("name", "question"), ASKED)
def test_the_advice_can_be_followed(name, question):
    """The calls that a recoverable answer names are made, and what they return solves the task on the audit's texts."""
    model, task, tree, row, found = answer_of(name, question)
    texts = tree["observed_data/tokens"].values
    if found.verdict != "recoverable":
        for function in re.findall(r"(\w+)\(", found.advice):
            assert hasattr(ppl_hmm, function) or function == "fit"
        assert not re.search(r"constructed_", found.advice)
        other = "attention" if isinstance(model, MemoryHMM) else "prompt"
        assert question not in ("head", "masks") or found.verdict == "undecided" or other in found.advice
        return
    decidable = tree["exact_posterior/decidable"].values == 1
    labels = task.labels(posterior(model, texts)).numpy()
    if found.advice.startswith("nothing to learn"):
        assert len(np.unique(labels[decidable])) == 1
        return
    tolerance = re.search(r"tolerance=([\d.e-]+)", found.advice)
    options = {"tolerance": float(tolerance[1])} if tolerance else {}
    prompt, built = None, None
    n_masks = re.search(r"n_masks=(\d+)", found.advice)
    of_masks = {"n_masks": int(n_masks[1])} if n_masks else {}
    for call in re.findall(r"constructed_\w+\(model, task(?:, prompt|, n_masks=\d+)?\)", found.advice):
        arguments = (model, task, prompt) if "prompt)" in call else (model, task)
        built = getattr(ppl_hmm, call.partition("(")[0])(*arguments, **options, **of_masks)
        prompt = built if call.startswith("constructed_prompt") else prompt
    loading = re.search(r"LinearHead\.from_dataset\(.*?\.to_dataset\(\)\)", found.advice)
    if loading:
        built = eval(loading[0], {"LinearHead": LinearHead, "tree": tree})
    lm = OracleLM(model)
    if question in ("head", "masks", "prompt"):
        assert isinstance(built, LinearHead)
        features = probe_features(lm, texts, prompt=prompt, impossible="mask", **of_masks)
        right = built.predict(features.reshape(len(texts), -1).numpy()) == labels
    else:
        assert isinstance(built, AttentionHead)
        right = built.predict(masked_features(lm, texts, prompt=prompt, impossible="mask")) == labels
    assert (prompt is not None) == after_a_prompt(tree, question)
    # Right wherever something is claimed; left out are at most as many as the audit says.
    assert right.sum() >= row["agreeing"].item() > 0


def test_the_tolerance_of_the_audit_goes_with_the_advice():
    _, _, _, row, found = answer_of("tolerated", "head")
    assert 1e-9 < row["residual"].item() <= 0.1
    assert found.advice.endswith("; pass tolerance=0.1, as to this audit")
    assert "tolerance" not in answer_of("solved", "head")[-1].advice


@pytest.mark.parametrize("verbose", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_the_text_holds_all_sentences_once(name, verbose):
    tree = made(name)[2]
    text = report(tree, verbose=verbose, width=10_000)
    heading = f"texts: {tree.attrs['texts']}"
    expected = [f"- {answer.sentence}" for answer in answers(tree)]
    expected += ["", heading + f"; residuals up to {tree.attrs['tolerance']:g} count as solved" * verbose]
    for answer in answers(tree):
        expected += ["", f"{answer.name} ({answer.question}): {answer.verdict.upper()}"]
        expected += [*answer.why, *answer.stability, answer.advice] if verbose else [*answer.measured, answer.advice]
    expected += ["", recommendation(Audited(tree))]
    titles = ("why", "how stable", "what to do")
    bare = [line[14:] if line.startswith("  ") else line for line in text.splitlines()]
    assert bare == expected
    assert {line[:14].strip() for line in text.splitlines() if line.startswith("  ")} - {""} <= set(titles)
    assert report(tree, verbose=verbose) == tree.ppl_hmm.report(verbose=verbose)


@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize("name", CASES)
def test_lines_are_folded_and_nothing_is_lost(name, width):
    tree = made(name)[2]
    folded, wide = (report(tree, verbose=True, width=each) for each in (width, 10_000))
    assert folded.split() == wide.split()
    assert all(len(line) <= width or len(line[14:].split()) == 1 for line in folded.splitlines())  # calls are whole


def numbers(value):
    """Return a tree's values as JSON has them: None for what is not finite."""
    if isinstance(value, list):
        return [numbers(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


@pytest.mark.parametrize("name", CASES)
def test_json_is_strict_and_equals_the_tree(name, tmp_path):
    tree = made(name)[2]
    text = json.dumps(as_json(tree), allow_nan=False)
    found = json.loads(text)
    assert {key: found[key] for key in tree.attrs} == tree.attrs
    assert set(found) == {*tree.attrs, "answers", "remedy", "questions", "diagnostics"}
    assert found["remedy"] == {name: numbers(value) for name, value in tree.ppl_hmm.remedy.items()}
    for column, variable in tree["recoverability"].to_dataset().variables.items():
        assert found["questions"][column] == numbers(variable.values.tolist())
    assert set(found["diagnostics"]) == set(tree["diagnostics"].children)
    for group, node in tree["diagnostics"].children.items():
        variables = node.to_dataset().variables
        assert set(found["diagnostics"][group]) == set(variables)
        for variable, values in variables.items():
            assert found["diagnostics"][group][variable] == numbers(values.values.tolist())
    assert [each["verdict"] for each in found["answers"]] == found["questions"]["verdict"]
    for each, answer in zip(found["answers"], answers(tree), strict=True):
        assert list(each) == ["question", "name", "verdict", "why", "stability", "advice", "cause", "sentence"]
        assert each == {part: getattr(answer, part) for part in each}


def test_json_is_the_same_from_disk(tmp_path):
    for name in ("aliased", "memory"):
        tree = made(name)[2]
        tree.to_netcdf(tmp_path / f"{name}.nc", engine="h5netcdf")
        with xr.open_datatree(tmp_path / f"{name}.nc", engine="h5netcdf") as file:
            assert as_json(file.load()) == as_json(tree)
