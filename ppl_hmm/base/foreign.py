"""Objects of the wrong kind: what they are called, and the conversion to use."""

from __future__ import annotations

from typing import Literal

from ppl_hmm.errors import InvalidInput

Wanted = Literal["model", "start", "language model", "causal language model", "task", "array"]

_LOAD = "load the file first: load(path)"
_INSTANCE = "pass an instance, not the class"
#: What gives texts of a Hugging Face model their ids.
IDS = 'tokenizer(texts, add_special_tokens=False)["input_ids"]'

# What helps, by library and class, for objects that users pass where a model is wanted ...
_MODELS: dict[tuple[str, str], str] = {
    ("hmmlearn", "CategoricalHMM"): "convert it: HMM.from_hmmlearn(model)",
    ("hmmlearn", "BaseHMM"): "only models of tokens are supported: hmmlearn's CategoricalHMM, by HMM.from_hmmlearn",
    ("pyro", "DiscreteHMM"): "convert it: HMM.from_discrete_hmm(distribution)",
    ("ppl_hmm", "CategoricalHMM"): "convert it: distribution.to_hmm()",
    ("ppl_hmm", "MealyHMM"): "pass the hidden Markov model of the same text: process.hmm",
    ("xarray", "Dataset"): "convert it: HMM.from_dataset(dataset)",
    ("xarray", "DataTree"): "convert its group: HMM.from_dataset(tree['model'].to_dataset())",
    ("ppl_hmm", "OracleLM"): "pass the model of the language model: lm.model",
    ("ppl_hmm", "CausalOracleLM"): "pass the model of the language model: lm.model",
    ("builtins", "str"): _LOAD,
    ("pathlib", "PurePath"): _LOAD,
    ("builtins", "type"): _INSTANCE,
}

