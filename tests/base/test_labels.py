"""Labelled arrays are read by their labels: every order of axes and entries gives the numbers of the plain arrays."""

import itertools
import pickle

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
import xarray as xr

from ppl_hmm import (
    HMM,
    CategoricalHMM,
    InvalidInput,
    MaskedFeatures,
    MemoryHMM,
    MemoryPrompt,
    MemoryTask,
    OracleLM,
    PosteriorTask,
    SoftPrompt,
    audit,
    find_witness,
    head_certificate,
    load,
    log_likelihood,
    masked_features,
    posterior,
    probe_features,
    random_memory_hmm,
    save,
    separability,
)
from ppl_hmm.heads.labelled import LabelledText

INITIAL = np.array([0.6, 0.3, 0.1])
TRANSITION = np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
EMISSION = np.array([[0.5, 0.3, 0.1, 0.1], [0.1, 0.3, 0.2, 0.4], [0.25, 0.25, 0.3, 0.2]])
MODEL = HMM(INITIAL, TRANSITION, EMISSION)
TEXT = np.array([[0, 1, 2, 3, 0], [3, 1, 0, 0, 2], [2, 2, 1, 3, 3]])
RIGHT = log_likelihood(MODEL, TEXT)
NAMES = ["sun", "rain", "fog"]
ORDERS = list(itertools.permutations(range(3)))


def dataset(**coords):
    dims = {"initial": "state", "transition": ("state", "state_next"), "emission": ("state", "token")}
    arrays = {"initial": INITIAL, "transition": TRANSITION, "emission": EMISSION}
    return xr.Dataset({name: (dims[name], arrays[name]) for name in dims}, coords=coords)


def same_law(model):
    np.testing.assert_allclose(log_likelihood(model, TEXT), RIGHT, rtol=1e-13)


# Models.


@pytest.mark.parametrize("order", ORDERS)
def test_a_file_sorted_by_names_is_the_same_model(order, tmp_path):
    moved = dataset(state=NAMES, state_next=NAMES).isel(state=list(order))
    moved.to_netcdf(tmp_path / "m.nc", engine="h5netcdf")
    model = load(tmp_path / "m.nc")
    same_law(model)
    assert model.names == {"state": tuple(NAMES[i] for i in order)}


@pytest.mark.parametrize("rows", ORDERS)
@pytest.mark.parametrize("columns", [(0, 1, 2), (2, 0, 1)])
def test_a_file_whose_states_are_numbered_is_put_in_order(rows, columns):
    moved = dataset(state=range(3), state_next=range(3)).isel(state=list(rows), state_next=list(columns))
    assert HMM.from_dataset(moved).identical(MODEL)


@pytest.mark.parametrize("rows", ORDERS)
def test_frames_are_read_by_index_and_columns(rows):
    names = [NAMES[i] for i in rows]
    initial = pd.Series(INITIAL, index=NAMES)
    transition = pd.DataFrame(TRANSITION, index=NAMES, columns=NAMES)
    emission = pd.DataFrame(EMISSION, index=NAMES, columns=list("abcd"))
    assert HMM(initial, transition.loc[names], emission.loc[names[::-1]]).allclose(MODEL, rtol=0, atol=0)
    assert HMM(INITIAL, transition[names], EMISSION).identical(MODEL)
    turned = transition.rename_axis(index="state", columns="state_next").T
    assert HMM(initial, turned.loc[names], emission).identical(MODEL)
    numbered = pd.DataFrame(TRANSITION).iloc[list(rows), list(rows[::-1])]
    assert HMM(pd.Series(INITIAL), numbered, pd.DataFrame(EMISSION)).identical(MODEL)


@pytest.mark.parametrize("dims", list(itertools.permutations(("state", "state_next"))))
def test_arrays_are_transposed_by_the_names_of_their_dimensions(dims):
    transition = xr.DataArray(TRANSITION, dims=("state", "state_next")).transpose(*dims)
    emission = xr.DataArray(EMISSION, dims=("state", "token")).T
    assert HMM(INITIAL, transition, emission).identical(MODEL)
    assert HMM(INITIAL, xr.Variable(("state", "state_next"), TRANSITION).transpose(*dims), emission).identical(MODEL)


