"""Saved audits open as trees with their accessor, those of version 0.1 among them, and are not taken for models."""

import pytest
import xarray as xr

import ppl_hmm
from ppl_hmm import ForeignFile, InvalidInput, audit, example, load, open_audit, random_hmm, save
from ppl_hmm.audits.tree import Audited
from ppl_hmm.inference.sampling import as_tree, sample
from ppl_hmm.schema import Cause
from ppl_hmm.storage.files import load_model


@pytest.fixture(scope="module")
def tree():
    return audit(*example("aliased"), length=6, n_sequences=60, seed=0)


@pytest.fixture
def path(tree, tmp_path):
    tree.to_netcdf(tmp_path / "audit.nc", engine="h5netcdf")
    return tmp_path / "audit.nc"


def test_it_comes_back_with_its_accessor(tree, path):
    again = open_audit(path)
    assert again.identical(tree)
    assert again.ppl_hmm.report(verbose=True) == tree.ppl_hmm.report(verbose=True)


def of_the_first_release(tree):
    """An audit as version 0.1 wrote it: a dimension of another name, no causes."""
    old = tree.copy()
    conditioning = old["diagnostics/conditioning"].to_dataset()
    old["diagnostics/conditioning"].dataset = conditioning.rename(rank_tolerance="tolerance")
    old["recoverability"].dataset = old["recoverability"].to_dataset().drop_vars("cause")
    return old


def test_one_of_the_first_release_is_read(tree, tmp_path):
    of_the_first_release(tree).to_netcdf(tmp_path / "old.nc", engine="h5netcdf")
    again = open_audit(tmp_path / "old.nc")
    assert again["diagnostics/conditioning/effective_rank"].dims == ("matrix", "rank_tolerance")
    assert again.ppl_hmm.report(verbose=True) == tree.ppl_hmm.report(verbose=True)
    assert again.ppl_hmm.summary().equals(tree.ppl_hmm.summary())


@pytest.mark.parametrize(
    ("verdict", "theorem", "cause"),
    [
        ("recoverable", "Theorem H (3.3)", Cause.CONDITION_HOLDS),
        ("not recoverable", "Theorem H (3.3)", Cause.WITNESS),
        ("undecided", "Theorem P (3.6)", Cause.CONDITION_FAILS),
        ("recoverable", "constant label", Cause.CONSTANT_LABEL),
    ],
)
def test_causes_of_the_first_release(tree, verdict, theorem, cause):
    old = of_the_first_release(tree)
    table = old["recoverability"].to_dataset()
    columns = {"verdict": verdict, "theorem": theorem}
    old["recoverability"].dataset = table.assign({name: ("question", [value] * 3) for name, value in columns.items()})
    assert [asked.cause for asked in Audited(old).asked.values()] == [cause] * 3


def test_one_without_masks_and_remedy_is_read(tree):
    old = of_the_first_release(tree)
    table = old["recoverability"].to_dataset().sel(question=["head", "prompt"]).drop_vars(["n_masks", "half_range"])
    old["recoverability"].dataset = table
    groups = ("remedy", "recoverability/masks", "head/masks", "head/masks-learned")
    old = xr.DataTree.from_dict(
        {path: node.to_dataset(inherit=False) for path, node in old.subtree_with_keys if path not in groups}, name=None
    )
    old.attrs = tree.attrs
    assert list(old.ppl_hmm.verdict) == ["head", "prompt"]
    assert [asked.n_masks for asked in Audited(old).asked.values()] == [1, 1]
    assert "(masks)" not in old.ppl_hmm.report()
    with pytest.raises(InvalidInput, match="audit again"):
        old.ppl_hmm.remedy  # noqa: B018


def test_load_says_what_reads_an_audit(path):
    with pytest.raises(ForeignFile, match=r"expected a model, task, prompt or head, got an audit; open_audit\(path\)"):
        load(path)
    assert load_model(path).identical(example("aliased")[0])  # the command line audits the model anew


OTHERS = {
    "model": lambda path: save(random_hmm("dirichlet", 3, 4, 0), path),
    "sample": lambda path: as_tree(
        random_hmm("dirichlet", 3, 4, 0), sample(random_hmm("dirichlet", 3, 4, 0), 5, 6, 0), 0
    ).to_netcdf(path),
    "half": lambda path: xr.DataTree.from_dict({"/recoverability": xr.Dataset({"verdict": 1})}).to_netcdf(path),
    "text": lambda path: path.write_text("mine"),
    "bytes": lambda path: path.write_bytes(bytes(range(256))),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_refused_by_name(name, tmp_path):
    OTHERS[name](tmp_path / "other.nc")
    with pytest.raises(ForeignFile, match=r"other\.nc: expected ") as caught:
        open_audit(tmp_path / "other.nc")
    assert "\n" not in str(caught.value)


# Draws, for ArviZ.


def test_arviz_summarises_the_draws(tree):
    import arviz
    import arviz_stats

    draws = tree.ppl_hmm.draws
    assert draws.sizes == {"chain": 4, "draw": 15}
    for table in (arviz.summary(draws, round_to="none"), arviz_stats.summary(tree, group="draws", round_to="none")):
        assert set(table.index) == {"margin", "best_guess", "posterior_entropy"}
        for name in table.index:
            assert float(table.loc[name, "mean"]) == pytest.approx(draws[name].mean().item())


def test_all_texts_there_are_are_no_draws():
    with pytest.raises(InvalidInput, match=r"expected a group /draws, got .*; audit a sample of texts"):
        audit(*example("aliased"), length=2, seed=0).ppl_hmm.draws  # noqa: B018


def test_public_names():
    assert ppl_hmm.open_audit is open_audit
