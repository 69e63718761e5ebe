"""Save and load: what comes back is identical, and what is not ours is said so."""

import h5netcdf
import numpy as np
import pytest
import torch
import xarray as xr

from ppl_hmm import __version__
from ppl_hmm.errors import ForeignFile, InvalidInput
from ppl_hmm.heads.constructed import constructed_head
from ppl_hmm.heads.linear import LinearHead
from ppl_hmm.models import HMM, MemoryHMM, MemoryPrompt, SoftPrompt
from ppl_hmm.regimes import random_hmm, random_memory_hmm
from ppl_hmm.storage.files import load, save
from ppl_hmm.tasks import MemoryTask, PosteriorTask


def some_models(*, n=3, dtype=None):
    models = HMM.stack([random_hmm("wei2021", 4, 6, seed) for seed in range(n)])
    return models if dtype is None else models.to(dtype=dtype)


RNG = np.random.default_rng(0)
RECORDS = {
    "model": random_hmm("wei2021", 5, 7, 0),  # down to 1e-40: every bit counts
    "model-float32": random_hmm("dirichlet", 5, 7, 0).to(dtype=torch.float32),
    "model-one-state": random_hmm("dirichlet", 1, 1, 0),
    "models": some_models(),
    "models-two-axes": HMM.stack([some_models(), some_models()]),
    "task": PosteriorTask(RNG.normal(size=(2, 4))),
    "task-three-classes": PosteriorTask(RNG.normal(size=(3, 4))),
    "tasks": PosteriorTask(RNG.normal(size=(5, 2, 4))),
    "prompt": SoftPrompt(RNG.gamma(1.0, size=(2, 4))),
    "prompts": SoftPrompt(RNG.gamma(1.0, size=(5, 2, 4))),
    "memory-model": random_memory_hmm("dirichlet", 3, 2, 4, 0, n_cells=2),
    "memory-models": MemoryHMM.stack([random_memory_hmm("wei2021-memory", 3, 2, 4, seed) for seed in (0, 1)]),
    "memory-task": MemoryTask(RNG.normal(size=(2, 3)), 1),
    "memory-prompt": MemoryPrompt(RNG.gamma(1.0, size=(2, 3, 4))),
}


@pytest.mark.parametrize("name", RECORDS)
def test_records_come_back_identical(name, tmp_path):
    record = RECORDS[name]
    save(record, tmp_path / "file.nc")
    again = load(tmp_path / "file.nc")
    assert record.identical(again)
    assert again.dtype == record.dtype
    assert again.batch_shape == record.batch_shape


def fitted(**options):
    rng = np.random.default_rng(0)
    features = rng.dirichlet(np.ones(4), size=90)
    labels = options.pop("labels", np.arange(90) % 3)
    return LinearHead(**options).fit(features, labels)