def test_batch_dimensions_are_matched_by_name():
    models = HMM.stack([HMM.stack([MODEL, MODEL]), HMM.stack([MODEL, HMM(INITIAL[::-1].copy(), TRANSITION, EMISSION)])])
    found = models.to_dataset()
    found["emission"] = found["emission"].transpose("model_1", "model_0", "token", "state")
    found["initial"] = found["initial"].transpose("state", "model_0", "model_1")
    assert HMM.from_dataset(found).identical(models)


def test_axes_without_names_are_taken_as_they_are():
    unnamed = xr.DataArray(TRANSITION)
    assert HMM(INITIAL, unnamed, pd.DataFrame(EMISSION)).identical(MODEL)
    # Names of rows alone do for a square matrix whose columns pandas only numbered.
    assert HMM(INITIAL, pd.DataFrame(TRANSITION, index=NAMES), EMISSION).identical(MODEL)


@pytest.mark.parametrize(
    ("make", "message"),
    {
        "other names": (
            lambda: HMM(INITIAL, pd.DataFrame(TRANSITION, index=NAMES, columns=["sun", "rain", "mist"]), EMISSION),
            "labels of state_next of transition: expected sun, rain, fog, got sun, rain, mist",
        ),
        "other names of another array": (
            lambda: HMM(
                pd.Series(INITIAL, index=list("abc")),
                pd.DataFrame(TRANSITION, index=list("abc"), columns=list("abc")),
                pd.DataFrame(EMISSION, index=NAMES),
            ),
            "labels of state of emission: expected a, b, c, got sun, rain, fog",
        ),
        "twice the same": (
            lambda: HMM.from_dataset(dataset(state=["a", "a", "b"])),
            "labels of dimension 'state': expected different ones, got a, a, b",
        ),
        "order unknown": (
            lambda: HMM(
                pd.Series(INITIAL, index=NAMES), TRANSITION, pd.DataFrame(EMISSION, index=NAMES).loc[NAMES[::-1]]
            ),
            r"state of transition: expected labels, as initial has them \(sun, rain, fog\), got none",
        ),
        "numbers out of order beside none": (
            lambda: HMM.from_dataset(dataset(state=[2, 0, 1])),
            r"state of transition: expected labels, as initial has them \(2, 0, 1\), got none",
        ),
        "dates": (
            lambda: HMM.from_dataset(dataset(state=pd.date_range("2020", periods=3))),
            "labels of dimension 'state': expected strings or integers",
        ),
        "foreign dimensions": (
            lambda: HMM(INITIAL, xr.DataArray(TRANSITION, dims=("from", "to")), EMISSION),
            "dimension 'state' of variable 'transition'",
        ),
        "a dimension of something else": (
            lambda: HMM.from_dataset(dataset().expand_dims(memory_value=2)),
            "dimension 'memory_value' of variable 'initial'",
        ),
        "a dataset": (lambda: HMM(INITIAL, dataset(), EMISSION), "transition: expected an array, got xarray's Dataset"),
        "too few": (
            lambda: HMM(INITIAL, TRANSITION, EMISSION, names={"state": ["a", "b"]}),
            "labels of state of initial: expected 3 labels, got 2",
        ),
        "of no dimension": (
            lambda: HMM(INITIAL, TRANSITION, EMISSION, names={"cell": NAMES}),
            "names: expected dimensions among state, state_next, token, got cell",
        ),
        "a bare list": (lambda: HMM(INITIAL, TRANSITION, EMISSION, names=NAMES), "names: expected names by dimension"),
    }.values(),
)
def test_labels_that_cannot_be_honoured_are_refused(make, message):
    with pytest.raises(InvalidInput, match=message):
        make()


# Names stay.


