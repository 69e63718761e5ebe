"""What result trees hold: the variables of each group, and their dimensions."""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr

from ppl_hmm import schema
from ppl_hmm.errors import InvalidInput

Dimensions = tuple[str, ...]
Variables = dict[str, tuple[Dimensions, ...]]  # the dimensions that a variable may have

_TEXT: Dimensions = (schema.SEQUENCE, schema.POSITION)
_OF_TEXT: Dimensions = (schema.SEQUENCE,)
_OF_QUESTION: Dimensions = (schema.QUESTION,)
_OF_DRAW: Dimensions = (schema.CHAIN, schema.DRAW)
_OF_MATRIX: Dimensions = (schema.MATRIX,)
_OF_LENGTH: Dimensions = (schema.LENGTH,)
_OF_CELLS: Dimensions = (schema.APPROACH, schema.N_STATES, schema.SEED)
_CONDITIONALS: Dimensions = (schema.SEQUENCE, schema.TOKEN)
_LAWS: Dimensions = (schema.PREFIX, schema.STATE)


def _probed(each: str) -> Variables:
    """Return what a probe says of each layer, or of each control."""
    scores = (schema.R2, schema.MSE, schema.SHUFFLED_R2, schema.IN_SAMPLE_R2, schema.IN_SAMPLE_SHUFFLED_R2)
    of_fold = (schema.FOLD_R2, schema.FOLD_MSE, schema.PENALTY)
    return {
        **dict.fromkeys((*scores, schema.N_FEATURES), ((each,),)),
        **dict.fromkeys(of_fold, ((each, schema.FOLD),)),
        schema.PREDICTIONS: ((each, *_LAWS),),
    }


_RECOVERABILITY: Variables = dict.fromkeys(
    (
        "verdict",
        "theorem",
        "reasons",
        "residual",
        "margin_error",
        "sigma_min",
        "agreeing",
        "decidable",
        "undecidable",
        "separation_margin",
        "learned_accuracy",
    ),
    (_OF_QUESTION,),
)

