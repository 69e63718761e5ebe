"""The options of the command ``audit`` and what their help says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Position = Annotated[
    int | None, typer.Option(help="State that a random task asks of: 0 emits the first token, -1 the last. [H_0]")
]
Given = Annotated[str, typer.Option(help="To a random task on a position: text, prefix or context.")]
Text = Annotated[
    Path | None,
    typer.Option(help="A file of texts, in place of sampled ones: integers, a line a text; or .npy, or .nc."),
]
Labels = Annotated[Path | None, typer.Option(help="A file with the class of each text, a line each; with --lm.")]
LanguageModel = Annotated[
    Path | None, typer.Option("--lm", help="A directory that lm.save(...) wrote; with --text and --labels.")
]
Features = Annotated[
    Path | None,
    typer.Option(help="An .npz file with arrays features (B,n) and labels (B,), perhaps prompted, tokens and groups."),
]
PromptTokens = Annotated[
    int, typer.Option(help="Tokens of the prompt that is learned where none is constructed; 0 learns none.")
]
PromptSeconds = Annotated[
    float, typer.Option(help="Seconds to look for a prompt for all texts, or for a proof that there is none.")
]
Reader = Annotated[
    str, typer.Option(help="What heads read: masked, conditionals at masks; causal, the law of the next token.")
]
NextTokens = Annotated[
    str | None, typer.Option(help="Of a fit: does a token of this class come next? Token numbers, e.g. 3,5.")
]
Word = Annotated[
    int | None, typer.Option(help="Of a fit: is H_0 the state of this token? [default: the most frequent one]")
]