def test_names_stay_through_files_moves_pickles_and_batches(tmp_path):
    model = HMM(INITIAL, TRANSITION, EMISSION, names={"state": NAMES, "token": list("abcd")})
    expected = {"state": tuple(NAMES), "token": tuple("abcd")}
    save(model, tmp_path / "m.nc")
    stacked = HMM.stack([model, model])
    found = [
        load(tmp_path / "m.nc"),
        HMM.from_dataset(model.to_dataset()),
        model.to(dtype=torch.float32),
        model.detach(),
        pickle.loads(pickle.dumps(model)),
        stacked[1],
        stacked,
    ]
    assert all(each.names == expected for each in found)
    assert load(tmp_path / "m.nc").identical(model)
    assert list(model.to_dataset()["transition"].coords["state_next"].values) == NAMES
    with pytest.raises(InvalidInput, match=r"HMM\.stack: expected one names, got .*sun"):
        HMM.stack([model, MODEL])


def test_numbers_in_order_are_no_names():
    assert HMM.from_dataset(dataset(state=range(3), token=range(4))).names == {}
    assert HMM.from_dataset(dataset(state=[1, 2, 3])).names == {"state": (1, 2, 3)}


# Where records meet.


@pytest.mark.parametrize("order", ORDERS)
def test_tasks_and_prompts_meet_the_model_by_name(order):
    names = [NAMES[i] for i in order]
    weights, rows = np.array([[0.0, 0, 0], [2.0, -1, -0.3]]), np.array([[0.2, 0.9, 0.4], [1.0, 0.1, 0.3]])
    model = HMM(INITIAL, TRANSITION, EMISSION, names={"state": NAMES})
    task = PosteriorTask(weights[:, list(order)], names={"state": names})
    labelled = xr.DataArray(rows, dims=("prompt_position", "state"), coords={"state": NAMES})
    prompt = SoftPrompt(labelled.sel(state=names).T)
    exact = posterior(MODEL, TEXT)
    np.testing.assert_allclose(task.margins(posterior(model, TEXT)), PosteriorTask(weights).margins(exact))
    law = xr.DataArray(exact.initial, dims=("sequence", "state"), coords={"state": NAMES})
    np.testing.assert_allclose(task.margins(law.T), PosteriorTask(weights).margins(exact))
    assert task.aligned_to(model).identical(PosteriorTask(weights))
    expected = probe_features(OracleLM(MODEL), TEXT, prompt=rows)
    torch.testing.assert_close(probe_features(OracleLM(model), TEXT, prompt=prompt), expected)
    expected = posterior(MODEL, TEXT, prompt=rows).initial
    torch.testing.assert_close(posterior(model, TEXT, prompt=prompt).initial, expected)
    assert prompt.aligned_to(model).identical(SoftPrompt(rows))
    certificate = head_certificate(model, task.aligned_to(model), prompt)
    torch.testing.assert_close(certificate.weights, head_certificate(MODEL, PosteriorTask(weights), rows).weights)
    if names != NAMES:
        with pytest.raises(InvalidInput, match=r"names of dimension 'state' of the task.*task.aligned_to\(model\)"):
            head_certificate(model, task)


def test_an_audit_meets_its_task_by_name():
    model = HMM(INITIAL, TRANSITION, EMISSION, names={"state": NAMES})
    task = PosteriorTask([[0.0, 0, 0], [-1.0, 0, 1]], names={"state": NAMES[::-1]})
    found = audit(model, task, length=3, seed=0)
    expected = audit(MODEL, PosteriorTask([[0.0, 0, 0], [1.0, 0, -1]]), length=3, seed=0)
    np.testing.assert_array_equal(found["exact_posterior"]["margin"], expected["exact_posterior"]["margin"])
    assert found["task"].coords["state"].values.tolist() == NAMES
    other = PosteriorTask([[0.0, 0, 0], [-1.0, 0, 1]], names={"state": ["a", "b", "c"]})
    with pytest.raises(InvalidInput, match="dimension 'state' of PosteriorTask, as the model has them"):
        audit(model, other, length=3, seed=0)
    with pytest.raises(InvalidInput, match="labels of state of a posterior: expected a, b, c"):
        other.labels(posterior(model, TEXT))


