"""Every script of analyses/ runs, warns of nothing, writes figure and numbers, and keeps to the public interface."""

import ast
import re
import runpy
from pathlib import Path

import pytest
import xarray as xr

ANALYSES = Path(__file__).parents[1] / "analyses"
SCRIPTS = sorted(ANALYSES.glob("[0-9]*.py"))


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a script at its small sizes as Python would, but in this process; return what it prints."""

    def main(script, out):
        monkeypatch.chdir(out.parent)
        monkeypatch.syspath_prepend(script.parent)
        monkeypatch.setattr("sys.argv", [str(script), "--smoke", "--out", str(out)])
        runpy.run_path(str(script), run_name="__main__")  # a warning is an error here
        printed, errors = capsys.readouterr()
        assert errors == ""
        return printed

    return main


def test_there_are_scripts_and_their_numbers_count_up():
    assert [script.name[:3] for script in SCRIPTS] == [f"{i:02d}_" for i in range(1, len(SCRIPTS) + 1)]
    assert len(SCRIPTS) >= 5


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_writes_its_figure_and_numbers(script, tmp_path, run):
    out = tmp_path / "results"
    printed = run(script, out)
    (numbers,) = out.glob("*.nc")
    assert {path.name for path in out.iterdir()} == {numbers.stem + suffix for suffix in (".nc", ".png", ".svg")}
    assert numbers.stem.replace("-", "_") == script.stem[3:]
    assert all(str(path) in printed for path in out.iterdir())
    with xr.open_datatree(numbers, engine="h5netcdf") as tree:
        assert any(variable.size for group in tree.subtree for variable in group.data_vars.values())
    assert (out / f"{numbers.stem}.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (out / f"{numbers.stem}.svg").read_text()
    if script.stem == "01_certificate_against_accuracy":
        check_table(printed, xr.load_dataset(numbers, engine="h5netcdf"))


def check_table(printed, numbers):
    """Count models and their accuracies again, from the file, and find them in the table."""
    verdicts, accuracies = (numbers[name].sel(question="head").values for name in ("verdict", "learned_accuracy"))
    for verdict in set(verdicts):
        row = re.search(rf"^(?:head)? +{verdict} +(.*)$", printed, flags=re.MULTILINE)[1].split()
        chosen = accuracies[verdicts == verdict]
        assert int(row[0]) == len(chosen)
        assert float(row[1]) == pytest.approx(chosen.min(), abs=1e-4)
        assert float(row[4]) == pytest.approx(chosen.max(), abs=1e-4)
        assert float(row[5]) == pytest.approx((chosen >= 0.995).mean(), abs=1e-4)


@pytest.mark.parametrize("script", sorted(ANALYSES.glob("*.py")), ids=lambda script: script.stem)
def test_a_script_uses_public_names_only(script):
    names, nodes = set(), list(ast.walk(ast.parse(script.read_text())))
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {name for name in names if name.split(".")[0] == "ppl_hmm"}
    assert ours
    assert not {name for name in ours if name.startswith("ppl_hmm.exact")}
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert not {name for name in attributes if name.startswith("_")}
    assert not {name for name in ours if any(part.startswith("_") for part in name.split("."))}
