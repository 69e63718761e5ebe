"""The command line where its output cannot be encoded, is not read, or cannot be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ppl_hmm
from ppl_hmm import cli
from ppl_hmm.audits.figures import catalogue

AUDIT = ("audit", "--example", "aliased", "--length", "3")


#: A command that draws nothing, which takes longer than the rest.
WITHOUT_FIGURES = """
from ppl_hmm import cli
from ppl_hmm.audits.figures import catalogue

catalogue.available = lambda _: ()
cli.main()
"""


def run(*arguments, command=("-m", "ppl_hmm"), stdout=subprocess.PIPE, **environment):
    return subprocess.run(
        [sys.executable, *command, *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=120,
        env=os.environ | environment,
    )


@pytest.fixture
def in_this_process(monkeypatch, tmp_path):
    """Call the command line here with a standard output of an encoding; return what is printed, as bytes."""

    def call(encoding, *arguments):
        monkeypatch.setattr(catalogue, "available", lambda _: ())
        with (tmp_path / "printed").open("w", encoding=encoding) as out:
            monkeypatch.setattr(sys, "stdout", out)
            with pytest.raises(SystemExit) as ended:
                cli.main(list(map(str, arguments)))
        assert ended.value.code == 0
        return (tmp_path / "printed").read_bytes()

    return call


def in_another(environment, *arguments):
    """Call it where the environment says what the terminal can show; return what is printed, as bytes."""
    process = run(*arguments, command=("-c", WITHOUT_FIGURES), **environment)
    assert (process.returncode, process.stderr) == (0, b"")
    return process.stdout


@pytest.mark.parametrize(
    ("encoding", "environment"), [("cp1252", None), ("latin-1", None), ("utf-8", {"LC_ALL": "C"})]
)
def test_letters_that_a_terminal_lacks_are_replaced(encoding, environment, tmp_path, in_this_process):
    command = (*AUDIT, "--verbose", "--out", tmp_path / "out")
    printed = in_this_process(encoding, *command) if environment is None else in_another(environment, *command)
    whole = (tmp_path / "out" / "report.txt").read_text(encoding="utf-8")
    printed = printed.decode(encoding)
    assert printed.startswith(whole.encode(encoding, errors="replace").decode(encoding))
    assert ("?" in printed) == (encoding != "utf-8")
    assert (tmp_path / "out" / "audit.nc").exists()


@pytest.mark.parametrize(
    "arguments", [("sample", "--help"), ("reproduce", "head-vs-prompt", "-h"), ("show", "ø⊤"), ("⊤",)]
)
def test_help_and_errors_on_any_terminal(arguments, tmp_path, monkeypatch):
    """In this process, the streams as they would be: each command's words and errors come through."""
    monkeypatch.chdir(tmp_path)
    for encoding in ("ascii", "cp1252"):
        files = [(tmp_path / name).open("w", encoding=encoding) for name in ("out", "err")]
        with files[0] as out, files[1] as err:
            monkeypatch.setattr(sys, "stdout", out)
            monkeypatch.setattr(sys, "stderr", err)
            with pytest.raises(SystemExit) as caught:
                cli.main(list(arguments))
        is_help = arguments[-1] in ("--help", "-h")
        assert caught.value.code == (0 if is_help else 2)
        out, err = ((tmp_path / name).read_bytes() for name in ("out", "err"))
        assert out.startswith(b"Usage: ppl-hmm") == is_help
        assert err.startswith(b"ppl-hmm: ") != is_help
        assert err.count(b"\n") == (not is_help)


def test_the_package_is_a_command():
    process = run("--version")
    assert (process.returncode, process.stderr) == (0, b"")
    assert process.stdout.decode() == f"ppl-hmm {ppl_hmm.__version__}\n"


@pytest.mark.parametrize("arguments", [AUDIT, ("-h",)])
def test_nobody_reads_on(arguments):
    reading, writing = os.pipe()
    os.close(reading)
    process = run(*arguments, stdout=writing)
    os.close(writing)
    assert (process.returncode, process.stderr) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
@pytest.mark.parametrize("arguments", [("--version",), ("reproduce", "-h")])
def test_output_to_a_full_disk(arguments):
    with open("/dev/full", "wb") as full:
        process = run(*arguments, stdout=full)
    assert process.returncode == 1
    assert process.stderr.decode() == "ppl-hmm: [Errno 28] No space left on device\n"


def test_a_report_that_cannot_be_printed_is_written(tmp_path, monkeypatch):
    """What was computed for a while is on disk before the first word is printed."""

    def end(text):
        sys.exit(3)

    monkeypatch.setattr(cli.typer, "echo", end)
    monkeypatch.setattr(catalogue, "available", lambda _: ())
    with pytest.raises(SystemExit) as caught:
        cli.main([*AUDIT, "--sequences", "5", "--json", "--out", str(tmp_path / "out")])
    assert caught.value.code == 3
    assert {"audit.nc", "report.json"} <= {path.name for path in (tmp_path / "out").iterdir()}
