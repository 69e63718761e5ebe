"""The built wheel: what it holds beside the modules, and what it asks for."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ppl_hmm"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: Dependencies that xarray loads by name when a file is opened, and ArviZ, for whose functions audits are laid out.
NOT_IMPORTED = {"arviz", "h5netcdf"}


def module(requirement):
    """The module of a requirement like ``name[extra]>=1; marker``."""
    name = re.match(r"[\w-]+", requirement)[0]
    return {"pyro-ppl": "pyro", "scikit-learn": "sklearn"}.get(name, name.replace("-", "_"))


def imports(path):
    """The modules that a file imports, without what they are part of."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [node.module if isinstance(node, ast.ImportFrom) else alias.name for node in nodes for alias in node.names]
    return {name.partition(".")[0] for name in names if name}


def test_every_dependency_is_imported():
    imported = set().union(*map(imports, PACKAGE.rglob("*.py")))
    assert set(map(module, PROJECT["dependencies"])) - imported == NOT_IMPORTED
    for extra in ("dask", "fast", "gpu"):  # those that users choose
        assert set(map(module, PROJECT["optional-dependencies"][extra])) <= imported


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_its_data(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        held = {Path(name) for name in wheel.namelist() if name.startswith("ppl_hmm/")}
    files = {path.relative_to(ROOT) for path in PACKAGE.rglob("*") if path.is_file()}
    assert held == {path for path in files if "__pycache__" not in path.parts}
    for name in ("__init__.pyi", "py.typed", "reference/wei2021_figure3.csv"):
        assert Path("ppl_hmm", name) in held
