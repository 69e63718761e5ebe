"""Standard output where a compiled solver prints to file descriptor 1."""

import json
import os
import threading

import forked
import pytest

from ppl_hmm.base.quiet import stdout_to_stderr

# A solver that prints as C does: past Python's buffer, and into C's own.
NOISY = """
import ctypes, os, sys
from scipy.optimize import _linprog, _milp
from ppl_hmm.audits.figures import catalogue

def noisy(name, module, inner):
    solve = getattr(module, inner)
    def solver(*arguments, **options):
        os.write(1, f"unbuffered {name}\\n".encode())
        ctypes.CDLL(None).puts(f"buffered {name}".encode())
        return solve(*arguments, **options)
    setattr(module, inner, solver)

noisy("milp", _milp, "_highs_wrapper")
noisy("linprog", _linprog, "_linprog_highs")
catalogue.available = lambda _: ()  # drawing takes longer than the rest
"""


def run(program, *arguments):
    return forked.run(NOISY + program, *arguments)


@pytest.mark.parametrize(("example", "solvers"), [("aliased", ["milp", "linprog"]), ("degenerate", ["linprog"])])
def test_an_audit_prints_json_alone(example, solvers, tmp_path):
    process = run(
        "from ppl_hmm import cli; cli.main(sys.argv[1:])",
        *("audit", "--example", example, "--length", "3", "--prompt-tokens", "0"),
        *("--json", "--out", str(tmp_path / "out")),
    )
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["package"] == "ppl_hmm"
    printed = process.stderr.splitlines()
    assert {f"{buffer} {solver}" for buffer in ("buffered", "unbuffered") for solver in solvers} <= set(printed)


def test_other_solvers_and_what_is_printed_around_them():
    process = run(
        "from ppl_hmm import separability\n"
        "sys.stdout.write('before ')\n"
        "print(separability([[1.0, 0.0], [0.0, 1.0]], [0, 1]).separable)"
    )
    assert process.stdout == "before True\n"
    assert process.stderr.count("buffered linprog") >= 2


def test_descriptors_are_as_before(capfd):
    before = os.fstat(1)
    inside = threading.Barrier(4)

    def solve():
        inside.wait(10)
        for _ in range(20):
            with stdout_to_stderr():
                os.write(1, b"s")

    threads = [threading.Thread(target=solve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    with pytest.raises(ZeroDivisionError), stdout_to_stderr():
        os.write(1 // 0, b"never")
    os.write(1, b"after")
    assert os.path.samestat(before, os.fstat(1))
    assert capfd.readouterr() == ("after", 80 * "s")


@pytest.mark.parametrize("closed", [1, 2])
def test_a_closed_descriptor_changes_nothing(closed):
    process = run(
        "from ppl_hmm.base.quiet import stdout_to_stderr\n"
        f"os.close({closed})\n"
        "with stdout_to_stderr():\n"
        f"    os.write({3 - closed}, b'written')\n"
        "os._exit(0)"
    )
    assert (process.returncode, (process.stdout, process.stderr)[closed == 1]) == (0, "written")
