"""``ppl-hmm audit``: of a model and a task, of a fit and a question, or of texts and labels alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

import ppl_hmm
from ppl_hmm import _audit_options as asked
from ppl_hmm._terminal import parse_numbers, require_new, require_one, waiting
from ppl_hmm.errors import InvalidInput

# What takes time to load is imported when the command runs: help must not wait for torch.
if TYPE_CHECKING:
    import xarray as xr

    from ppl_hmm.base.positions import Given

_WIDEST = 100  # columns of a report


def audit(
    model: Annotated[
        Path | None, typer.Argument(help="A model file (netCDF), or the tree of fit_bayes (netCDF or Zarr).")
    ] = None,
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
    next_tokens: asked.NextTokens = None,
    word: asked.Word = None,
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
        labelled_command.require_alone(model, task, example, position, next_tokens, word)
        with waiting("learning heads"):
            tree = labelled_command.audited(features, text, labels, lm, reader, prompt_tokens, seed)
    else:
        require_one("ppl-hmm audit", "a model file or --example", model, example)
        options: dict[str, Any] = {"n_sequences": sequences, "length": length, "tolerance": tolerance}
        options |= {"reader": reader, "n_prompt_tokens": prompt_tokens, "prompt_seconds": prompt_seconds, "seed": seed}
        fit = None if model is None else command.read_fit(model)
        if fit is not None:
            numbers = None if next_tokens is None else parse_numbers("--next-tokens", next_tokens)
            tree = _audited(fit, command.question_of_fit(fit, numbers, word, task), text, options)
        else:
            if next_tokens is not None or word is not None:
                raise InvalidInput("ppl-hmm audit", "--next-tokens or --word for a fit", "a model", "leave them out")
            tree = _of_model(model, task, example, (position, given), text, options)
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    typer.echo(command.printed(tree, out, as_json_alone=json, verbose=verbose, width=width))


def _of_model(
    model: Path | None,
    task: Path | None,
    example: str | None,
    place: tuple[int | None, str],
    text: Path | None,
    options: dict[str, Any],
) -> xr.DataTree:
    """Return the audit of a model and a task from files, or of an example."""
    from ppl_hmm.audits import command
    from ppl_hmm.base.positions import Place

    if example is not None and task is not None:
        raise InvalidInput("ppl-hmm audit", "--task or --example", "both", "an example brings its task")
    if place[0] is not None and (example is not None or task is not None):
        raise InvalidInput("ppl-hmm audit", "--position for a random task", "a given task", "leave it out")
    chosen = Place(place[0], cast("Given", place[1]))
    source, question = command.model_and_task(model, task, example, chosen, options["length"], options["seed"])
    tree = _audited(source, question, text, options)
    if example is None and task is None:
        tree.attrs["task"] = f"random, seed {options['seed']}"
    return tree


def _audited(source: Any, question: Any, text: Path | None, options: dict[str, Any]) -> xr.DataTree:
    """Return the audit of a model or a fit, on texts of a file or of its own."""
    from ppl_hmm.storage.texts import load_texts

    with waiting("reading texts"):
        return ppl_hmm.audit(source, question, None if text is None else load_texts(text), **options)