def test_memory_values_and_cells_are_read_by_name():
    model = random_memory_hmm("dirichlet", 3, 3, 4, 0, n_cells=2)
    values = ["good", "bad", "mixed"]
    found = model.to_dataset().assign_coords(memory_value=values, state=NAMES, state_next=NAMES, cell=[0, 1])
    moved = found.isel(memory_value=[2, 0, 1], state=[1, 2, 0], cell=[1, 0]).transpose()
    again = MemoryHMM.from_dataset(moved)
    named = MemoryHMM.from_dataset(found)
    task = MemoryTask([[0.0, 1, 2], [1.0, 0, 1]], 1, names={"memory_value": values})
    rows = np.random.default_rng(0).gamma(1.0, size=(3, 3, 3))
    prompt = xr.DataArray(rows, dims=("prompt_position", "memory_value", "state"), coords={"memory_value": values})
    for each in (again, named):
        np.testing.assert_allclose(log_likelihood(each, TEXT), log_likelihood(model, TEXT), rtol=1e-12)
        margins = task.margins(posterior(model, TEXT))
        np.testing.assert_allclose(task.margins(posterior(each, TEXT)), margins, rtol=1e-11)
    expected = log_likelihood(model, TEXT, prompt=rows)
    np.testing.assert_allclose(log_likelihood(named, TEXT, prompt=prompt.transpose("state", ...)), expected, rtol=1e-12)
    states_too = prompt.assign_coords(state=NAMES).isel(state=[2, 0, 1], memory_value=[1, 0, 2])
    np.testing.assert_allclose(log_likelihood(again, TEXT, prompt=MemoryPrompt(states_too)), expected, rtol=1e-12)


# Text.


def test_text_is_read_by_the_names_of_its_dimensions():
    text = xr.DataArray(TEXT[:, :3], dims=("sequence", "position"))
    expected = log_likelihood(MODEL, TEXT[:, :3])
    assert torch.equal(log_likelihood(MODEL, text.T), expected)
    models = HMM.stack([MODEL, MODEL])
    both = xr.concat([text, text], "model").transpose("position", "sequence", "model")
    assert torch.equal(log_likelihood(models, both), torch.stack([expected, expected]))
    with pytest.raises(InvalidInput, match="dimension 'sequence' of variable 'tokens'"):
        log_likelihood(MODEL, text.rename(sequence="document"))


def test_positions_that_are_numbered_are_put_in_order():
    for columns in ([4, 3, 2, 1, 0], [1, 0, 2, 4, 3]):
        assert torch.equal(log_likelihood(MODEL, pd.DataFrame(TEXT)[columns]), RIGHT)
        moved = xr.DataArray(TEXT, dims=("sequence", "position"), coords={"position": range(10, 60, 10)})
        assert torch.equal(log_likelihood(MODEL, moved.isel(position=columns)), RIGHT)
    named = pd.DataFrame(TEXT, columns=[f"w{i}" for i in range(5)])
    assert torch.equal(log_likelihood(MODEL, named), RIGHT)


def test_texts_stay_in_the_order_in_which_they_are_passed():
    assert torch.equal(log_likelihood(MODEL, pd.DataFrame(TEXT).iloc[[2, 0, 1]]), RIGHT[[2, 0, 1]])