HEADS = {
    "three-classes": fitted(C=10.0),
    "binary-log": fitted(C=1e6, features="log", floor=1e-9, labels=np.arange(90) % 2),
    "other-labels": fitted(labels=np.where(np.arange(90) % 2, 7, -3)),
    "names": fitted(labels=np.where(np.arange(90) % 2, "no", "yes")),
    "constructed": constructed_head(random_hmm("dirichlet", 3, 4, 0), PosteriorTask(np.eye(2, 3))),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_come_back_identical(name, tmp_path):
    head = HEADS[name]
    save(head, tmp_path / "head.nc")
    again = load(tmp_path / "head.nc")
    assert type(again) is LinearHead
    assert again.get_params() == head.get_params()
    for attribute in ("coef_", "intercept_", "classes_"):
        np.testing.assert_array_equal(getattr(again, attribute), getattr(head, attribute))
    assert again.n_features_in_ == head.n_features_in_
    rows = np.random.default_rng(1).dirichlet(np.ones(4), size=30)
    np.testing.assert_array_equal(again.predict(rows), head.predict(rows))
    np.testing.assert_array_equal(again.decision_function(rows), head.decision_function(rows))
    again.fit(rows, np.arange(30) % 2)  # its parameters are valid ones


def test_the_path_may_be_a_string_and_is_replaced(tmp_path):
    path = str(tmp_path / "file.nc")
    save(RECORDS["task"], path)
    save(RECORDS["model"], path)
    assert RECORDS["model"].identical(load(path))


def test_files_say_who_wrote_them_and_name_their_dimensions(tmp_path):
    save(RECORDS["models"], tmp_path / "model.nc")
    with xr.open_dataset(tmp_path / "model.nc", engine="h5netcdf") as file:
        assert file.attrs == {"kind": "HMM", "package": "ppl_hmm", "version": __version__}
        assert file["initial"].dims == ("model", "state")
        assert file["transition"].dims == ("model", "state", "state_next")
        assert file["emission"].dims == ("model", "state", "token")
    save(RECORDS["task"], tmp_path / "task.nc")
    with xr.open_dataset(tmp_path / "task.nc", engine="h5netcdf") as file:
        assert file["weights"].dims == ("class", "state")
    save(RECORDS["prompt"], tmp_path / "prompt.nc")
    with xr.open_dataset(tmp_path / "prompt.nc", engine="h5netcdf") as file:
        assert file["rows"].dims == ("prompt_position", "state")


def plain(**changes):
    """A model as someone without this package would write it."""
    variables = {
        "initial": ("state", [0.25, 0.75]),
        "transition": (("state", "state_next"), [[0.5, 0.5], [1.0, 0.0]]),
        "emission": (("state", "token"), [[0.2, 0.3, 0.5], [0.0, 0.0, 1.0]]),
    }
    return xr.Dataset({name: value for name, value in {**variables, **changes}.items() if value is not None})


def write(dataset, path):
    dataset.to_netcdf(path, engine="h5netcdf")
    return path


def test_a_file_of_plain_xarray_loads(tmp_path):
    model = load(write(plain(), tmp_path / "plain.nc"))
    expected = HMM([0.25, 0.75], [[0.5, 0.5], [1.0, 0.0]], [[0.2, 0.3, 0.5], [0.0, 0.0, 1.0]])
    assert expected.identical(model)
    # Dimensions count, their order does not; coordinates and other variables may be there.
    turned = plain(emission=(("token", "state"), [[0.2, 0.0], [0.3, 0.0], [0.5, 1.0]]), note=("state", [1, 2]))
    turned = turned.assign_coords(token=["a", "b", "c"])
    assert expected.identical(load(write(turned, tmp_path / "turned.nc")))


@pytest.mark.parametrize(
    ("dataset", "error", "message"),
    [
        (
            plain(emission=None),
            ForeignFile,
            "got initial, transition; put them at the root or in a group /model; the documentation of HMM",
        ),
        (plain().rename(emission="emissions"), ForeignFile, "got emissions, initial, transition"),
        (xr.Dataset(), ForeignFile, "got none"),
        (plain().rename(state_next="next"), InvalidInput, "dimension 'state_next' of variable 'transition'"),
        (plain(initial=("state", [0.25, np.nan])), InvalidInput, r"initial\[1\]: expected a finite number, got nan"),
        (
            plain(initial=("state", [0.25, 0.5])),
            InvalidInput,
            "initial is not a distribution: expected entries that "
            "sum to 1, got a sum of 0.75; divide the row by its sum",
        ),
        (
            plain(transition=(("state", "state_next"), [[0.5, 0.5], [0.9, 0.0]])),
            InvalidInput,
            "transition row 1 is not a distribution: expected entries that sum to 1, got a sum of 0.9",
        ),
        (
            plain(transition=(("state", "state_next"), [[1.5, -0.5], [1.0, 0.0]])),
            InvalidInput,
            r"transition\[0, 1\]: expected a non-negative probability, got -0.5",
        ),
        (plain(initial=("start", [0.25, 0.75])), InvalidInput, "dimension 'state' of variable 'initial'"),
        (xr.Dataset({"weights": (("class", "state"), [[1.0, 2.0]])}), InvalidInput, "at least two classes"),
        (xr.Dataset({"rows": (("prompt_position", "state"), [[1.0, np.inf]])}), InvalidInput, r"rows\[0, 1\]"),
        (xr.Dataset({"weights": (("class", "state"), [["a", "b"], ["c", "d"]])}), InvalidInput, "weights"),
    ],
)
def test_files_that_are_not_right(dataset, error, message, tmp_path):
    with pytest.raises(error, match=message):
        load(write(dataset, tmp_path / "file.nc"))


def head_file(coefficients=((1.0, -1.0),), intercepts=(0.0,), token="token"):
    return xr.Dataset(
        {
            "coefficients": (("score", token), np.array(coefficients)),
            "intercepts": ("score", np.array(intercepts)),
            "classes": ("class", [0, 1]),
        }
    )


def test_a_head_of_plain_xarray_loads(tmp_path):
    head = load(write(head_file(), tmp_path / "head.nc"))
    assert head.predict([[0.4, 0.6], [0.5, 0.5]]).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        (head_file(coefficients=[[np.nan, 1.0]]), "coefficients"),
        (head_file(intercepts=[np.inf]), "intercepts"),
        (head_file(token="word"), "token"),
    ],
)
def test_head_files_that_are_not_right(dataset, name, tmp_path):
    with pytest.raises(InvalidInput, match=name):
        load(write(dataset, tmp_path / "head.nc"))


