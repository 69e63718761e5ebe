"""The command line: every command is a thin call of the public functions."""

from __future__ import annotations

import io
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console
from typer.core import TyperOption

import ppl_hmm
from ppl_hmm import _audit_options as asked
from ppl_hmm._reproduce import help_without_command, reproduce
from ppl_hmm._terminal import parse_states, require_new, require_one, show_experiment, waiting
from ppl_hmm._version import __version__
from ppl_hmm.errors import InvalidInput, PplHmmError
from ppl_hmm.experiments.look.progress import progress_bar

# Commands import what they need: help and shell completion must not wait for torch.
if TYPE_CHECKING:
    from ppl_hmm.corpus.units import Unit

# Plain messages: the package's errors are one line, and so must be bad usage.
app = typer.Typer(
    help="When do head tuning and prompt tuning recover a downstream label? Exact answers.",
    epilog="Shell completion: ppl-hmm --install-completion",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(reproduce, name="reproduce")
FAILED, BAD_USAGE, INTERRUPTED = 1, 2, 130  # exit statuses
_WIDEST = 100  # columns of a report


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        typer.echo(f"ppl-hmm {__version__}")
    else:
        help_without_command(context)


@app.command()
def show(store: Annotated[Path, typer.Argument(help="Directory of an experiment, finished or running.")]) -> None:
    """Print the table of an experiment and draw its figure again."""
    from ppl_hmm.experiments.engine.store import open_results

    tree = open_results(store)
    show_experiment(tree["settings"].attrs["experiment"], tree, store)


@app.command()
def sample(
    model: Annotated[Path | None, typer.Argument(help="A model file (netCDF).")] = None,
    regime: Annotated[str | None, typer.Option(help="A random model in place of a file: wei2021, dirichlet, …")] = None,
    states: Annotated[int, typer.Option(help="Hidden states of a random model.")] = 8,
    vocabulary: Annotated[int, typer.Option(help="Tokens of a random model.")] = 10,
    sequences: Annotated[int, typer.Option(help="How many texts.")] = 1000,
    length: Annotated[int, typer.Option(help="Tokens of each text.")] = 80,
    seed: Annotated[int, typer.Option(help="Same seed, same file.")] = 0,
    out: Annotated[Path, typer.Option(help="File to write (netCDF); an existing one is not replaced.")] = Path(
        "sample.nc"
    ),
) -> None:
    """Draw text with its hidden states and write both, with the model, to a netCDF file."""
    from ppl_hmm import regimes
    from ppl_hmm.inference import sampling
    from ppl_hmm.storage import files

    if (model is None) == (regime is None):
        raise InvalidInput("ppl-hmm sample", "a model file or --regime", "both" if model else "neither", "give one")
    if regime is not None:
        source = regimes.random_hmm(regime, states, vocabulary, seed)
    else:
        source = files.load_model(str(model))
    tree = sampling.as_tree(source, sampling.sample(source, sequences, length, seed), seed)
    files.save_tree(tree, out)
    typer.echo(f"{sequences} texts of {length} tokens: {out}")


@app.command()
def fit(
    corpus: Annotated[Path, typer.Argument(help="A plain text file.")],
    unit: Annotated[str, typer.Option(help="What a token is: char or word.")] = "char",
    states: Annotated[str, typer.Option(help="Numbers of hidden states.")] = "2,5,10",
    method: Annotated[str, typer.Option(help="em: expectation-maximisation.")] = "em",
    held_out: Annotated[float, typer.Option(help="Share of the text to test on, in random blocks.")] = 0.1,
    restarts: Annotated[int, typer.Option(help="Starts of each size.")] = 4,
    vocabulary: Annotated[int | None, typer.Option(help="Different tokens, at most; rarer ones are unknown.")] = None,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Read the text in lower case.")] = False,
    encoding: Annotated[str, typer.Option(help="Of the file.")] = "utf-8",
    seed: Annotated[int, typer.Option(help="Same seed, same models.")] = 0,
    out: Annotated[Path, typer.Option(help="New directory for models (netCDF) and figures.")] = Path("fit"),
) -> None:
    """Learn models of several sizes from a text file, and compare them on held-out text with n-gram models."""
    require_new(out)
    sizes = parse_states(states)
    from ppl_hmm.corpus.files import read_text
    from ppl_hmm.experiments.fits import command

    texts = read_text(corpus, cast("Unit", unit), encoding=encoding)
    options = {"method": method, "held_out": held_out, "restarts": restarts, "max_size": vocabulary, "seed": seed}
    with progress_bar("fit", "models") as report:
        tree = ppl_hmm.fit_corpus(
            texts, cast("Unit", unit), sizes, lowercase=lowercase, progress=report, **cast(Any, options)
        )
    tree.attrs["corpus"] = str(corpus)
    command.write(tree, out)
    console = Console()
    console.print(command.table(tree))
    best = out / f"model-{tree.attrs['best']}.nc"
    console.print(f"results: {out}; lowest perplexity: {best}, which audit and sample read", soft_wrap=True)


@app.command()
def audit(
    model: Annotated[Path | None, typer.Argument(help="A model file (netCDF).")] = None,
    task: Annotated[Path | None, typer.Option(help="A task file (netCDF). [default: a random task]")] = None,
    example: Annotated[str | None, typer.Option(help="In place of files: aliased, degenerate or memory.")] = None,
    position: asked.Position = None,
    given: asked.Given = "text",
    text: asked.Text = None,
    labels: asked.Labels = None,
    lm: asked.LanguageModel = None,
    features: asked.Features = None,
    sequences: Annotated[int, typer.Option(help="How many texts; all there are, if they are no more.")] = 5000,
    length: Annotated[int, typer.Option(help="Tokens of each text.")] = 80,
    prompt_tokens: asked.PromptTokens = 1,
    prompt_seconds: asked.PromptSeconds = 0.0,
    reader: asked.Reader = "masked",
    tolerance: Annotated[float, typer.Option(help="Largest residual that counts as solved.")] = 1e-9,
    seed: Annotated[int, typer.Option(help="Same seed, same audit.")] = 0,
    out: Annotated[Path | None, typer.Option(help="New directory for the audit (netCDF), report and figures.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print theorems and formulas, too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON alone.")] = False,
) -> None:
    """Say whether a head, a prompt or attention recovers a task: a verdict, why, how stable, and what to do.

    Without a model of the text: --features, or --text with --labels and --lm, ask what is learned of given labels.
    """
    if out is not None:
        require_new(out)
    from ppl_hmm.audits import command, labelled_command

    if any(each is not None for each in (features, labels, lm)):
        labelled_command.require_alone(model, task, example, position)
        tree = labelled_command.audited(features, text, labels, lm, reader, prompt_tokens, seed)
    else:
        require_one("ppl-hmm audit", "a model file or --example", model, example)
        command.require_one_task(task, example, position)
        options: dict[str, Any] = {"n_sequences": sequences, "length": length, "tolerance": tolerance, "reader": reader}
        options |= {"n_prompt_tokens": prompt_tokens, "prompt_seconds": prompt_seconds, "seed": seed}
        with waiting("reading texts"):
            tree = command.audited(model, task, example, (position, given), text, options)
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    typer.echo(command.printed(tree, out, as_json_alone=json, verbose=verbose, width=width))


@app.command()
def beliefs(
    model: Annotated[Path | None, typer.Argument(help="A model file (netCDF).")] = None,
    process: Annotated[str | None, typer.Option(help="A known process in place of a file: mess3, rrxor, …")] = None,
    depth: Annotated[int, typer.Option(help="Tokens of the longest text.")] = 10,
    out: Annotated[Path | None, typer.Option(help="New directory. [default: results/beliefs-<name>]")] = None,
) -> None:
    """Draw the beliefs that texts leave, and print how many there are and what is lost by a perfect prediction."""
    require_one("ppl-hmm beliefs", "a model file or --process", model, process)
    name = process if process is not None else cast(Path, model).stem
    out = Path("results") / f"beliefs-{name}" if out is None else out
    require_new(out)
    from ppl_hmm.experiments.look import beliefs as look
    from ppl_hmm.storage import files

    source = ppl_hmm.process(process) if process is not None else files.load_process(str(model))
    with waiting("following beliefs"):
        tree = look.belief_tree(source, depth)
    look.write(tree, out, name)
    typer.echo(f"{look.report(tree)}\n\nresults: {out}")


@app.command("warm-up")
def warm_up() -> None:
    """Compile the loops of exact inference now, so that no later call on this machine waits for a compiler."""
    from ppl_hmm.exact.backends import warming

    started = time.monotonic()
    with waiting("compiling"):
        warming.warm_up()
    typer.echo(f"compiled loops: ready after {time.monotonic() - started:.0f} s")


def _command() -> Callable[..., Any]:
    """Return the command line; the options of shell completion stand in no help but in its last line."""
    command = typer.main.get_command(app)
    for option in command.params:
        if isinstance(option, TyperOption) and option.name in ("install_completion", "show_completion"):
            option.hidden = True
    return command


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Exit status 2 and one line for bad usage or input, 1 and one line where the system refuses to read or write, 130 and
    one line when interrupted; 1 alone when nobody reads what is printed.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a closed one is None
            stream.reconfigure(errors="replace")  # not every terminal knows the letters of a report
    # Threads that wait for work sleep: those of torch would spin, on a busy machine for most of a command's time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        status = _command()(args=arguments, prog_name="ppl-hmm", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a failure can be told
    except PplHmmError as error:
        _fail(str(error), BAD_USAGE)
    except OSError as error:
        sys.stdout = None  # at exit Python would try again to write what waits there
        if isinstance(error, BrokenPipeError):
            sys.exit(FAILED)
        _fail(str(error), FAILED)
    except Exception as error:
        # Typer carries its own copy of click, whose usage errors have no public name but this method.
        if not hasattr(error, "format_message"):
            raise
        _fail(error.format_message(), BAD_USAGE)  # type: ignore[attr-defined]
    else:
        if status == INTERRUPTED:  # what Typer makes of Ctrl-C
            _fail("interrupted; an experiment goes on where it stopped when the same command is run again", INTERRUPTED)
        sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> None:
    typer.echo(f"ppl-hmm: {' '.join(message.split())}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