def test_lengths_meet_their_texts_by_label():
    lengths = [1, 3, 5]
    expected = log_likelihood(MODEL, TEXT, lengths=lengths)
    text, ends = pd.DataFrame(TEXT, index=[7, 8, 9]), pd.Series(lengths, index=[7, 8, 9])
    for order in ORDERS:
        assert torch.equal(log_likelihood(MODEL, text, lengths=ends.iloc[list(order)]), expected)
        in_order = pd.Series(lengths).iloc[list(order)]
        assert torch.equal(log_likelihood(MODEL, pd.DataFrame(TEXT), lengths=in_order), expected)
    for bare in (pd.Series(lengths, index=[5, 6, 9]), xr.DataArray(lengths), pd.Series(lengths)):
        assert torch.equal(log_likelihood(MODEL, TEXT, lengths=bare), expected)
        assert masked_features(OracleLM(MODEL), TEXT, lengths=bare).lengths.tolist() == lengths
    with pytest.raises(InvalidInput, match="labels of lengths: expected 7, 8, 9, got 7, 8, 1"):
        log_likelihood(MODEL, text, lengths=pd.Series(lengths, index=[7, 8, 1]))
    with pytest.raises(InvalidInput, match="labels of lengths: expected positions in order"):
        log_likelihood(MODEL, TEXT, lengths=pd.Series(lengths, index=[2, 0, 1]))


def test_labels_meet_their_texts_by_label():
    text = pd.DataFrame(np.random.default_rng(0).integers(4, size=(40, 4)))
    labels = pd.Series(np.arange(40) % 2)
    for each in (labels, labels.iloc[::-1]):
        assert LabelledText.of(OracleLM(MODEL), text, each).labels.tolist() == [labels.tolist()]
    with pytest.raises(InvalidInput, match="labels of labels: expected positions in order"):
        LabelledText.of(OracleLM(MODEL), text.to_numpy(), labels.iloc[::-1])


def test_features_are_read_by_the_names_of_their_dimensions():
    features = xr.DataArray([[0.5, 0.5], [0.4, 0.6]], dims=("sequence", "token"))
    assert find_witness(features.values, [0, 1]) is None
    assert find_witness(features.T, [0, 1]) is None
    alike = xr.DataArray([[0.5, 0.5, 0], [0.5, 0.5, 0], [0.1, 0, 0.9]], dims=("sequence", "token"))
    assert find_witness(alike.T, [0, 1, 0]) is not None


# Distributions, texts under them, features and witnesses.

NAMED = xr.DataArray(np.log(TRANSITION), dims=["state", "state_next"], coords={"state": NAMES, "state_next": NAMES})
EMITTED = dist.Categorical(logits=torch.tensor(EMISSION).log())
LAW = CategoricalHMM(torch.tensor(INITIAL).log(), torch.tensor(TRANSITION).log(), EMITTED)


@pytest.mark.parametrize(
    ("initial", "transition"),
    [
        (np.log(INITIAL), NAMED.transpose()),
        (np.log(INITIAL), NAMED.drop_vars(["state", "state_next"]).transpose("state_next", "state")),
        (pd.Series(np.log(INITIAL), NAMES), NAMED.sel(state_next=["fog", "sun", "rain"])),
        (pd.Series(np.log(INITIAL), NAMES), pd.DataFrame(np.log(TRANSITION), NAMES, NAMES)[["rain", "fog", "sun"]]),
    ],
)
def test_logits_are_read_by_names(initial, transition):
    np.testing.assert_allclose(CategoricalHMM(initial, transition, EMITTED).log_prob(TEXT), RIGHT, rtol=1e-13)


@pytest.mark.parametrize(
    ("initial", "transition"),
    [
        (np.log(INITIAL), NAMED.rename(state="from", state_next="to")),
        (np.log(INITIAL), NAMED.assign_coords(state=[2, 1, 0], state_next=[2, 1, 0])),
        (pd.Series(np.log(INITIAL), NAMES).loc[["fog", "rain", "sun"]], NAMED),
        (pd.Series(np.log(INITIAL), ["a", "b", "c"]), NAMED),
    ],
)
def test_logits_whose_order_nobody_knows_are_refused(initial, transition):
    with pytest.raises(InvalidInput, match=r"label|dimension"):
        CategoricalHMM(initial, transition, EMITTED)