# ... and by what is wanted; a start is a model among the options of a fit.
_REMEDIES: dict[Wanted, dict[tuple[str, str], str]] = {
    "start": {**_MODELS, ("builtins", "list"): "many models are one batch: HMM.stack(models)"},
    "model": {
        **_MODELS,
        ("ppl_hmm", "Task"): "pass the model first, then the task",
        ("builtins", "tuple"): "unpack pairs first: model, task = example(...)",
        ("builtins", "list"): "pass the model first, then the text; many models are one batch: HMM.stack(models)",
        ("numpy", "ndarray"): "pass the model first, then the text",
        ("torch", "Tensor"): "pass the model first, then the text",
        ("pandas", "DataFrame"): "pass the model first, then the text",
    },
    "language model": {
        ("ppl_hmm", "HMM"): "wrap the model: OracleLM(model)",
        ("ppl_hmm", "MemoryHMM"): "wrap the model: OracleLM(model)",
        ("ppl_hmm", "CausalOracleLM"): "take the masked language model of its model: OracleLM(lm.model)",
        ("ppl_hmm", "MealyHMM"): "wrap the hidden Markov model of the same text: OracleLM(process.hmm)",
        ("hmmlearn", "CategoricalHMM"): "convert and wrap it: OracleLM(HMM.from_hmmlearn(model))",
        ("ppl_hmm", "CategoricalHMM"): "convert and wrap it: OracleLM(distribution.to_hmm())",
        ("pyro", "DiscreteHMM"): "convert and wrap it: OracleLM(HMM.from_discrete_hmm(distribution))",
        ("xarray", "Dataset"): "convert and wrap it: OracleLM(HMM.from_dataset(dataset))",
        ("transformers", "PreTrainedModel"): "wrap it: from_masked_lm(model, tokenizer)",
        ("builtins", "str"): "load and wrap it: OracleLM(load(path))",
        ("pathlib", "PurePath"): "load and wrap it: OracleLM(load(path))",
        ("builtins", "type"): _INSTANCE,
        ("builtins", "list"): "pass the language model first, then the text",
        ("numpy", "ndarray"): "pass the language model first, then the text",
        ("torch", "Tensor"): "pass the language model first, then the text",
        ("pandas", "DataFrame"): "pass the language model first, then the text",
    },
    "task": {
        ("ppl_hmm", "HMM"): "pass the model first, then the task",
        ("ppl_hmm", "MemoryHMM"): "pass the model first, then the task",
        ("xarray", "Dataset"): "convert it: PosteriorTask.from_dataset(dataset)",
        ("builtins", "str"): _LOAD,
        ("pathlib", "PurePath"): _LOAD,
        ("builtins", "type"): _INSTANCE,
        ("builtins", "tuple"): "unpack pairs first: model, task = example(...)",
        ("builtins", "list"): "make a task of the weights: PosteriorTask(weights)",
        ("numpy", "ndarray"): "make a task of the weights: PosteriorTask(weights)",
        ("torch", "Tensor"): "make a task of the weights: PosteriorTask(weights)",
    },
    "array": {
        ("xarray", "Dataset"): "pass one of its variables, e.g. dataset['tokens']",
        ("xarray", "DataTree"): "pass one of its variables, e.g. tree['observed_data/tokens']",
        ("ppl_hmm", "Sample"): "pass its text: sample(...).tokens",
        ("ppl_hmm", "Posterior"): "pass one of its arrays, e.g. posterior.initial",
        ("ppl_hmm", "Record"): "pass the model first, then the text",
        ("ppl_hmm", "OracleLM"): "pass the language model first, then the text",
        ("ppl_hmm", "CausalOracleLM"): "pass the language model first, then the text",
        ("hmmlearn", "BaseHMM"): "pass the model first, then the text",
        ("pyro", "Distribution"): "pass the model first, then the text",
        ("transformers", "BatchEncoding"): f"pass its ids: {IDS}",
        ("builtins", "NoneType"): "pass the values",
        ("builtins", "str"): "pass numbers, not a path or a sentence",
        ("pathlib", "PurePath"): "read the file first",
        ("builtins", "dict"): "pass a list of its values, in order",
        ("builtins", "set"): "pass a list: a set has no order",
        ("builtins", "generator"): "pass a list of it",
        ("scipy", "spmatrix"): "make it dense: .toarray()",
        ("scipy", "sparray"): "make it dense: .toarray()",
        ("torch", "PackedSequence"): "unpack it: torch.nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)",
    },
}

_REMEDIES["causal language model"] = {
    kind: text.replace("OracleLM(", "CausalOracleLM(") for kind, text in _REMEDIES["language model"].items()
} | {
    ("ppl_hmm", "OracleLM"): "take the causal language model of its model: CausalOracleLM(lm.model)",
    ("transformers", "PreTrainedModel"): "wrap it: from_causal_lm(model, tokenizer)",
}


def described(value: object) -> str:
    """Return the name of what was passed, with its library if that is another."""
    if value is None:
        return "None"
    kind = value if isinstance(value, type) else type(value)
    library = _library(kind)
    name = f"the class {kind.__name__}" if isinstance(value, type) else kind.__name__
    return name if library in ("builtins", "ppl_hmm") else f"{library}'s {name}"


def remedy(value: object, wanted: Wanted, otherwise: str) -> str:
    """Return the conversion for ``value`` where something else is wanted; ``otherwise`` for what nobody foresaw."""
    for kind in type(value).__mro__:
        # Modules of pathlib are called pathlib._local and the like; scipy's bases have private names.
        found = _REMEDIES[wanted].get((_library(kind), kind.__name__.lstrip("_")))
        if found:
            return found
    return otherwise


def require(value: object, kinds: type | tuple[type, ...], what: str, expected: str, wanted: Wanted = "model") -> None:
    """Raise :class:`InvalidInput`, naming the conversion to use, unless ``value`` is of one of the kinds."""
    if not isinstance(value, kinds):
        raise InvalidInput(what, expected, described(value), remedy(value, wanted, f"pass {expected}"))


def _library(kind: type) -> str:
    return kind.__module__.partition(".")[0]