#: Groups that all trees of a kind have. Groups and variables beyond these are allowed.
LAYOUTS: dict[str, dict[str, Variables]] = {
    "audit": {
        schema.MODEL: {
            "initial": ((schema.STATE,),),
            "transition": ((schema.STATE, schema.STATE_NEXT),),
            "emission": ((schema.STATE, schema.TOKEN), (schema.MEMORY_VALUE, schema.STATE, schema.TOKEN)),
        },
        schema.TASK: {"weights": ((schema.CLASS, schema.STATE), (schema.CLASS, schema.MEMORY_VALUE))},
        schema.OBSERVED_DATA: {"tokens": (_TEXT,)},
        schema.EXACT_POSTERIOR: {"label": (_OF_TEXT,), "margin": (_OF_TEXT,), "decidable": (_OF_TEXT,)},
        schema.FEATURES: {"conditionals": (_CONDITIONALS,)},
        schema.RECOVERABILITY: _RECOVERABILITY,
        f"{schema.DIAGNOSTICS}/conditioning": {
            "singular_values": ((schema.MATRIX, schema.SINGULAR_VALUE),),
            "sigma_min": (_OF_MATRIX,),
            "condition_number": (_OF_MATRIX,),
            "effective_rank": ((schema.MATRIX, schema.RANK_TOLERANCE),),
        },
        f"{schema.DIAGNOSTICS}/margins": {
            "margin": ((schema.QUANTILE,),),
            "class_share": ((schema.CLASS,),),
            "undecidable": ((),),
        },
        f"{schema.DIAGNOSTICS}/information": {"information": (_OF_LENGTH,), "bayes_accuracy": (_OF_LENGTH,)},
        f"{schema.DIAGNOSTICS}/forgetting": {"truncation_distance": (_OF_LENGTH,), "same_label": (_OF_LENGTH,)},
    },
    "audit of a fit": {
        schema.RECOVERABILITY_POSTERIOR: {
            **dict.fromkeys((schema.ANSWERED, schema.SIGMA_MIN), (_OF_DRAW,)),
            **dict.fromkeys((schema.HALF_RANGE, schema.VERDICT), ((*_OF_DRAW, schema.QUESTION),)),
            schema.PROBABILITY: ((schema.QUESTION, schema.BUDGET),),
        },
    },
    schema.AUDIT_OF_LABELS: {
        schema.OBSERVED_DATA: {"label": (_OF_TEXT,), schema.HELD_OUT: (_OF_TEXT,)},
        schema.FEATURES: {"features": ((schema.SEQUENCE, schema.FEATURE),)},
        schema.RECOVERABILITY: _RECOVERABILITY,
        f"{schema.DIAGNOSTICS}/{schema.LEARNED}": dict.fromkeys(
            (schema.ACCURACY, schema.CONTROL_ACCURACY, schema.SELECTIVITY), ((schema.APPROACH,),)
        ),
        f"{schema.DIAGNOSTICS}/{schema.LEARNING_CURVE}": {
            schema.ACCURACY: ((schema.APPROACH, schema.N_TEXTS, schema.DRAW),),
            schema.TEXTS_NEEDED: ((schema.APPROACH, schema.TARGET),),
        },
    },
    "experiment": {
        schema.RESULTS: {
            schema.ACCURACY: (_OF_CELLS,),
            schema.SEPARABLE: (_OF_CELLS,),
            schema.CONDITION: (_OF_CELLS,),
            schema.UNDECIDABLE: (_OF_CELLS[1:],),
        },
    },
    "probe": {
        schema.LAYERS: _probed(schema.LAYER),
        schema.CONTROLS: _probed(schema.CONTROL) | {schema.REACH: ((schema.CONTROL,),)},
        schema.PREFIXES: {
            schema.BELIEFS: (_LAWS,),
            **dict.fromkeys((schema.SEQUENCE, schema.LENGTH, schema.WEIGHT, schema.FOLD), ((schema.PREFIX,),)),
        },
    },
    "fit": {
        schema.MODEL: {"initial": ((schema.STATE,),), "emission": ((schema.STATE, schema.TOKEN),)},
        schema.VOCABULARY: {"unit": ((),)},
        schema.HELD_OUT: {
            schema.PERPLEXITY: ((schema.N_STATES,),),
            f"baseline_{schema.PERPLEXITY}": ((schema.BASELINE,),),
        },
        schema.RESTARTS: {"log_likelihood": ((schema.N_STATES, schema.RESTART),)},
        f"{schema.PREDICTIVE_CHECKS}/{schema.CHECKS}": {"p_value": ((schema.CHECK,),)},
    },
    "checks": {
        schema.OBSERVED_DATA: {schema.TOKEN_FREQUENCY: ((schema.TOKEN,),), schema.MUTUAL_INFORMATION: ((schema.LAG,),)},
        schema.POSTERIOR_PREDICTIVE: {schema.TOKEN_FREQUENCY: ((schema.CHAIN, schema.DRAW, schema.TOKEN),)},
        schema.CHECKS: {"p_value": ((schema.CHECK,),)},
    },
    "own experiment": {schema.RESULTS: {}, schema.TIMINGS: {}},  # any columns
    "sample": {
        schema.MODEL: {"initial": ((schema.STATE,),)},
        schema.OBSERVED_DATA: {"tokens": (_TEXT,)},
        schema.LATENT: {"states": (_TEXT,), "initial_state": (_OF_TEXT,)},
    },
}

#: Variables that trees of version 0.1 lack, by group; where they are there, their dimensions are checked, too.
LATER: dict[str, Variables] = {
    schema.RECOVERABILITY: dict.fromkeys(
        (schema.CAUSE, schema.N_MASKS, schema.HALF_RANGE, schema.RADIUS, schema.MEDIAN_RADIUS, schema.CONDITION_RADIUS),
        (_OF_QUESTION,),
    )
}

#: Former names of dimensions: ``sel`` takes ``method=`` and ``tolerance=`` for options of its own, in silence.
_FORMER = {"method": schema.APPROACH, "tolerance": schema.RANK_TOLERANCE}


def with_current_names(tree: xr.DataTree) -> xr.DataTree:
    """Return a tree whose dimensions have their current names, whichever release wrote it."""
    former = [node for node in tree.subtree if _FORMER.keys() & node.to_dataset(inherit=False).sizes.keys()]
    if not former:
        return tree
    renamed = tree.copy()
    for node in former:
        path = node.relative_to(tree)
        renamed[path].dataset = rename_former(node.to_dataset(inherit=False))
    return renamed