def test_texts_of_a_distribution_are_read_by_names():
    backwards = [4, 3, 2, 1, 0]
    one = pd.Series(TEXT[0])
    named = xr.DataArray(TEXT[0], dims="position", coords={"position": range(5)})
    for text in (one[backwards], named[backwards]):
        np.testing.assert_allclose(LAW.log_prob(text), RIGHT[0], rtol=1e-13)
    both = xr.DataArray(np.stack([TEXT, TEXT[::-1]]), dims=["group", "sequence", "position"])
    expected = np.stack([RIGHT, RIGHT.flip(0)])
    for text in (both, both.transpose("group", "position", "sequence"), both.rename(sequence="text")):
        np.testing.assert_allclose(LAW.log_prob(text), expected, rtol=1e-13)
    numbered = both.assign_coords(position=range(5)).isel(position=backwards)
    np.testing.assert_allclose(LAW.log_prob(numbered), expected, rtol=1e-13)
    for text in (both.rename(position="time"), both[0, 0].rename(position="time")):
        with pytest.raises(InvalidInput, match="dimension"):
            LAW.log_prob(text)


@pytest.mark.parametrize("decide", [separability, find_witness])
def test_labels_of_features_are_matched_by_names(decide):
    rows = ["a", "b", "c", "d"]
    features = pd.DataFrame([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8]], index=rows)
    labels = pd.Series([1, 1, 0, 0], index=rows)

    def separable(features, labels):
        found = decide(features, labels)
        return found is None or getattr(found, "separable", False)

    mixed = labels.loc[["a", "d", "b", "c"]]
    assert separable(features, labels)
    assert not separable(features, mixed.to_numpy())  # what positions would say
    assert separable(features, mixed)
    assert separable(features, mixed.to_xarray().rename(index="sequence"))
    assert separable(features.loc[["d", "a", "c", "b"]], labels)
    for wrong in (labels.rename({"a": "e"}), labels.reset_index(drop=True)[[0, 3, 1, 2]]):
        with pytest.raises(InvalidInput, match="labels of labels"):
            decide(features, wrong)
    with pytest.raises(InvalidInput, match="labels of labels"):
        decide(features.to_numpy(), labels.reset_index(drop=True)[[0, 3, 1, 2]])


def test_features_of_an_attention_head_are_read_by_names():
    text = TEXT[:, :3]
    plain = masked_features(OracleLM(MODEL), text)
    tokens = xr.DataArray(text, dims=["sequence", "position"])
    conditionals = xr.DataArray(plain.conditionals, dims=["sequence", "position", "token"])
    mixed = {"sequence": ["a", "b", "c"]}
    for found in (
        MaskedFeatures(plain.conditionals, tokens.transpose(), plain.lengths),
        MaskedFeatures(conditionals.transpose("token", "sequence", "position"), text, plain.lengths),
        MaskedFeatures(
            conditionals.assign_coords(mixed),
            tokens.assign_coords(mixed)[[2, 0, 1]].transpose(),
            pd.Series(plain.lengths, index=["a", "b", "c"]),
        ),
    ):
        for name in ("conditionals", "tokens", "lengths"):
            np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))
    with pytest.raises(InvalidInput, match="sequence of conditionals"):
        MaskedFeatures(plain.conditionals, pd.DataFrame(text)[::-1], plain.lengths)


@pytest.mark.parametrize(
    "names", [{"state": 3}, {"state": [["a"], ["b"], ["c"]]}, {"state": None}, {3: NAMES, "x": NAMES}, NAMES]
)
def test_names_that_are_none(names):
    with pytest.raises(InvalidInput, match="names"):
        HMM(INITIAL, TRANSITION, EMISSION, names=names)


@pytest.mark.parametrize("path", ["a\0b.nc", "\0", "a\ud800.nc"])
def test_paths_that_no_file_can_have(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for use in (lambda: save(MODEL, path), lambda: load(path)):
        with pytest.raises(InvalidInput, match="path of a"):
            use()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("position", [-(10**30), 10**30, -(2**63)])
def test_positions_beyond_64_bits(position):
    with pytest.raises(InvalidInput, match="position"):
        PosteriorTask(np.eye(3), position=position)
