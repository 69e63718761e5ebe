"""Python programs in processes of their own that start at once: forked from one that has imported the package."""

import io
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path
from subprocess import CompletedProcess

#: What programs find imported. Modules that are installed: the server of forks does not know where tests lie.
IMPORTED = (
    "ppl_hmm.audits.audit",
    "ppl_hmm.cli",
    "ppl_hmm.exact.backends.compiled",
    "ppl_hmm.experiments.figure3.head_vs_prompt_cells",
    "ppl_hmm.experiments.figure3.memory_vs_vanilla_cells",
    "ppl_hmm.experiments.look.drawing",
    "ppl_hmm.programs.distribution",
)

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(IMPORTED))


def run(code, *arguments, cwd=None, environment=(), timeout=120):
    """Run ``python -c code *arguments``, but for interpreter options; return what ``subprocess.run`` would as text."""
    with tempfile.TemporaryDirectory() as streams:
        given = os.environ | dict(environment)
        process = _context.Process(target=_main, args=(code, list(map(str, arguments)), cwd, given, streams))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"not ended after {timeout} seconds")
        output, errors = (Path(streams, name).read_text() for name in ("out", "err"))
    return CompletedProcess([code, *arguments], process.exitcode, output, errors)


def _main(code, arguments, cwd, environment, streams):
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, name in ((1, "out"), (2, "err")):
        with Path(streams, name).open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(number, "w", closefd=False)) for number in (1, 2))
    if cwd is not None:
        os.chdir(cwd)
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
