"""The commands that compute the paper's figures: exact, or with a trained language model beside the exact one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import ppl_hmm
from ppl_hmm._terminal import dask, parse_states, show_experiment
from ppl_hmm.errors import InvalidInput, one_of
from ppl_hmm.experiments.figure3.configurations import CONFIGURATIONS, Extent, Figure3Settings, HeadVsPrompt
from ppl_hmm.experiments.kernels.configuration import KernelView
from ppl_hmm.experiments.look.progress import progress_bar
from ppl_hmm.experiments.trained.configurations import HeadVsPromptTrained, LanguageModelKind
from ppl_hmm.experiments.trained.loss_vs_error.configuration import LossVsError

States = Annotated[str | None, typer.Option(help="Numbers of hidden states, e.g. 8,28. [default: the figure's]")]
Seeds = Annotated[int | None, typer.Option(help="Models at each size. [default: the figure's]")]
Workers = Annotated[int, typer.Option(help="Processes; the numbers do not depend on it.")]
Out = Annotated[Path, typer.Option(help="Directory of results and figure.")]
Scheduler = Annotated[str | None, typer.Option(help="Address of a Dask scheduler, in place of local processes.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="The same code on little text, in seconds.")]
LanguageModel = Annotated[
    str | None, typer.Option("--lm", help="Train one beside the exact one: gru, or transformer. [default: exact alone]")
]
Objective = Annotated[str | None, typer.Option(help="Of --lm: tokens, exact or quad. [default: tokens]")]
Budget = Annotated[int | None, typer.Option(help="Of --lm: steps of training, each model. [default: the figure's]")]
Device = Annotated[str | None, typer.Option(help="Of --lm: cpu, or cuda for a larger figure. [default: cpu]")]

reproduce = typer.Typer(help="Compute what a paper shows, exactly or with trained language models.")


@reproduce.callback(invoke_without_command=True)
def help_without_command(context: typer.Context) -> None:
    """Print the help where no command is named."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@reproduce.command(HeadVsPrompt.experiment, help=HeadVsPrompt.title)
def head_vs_prompt(
    states: States = None,
    seeds: Seeds = None,
    workers: Workers = 2,
    out: Annotated[Path | None, typer.Option(help="Directory of results and figure. [default: results/…]")] = None,
    scheduler: Scheduler = None,
    smoke: Smoke = False,
    lm: LanguageModel = None,
    objective: Objective = None,
    budget: Budget = None,
    device: Device = None,
) -> None:
    """Compute Figure 3 (left)."""
    given = {"objective": objective, "budget": budget, "device": device}
    trained: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    configuration: type[Figure3Settings] = HeadVsPrompt
    extent = HeadVsPrompt.smoke if smoke else HeadVsPrompt.figure
    if lm is not None:
        one_of("--lm", lm, list(LanguageModelKind))
        configuration, kind = HeadVsPromptTrained, LanguageModelKind(lm)
        extent = kind.smoke if smoke else kind.figure(device or "cpu")
        trained["language_model"] = lm
    elif trained:
        expected, remedy = "--objective, --budget and --device with --lm", "add --lm gru, or leave them out"
        raise InvalidInput("ppl-hmm reproduce", expected, ", ".join(trained), remedy)
    _compute(configuration, extent, states, seeds, workers, out, scheduler, trained)


def _add(configuration: type[Figure3Settings | KernelView | LossVsError]) -> None:
    """Add the command of an experiment without options of its own."""

    @reproduce.command(configuration.experiment, help=configuration.title)
    def command(
        states: States = None,
        seeds: Seeds = None,
        workers: Workers = 2,
        out: Out = Path("results") / configuration.experiment,
        scheduler: Scheduler = None,
        smoke: Smoke = False,
    ) -> None:
        extent = configuration.smoke if smoke else configuration.figure
        _compute(configuration, extent, states, seeds, workers, out, scheduler, {})


for _configuration in (*CONFIGURATIONS.values(), KernelView, LossVsError):
    if _configuration is not HeadVsPrompt:
        _add(_configuration)


def _compute(
    configuration: type[Figure3Settings | KernelView | LossVsError],
    extent: Extent,
    states: str | None,
    seeds: int | None,
    workers: int,
    out: Path | None,
    scheduler: str | None,
    options: dict[str, Any],
) -> None:
    """Compute an experiment, or continue it, and show it."""
    name = configuration.experiment
    out = Path("results") / name if out is None else out
    sizes: Sequence[int] = parse_states(states) if states is not None else extent.states
    n_seeds = seeds if seeds is not None else extent.n_seeds
    compute = getattr(ppl_hmm, name.replace("-", "_"))
    with dask(scheduler) as executor, progress_bar(name) as report:
        sizes_of_text = {**extent.sizes, **options}
        tree = compute(sizes, n_seeds, out, workers=workers, executor=executor, progress=report, **sizes_of_text)
    show_experiment(name, tree, out)
