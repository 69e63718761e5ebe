"""Prepare a release: check that versions agree, build wheel and sdist, try the wheel in an empty environment.

Usage: make release, or python docs/release.py [--python /path/to/python3.12]. Nothing is published: what is left to do
is printed at the end.
"""

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def versions(root):
    """Return the version that each file names: the package's, the citation's, the changelog's latest."""
    released = re.findall(r"^## \[(.+?)\] - \d{4}-\d\d-\d\d$", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    cited = re.search(r"^version: *(\S+)$", (root / "CITATION.cff").read_text(), re.MULTILINE)
    return {
        "pyproject.toml": tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"],
        "CITATION.cff": cited[1] if cited else None,
        "CHANGELOG.md": released[0] if released else None,
    }


def faults(root):
    """Return what stands in the way of a release, a line each."""
    named = versions(root)
    found = []
    if len(set(named.values())) > 1:
        found.append("versions differ: " + ", ".join(f"{file} {version}" for file, version in named.items()))
    unreleased = re.search(r"^## \[Unreleased\]\n(.*?)(?=^## |\Z)", (root / "CHANGELOG.md").read_text(), re.M | re.S)
    if unreleased and unreleased[1].strip():
        heading = "## [0.2.0] - 2026-12-01"
        found.append(f"CHANGELOG.md has lines below [Unreleased]: give them the version and a date, as in {heading}")
    return found


def run(*command, cwd=ROOT):
    """Run a command, show it, and stop where it fails."""
    print("$", *command, flush=True)
    subprocess.run([str(part) for part in command], cwd=cwd, check=True)


def environment(folder, python=None):
    """Create an empty environment, and return its Python."""
    if python:
        run(python, "-m", "venv", folder)
    else:
        venv.create(folder, with_pip=True)
    return Path(folder) / ("Scripts" if sys.platform == "win32" else "bin") / "python"


def build(root, folder):
    """Build wheel and sdist into dist/ by the pinned backend, and return both."""
    backend = tomllib.loads((root / "pyproject.toml").read_text())["build-system"]["requires"]
    python = environment(Path(folder) / "build")
    run(python, "-m", "pip", "install", "-q", *backend)
    run(python, "-m", "hatchling", "build", "--clean", "--directory", root / "dist", cwd=root)
    return next((root / "dist").glob("*.whl")), next((root / "dist").glob("*.tar.gz"))


def quick_start(root):
    """Return the README's first block of Python."""
    return re.search(r"^```python\n(.*?)^```", (root / "README.md").read_text(), re.MULTILINE | re.DOTALL)[1]


def try_wheel(wheel, root, folder, python=None):
    """Install the wheel in an empty environment, and run there what a reader of the README runs."""
    own = environment(Path(folder) / "try", python)
    run(own, "-m", "pip", "install", "-q", "-c", root / "constraints.txt", wheel)
    run(own, "-m", "pip", "check")
    run(own, "-W", "error", "-c", "import ppl_hmm; print(ppl_hmm.__version__)", cwd=folder)
    run(own, "-W", "error", "-c", quick_start(root), cwd=folder)
    run(own.with_name("ppl-hmm"), "--version", cwd=folder)


def try_sdist(sdist):
    """Require that the sdist holds what a build and its reader need."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    missing = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "ppl_hmm/__init__.pyi"} - names
    if missing:
        sys.exit(f"{sdist.name} lacks {', '.join(sorted(missing))}")


def main():
    """Run all steps, and say what is left to do."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", help="the Python to try the wheel with; this one by default")
    parser.add_argument("--draft", action="store_true", help="build and try although versions do not agree yet")
    options = parser.parse_args()
    found = faults(ROOT)
    print(*found, sep="\n")
    if found and not options.draft:
        sys.exit(1)
    with tempfile.TemporaryDirectory() as folder:
        wheel, sdist = build(ROOT, folder)
        try_sdist(sdist)
        try_wheel(wheel, ROOT, folder, options.python)
    version = versions(ROOT)["pyproject.toml"]
    print(f"\n{wheel.name} and {sdist.name} are in dist/. Left to do:")
    print("  1. .ci/run, on a clean clone")
    print(f"  2. git tag -a v{version} -m 'Version {version}', and push the tag")
    print("  3. upload dist/ to the package index")
    print("  4. begin a new [Unreleased] in CHANGELOG.md")


if __name__ == "__main__":
    main()
