"""The script that prepares a release: it refuses what does not agree, before anything is built."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("release", ROOT / "docs" / "release.py")
release = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(release)


@pytest.fixture
def tree(tmp_path):
    """A tree that is ready for version 1.2.0."""
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
    (tmp_path / "CITATION.cff").write_text("cff-version: 1.2.0\nversion: 1.2.0\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-12-01\n\n- A line.\n")
    return tmp_path


def test_files_that_agree_have_no_fault(tree):
    assert release.faults(tree) == []
    assert set(release.versions(tree).values()) == {"1.2.0"}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("pyproject.toml", "1.2.0", "1.2.1"),
        ("CITATION.cff", "\nversion: 1.2.0", "\nversion: 1.1.0"),
        ("CITATION.cff", "\nversion: 1.2.0", ""),
        ("CHANGELOG.md", "1.2.0] - 2026-12-01", "1.1.0] - 2026-11-01"),
        ("CHANGELOG.md", "[1.2.0] - 2026-12-01", "[1.2.0]"),
    ],
)
def test_a_version_that_differs_is_named(tree, file, old, new):
    path = tree / file
    path.write_text(path.read_text().replace(old, new))
    (fault,) = release.faults(tree)
    assert file in fault


def test_lines_without_a_version_are_named(tree):
    path = tree / "CHANGELOG.md"
    path.write_text(path.read_text().replace("[Unreleased]\n", "[Unreleased]\n\n- New.\n"))
    (fault,) = release.faults(tree)
    assert "[Unreleased]" in fault


def test_the_quick_start_is_that_of_the_readme():
    assert "audit(model, task, seed=0)" in release.quick_start(ROOT)
    assert release.versions(ROOT)["pyproject.toml"] == release.versions(ROOT)["CITATION.cff"]