def test_a_foreign_file_names_what_would_do(tmp_path):
    with pytest.raises(ForeignFile) as caught:
        load(write(xr.Dataset({"temperature": ("time", [1.0])}), tmp_path / "weather.nc"))
    message = str(caught.value)
    assert "weather.nc" in message
    assert "emission, initial, transition" in message
    assert "classes, coefficients, intercepts" in message
    assert "got temperature" in message


def test_a_file_with_only_groups_is_foreign(tmp_path):
    with h5netcdf.File(tmp_path / "groups.nc", "w") as file:
        file.create_group("model")
    with pytest.raises(ForeignFile, match="got none"):
        load(tmp_path / "groups.nc")


@pytest.mark.parametrize("content", [b"", b"not netCDF", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"])
def test_a_file_that_is_no_netcdf(content, tmp_path):
    (tmp_path / "text.nc").write_bytes(content)
    with pytest.raises(ForeignFile, match=r"file .*text.nc: expected a netCDF file.*write a model by save\(HMM\("):
        load(tmp_path / "text.nc")


def test_a_file_that_is_cut_off(tmp_path):
    save(RECORDS["models"], tmp_path / "model.nc")
    whole = (tmp_path / "model.nc").read_bytes()
    (tmp_path / "model.nc").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ForeignFile, match="expected a netCDF file"):
        load(tmp_path / "model.nc")


def test_no_such_file(tmp_path):
    with pytest.raises(ForeignFile, match=r"absent.nc: expected a netCDF file"):
        load(tmp_path / "absent.nc")
    with pytest.raises(ForeignFile, match="expected a netCDF file"):
        load(tmp_path)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file" / "model.nc", tmp_path / "no" / "such" / "model.nc", tmp_path):
        with pytest.raises(ForeignFile, match=r"expected a place that can be written, got .*; choose another path"):
            save(RECORDS["model"], path)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("value", [object(), {"initial": 1}, np.ones(3), None])
def test_other_objects_are_not_saved(value, tmp_path):
    with pytest.raises(
        ForeignFile,
        match="object to save: expected AttentionHead, ConceptHMM, HMM, LinearHead, MealyHMM, MemoryHMM, MemoryPrompt, "
        f"MemoryTask, PosteriorTask, SoftPrompt, Vocabulary, got {type(value).__name__}",
    ):
        save(value, tmp_path / "file.nc")
    assert not list(tmp_path.iterdir())
