"""``ppl-hmm audit``: of a model and a task, or of a fit and a question."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

import ppl_hmm
from ppl_hmm._terminal import parse_numbers, require_new, require_one, waiting
from ppl_hmm.errors import InvalidInput

# What takes time to load is imported when the command runs: help must not wait for torch.
if TYPE_CHECKING:
    from ppl_hmm.base.positions import Given

_WIDEST = 100  # columns of a report


def audit(
    model: Annotated[
        Path | None, typer.Argument(help="A model file (netCDF), or the tree of fit_bayes (netCDF or Zarr).")
    ] = None,
    task: Annotated[Path | None, typer.Option(help="A task file (netCDF). [default: a random task]")] = None,
    example: Annotated[str | None, typer.Option(help="In place of files: aliased, degenerate or memory.")] = None,
    position: Annotated[
        int | None, typer.Option(help="State that a random task asks of: 0 emits the first token, -1 the last. [H_0]")
    ] = None,
    given: Annotated[str, typer.Option(help="To a random task on a position: text, prefix or context.")] = "text",
    text: Annotated[
        Path | None,
        typer.Option(help="A file of texts, in place of sampled ones: integers, a line a text; or .npy, or .nc."),
    ] = None,
    sequences: Annotated[int, typer.Option(help="How many texts; all there are, if they are no more.")] = 5000,
    length: Annotated[int, typer.Option(help="Tokens of each text.")] = 80,
    prompt_tokens: Annotated[
        int, typer.Option(help="Tokens of the prompt that is learned where none is constructed; 0 learns none.")
    ] = 1,
    prompt_seconds: Annotated[
        float, typer.Option(help="Seconds to look for a prompt for all texts, or for a proof that there is none.")
    ] = 0.0,
    reader: Annotated[
        str, typer.Option(help="What heads read: masked, conditionals at masks; causal, the law of the next token.")
    ] = "masked",
    tolerance: Annotated[float, typer.Option(help="Largest residual that counts as solved.")] = 1e-9,
    seed: Annotated[int, typer.Option(help="Same seed, same audit.")] = 0,
    next_tokens: Annotated[
        str | None, typer.Option(help="Of a fit: does a token of this class come next? Token numbers, e.g. 3,5.")
    ] = None,
    word: Annotated[
        int | None, typer.Option(help="Of a fit: is H_0 the state of this token? [default: the most frequent one]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="New directory for the audit (netCDF), report and figures.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print theorems and formulas, too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON alone.")] = False,
) -> None:
    """Say whether a head, a prompt or attention recovers a task: a verdict, why, how stable, and what to do."""
    require_one("ppl-hmm audit", "a model file or --example", model, example)
    if example is not None and task is not None:
        raise InvalidInput("ppl-hmm audit", "--task or --example", "both", "an example brings its task")
    if out is not None:
        require_new(out)
    if position is not None and (example is not None or task is not None):
        raise InvalidInput("ppl-hmm audit", "--position for a random task", "a given task", "leave it out")
    from ppl_hmm.audits import command
    from ppl_hmm.base.positions import Place
    from ppl_hmm.storage.texts import load_texts

    place = Place(position, cast("Given", given))
    fit = None if model is None else command.read_fit(model)
    tokens_of_class = None if next_tokens is None else parse_numbers("--next-tokens", next_tokens)
    if fit is not None:
        source, question = fit, command.question_of_fit(fit, tokens_of_class, word, task)
    elif next_tokens is not None or word is not None:
        raise InvalidInput("ppl-hmm audit", "--next-tokens or --word for a fit", "a model", "leave them out")
    else:
        source, question = command.model_and_task(model, task, example, place, length, seed)
    options: dict[str, Any] = {"n_sequences": sequences, "length": length, "tolerance": tolerance, "reader": reader}
    options |= {"n_prompt_tokens": prompt_tokens, "prompt_seconds": prompt_seconds}
    with waiting("reading texts"):
        tree = ppl_hmm.audit(source, question, None if text is None else load_texts(text), seed=seed, **options)
    if example is None and task is None and fit is None:
        tree.attrs["task"] = f"random, seed {seed}"
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    typer.echo(command.printed(tree, out, as_json_alone=json, verbose=verbose, width=width))