def rename_former(dataset: xr.Dataset) -> xr.Dataset:
    """Return a dataset whose dimensions have their current names."""
    return dataset.rename({old: new for old, new in _FORMER.items() if old in dataset.sizes})


def validate(tree: xr.DataTree) -> None:
    """Check that a tree has the groups, variables and dimensions of its kind.

    Parameters
    ----------
    tree
        That of an audit, of a model or of a fit, an experiment, a probe, a sample, a fit of a corpus, or of the checks
        of a fitted model.

    Of an experiment of one's own the columns are free.

    Raises
    ------
    InvalidInput
        The first thing that is wrong: the group, its variable, or the dimensions of that.

    See Also
    --------
    open_audit, open_results : Read such trees.

    Examples
    --------
    >>> from ppl_hmm import audit, example, validate
    >>> tree = audit(*example("aliased"), length=3, seed=0)
    >>> validate(tree)
    >>> del tree["recoverability"]["verdict"]
    >>> validate(tree)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ppl_hmm.errors.InvalidInput: group '/recoverability': expected a variable 'verdict', got ...
    """
    kind = kind_of(tree)
    # Relative paths: the tree may be a branch of a larger one.
    nodes = {f"/{node.relative_to(tree)}": node for node in tree.descendants}
    for group, variables in LAYOUTS[kind].items():
        if f"/{group}" not in nodes:
            raise InvalidInput(
                f"group '/{group}'",
                "a group of that name",
                ", ".join(nodes) or "none",
                "write the tree with this package",
            )
        dataset = nodes[f"/{group}"].to_dataset()
        for name, allowed in variables.items():
            _check(dataset, group, name, allowed)
        for name, allowed in LATER.get(group, {}).items():
            if name in dataset:
                _check(dataset, group, name, allowed)


def kind_of(tree: xr.DataTree) -> str:
    """Return what a tree says it is, or what its groups say: a name of :data:`LAYOUTS`."""
    if not isinstance(tree, xr.DataTree):
        remedy = "pass what audit, an experiment or a sample returned"
        raise InvalidInput("result tree", "an xarray DataTree", type(tree).__name__, remedy)
    for kind in _kinds(tree):
        return kind
    raise InvalidInput(
        "result tree",
        f"a group /{schema.RECOVERABILITY}, /{schema.RESULTS}, /{schema.LATENT} or /{schema.PREFIXES}",
        ", ".join(f"/{name}" for name in tree.children) or "none",
        "pass what audit, an experiment, a probe or a sample wrote",
    )


def _kinds(tree: xr.DataTree) -> Iterator[str]:
    telling = {
        "audit of a fit": schema.RECOVERABILITY_POSTERIOR,
        "audit": schema.RECOVERABILITY,
        "experiment": schema.RESULTS,
        "sample": schema.LATENT,
        "probe": schema.PREFIXES,
        "fit": schema.HELD_OUT,
        "checks": schema.CHECKS,
    }
    yield from (kind for kind in (*telling, schema.AUDIT_OF_LABELS) if tree.attrs.get("kind") == kind)
    if {schema.RESULTS, schema.SETTINGS} <= tree.children.keys() and (
        tree[schema.SETTINGS].attrs.get("experiment") not in (schema.HEAD_VS_PROMPT, schema.MEMORY_VS_VANILLA, None)
    ):
        yield "own experiment"
    if schema.DIAGNOSTICS in tree.children and schema.LEARNED in tree[schema.DIAGNOSTICS].children:
        yield schema.AUDIT_OF_LABELS
    yield from (kind for kind, group in telling.items() if group in tree.children)


def _check(dataset: xr.Dataset, group: str, name: str, allowed: tuple[Dimensions, ...]) -> None:
    if name not in dataset:
        raise InvalidInput(
            f"group '/{group}'",
            f"a variable {name!r}",
            ", ".join(map(str, dataset.variables)) or "none",
            "add or rename the variable",
        )
    found = tuple(map(str, dataset[name].dims))
    if found not in allowed:
        raise InvalidInput(
            f"variable {name!r} of group '/{group}'",
            f"dimensions {' or '.join(map(str, allowed))}",
            str(found),
            "rename or transpose the dimensions",
        )
