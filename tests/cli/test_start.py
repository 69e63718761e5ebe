"""Help, shell completion and warming up."""

import os
import subprocess
import sys

import pytest

from ppl_hmm import InvalidInput, cli
from ppl_hmm.exact.backends import warming

HEAVY = {"matplotlib", "numpy", "sklearn", "torch", "xarray"}


@pytest.fixture
def call(capsys):
    def main(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main(list(arguments))
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return main


COMMANDS = ["", "audit", "beliefs", "sample", "show", "warm-up", "reproduce", "reproduce head-vs-prompt"]


@pytest.mark.parametrize("command", COMMANDS)
def test_both_names_of_help(command, call):
    status, output, errors = call(*command.split(), "-h")
    assert (status, errors) == (0, "")
    assert output.startswith(f"Usage: ppl-hmm {command}".rstrip())
    assert call(*command.split(), "--help") == (0, output, "")


def test_completion_is_told_in_one_line_of_help(call):
    output = call("--help")[1]
    assert output.count("completion") == 2  # the words and the option itself
    assert "Shell completion: ppl-hmm --install-completion" in output
    assert "--show-completion" not in output


def complete(line):
    """What bash would offer, and which libraries it would wait for."""
    code = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print(*({HEAVY!r} & set(sys.modules)), file=sys.stderr))\n"
        "from ppl_hmm.cli import main; main()"
    )
    asked = {"_PPL_HMM_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    process = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, timeout=60
    )
    return process.stdout.split(), process.stderr.split()


def test_completion_needs_no_library():
    assert complete("ppl-hmm w") == (["warm-up"], [])
    assert complete("ppl-hmm audit --ex") == (["--example"], [])


def test_the_script_of_completion(call, monkeypatch):
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    status, output, errors = call("--show-completion")
    assert (status, errors) == (0, "")
    assert "_PPL_HMM_COMPLETE=complete_bash" in output


@pytest.mark.parametrize(("given", "kept"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_the_environment_says_otherwise(given, kept, call, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    call("--version")
    assert os.environ["OMP_WAIT_POLICY"] == kept


def test_warm_up(call, monkeypatch):
    called = []
    monkeypatch.setattr(warming, "warm_up", lambda: called.append(True))
    assert call("warm-up") == (0, "compiled loops: ready after 0 s\n", "")
    assert called == [True]


def test_warm_up_without_numba(call, monkeypatch):
    def refuse():
        raise InvalidInput("backend", "numba to compile", "no numba", "pip install 'ppl-hmm[fast]'")

    monkeypatch.setattr(warming, "warm_up", refuse)
    message = "ppl-hmm: backend: expected numba to compile, got no numba; pip install 'ppl-hmm[fast]'\n"
    assert call("warm-up") == (2, "", message)
