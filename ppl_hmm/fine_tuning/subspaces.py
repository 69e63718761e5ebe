"""Which parameters are tuned: some of them, or a low-dimensional subspace through where they are.

A subspace maps coordinates z to parameters θ(z), with θ(z₀) those of the network. Kernels and fine-tuning see z alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeGuard

import torch
from torch import Tensor, nn

from ppl_hmm.base.randomness import CPU, Seed, generator
from ppl_hmm.errors import InvalidInput, at_least, one_of

Tensors = dict[str, Tensor]
Chosen = Literal["all", "no-embeddings", "biases"]


@dataclasses.dataclass(frozen=True)
class LowRank:
    """Updates B·A of rank r of each matrix, as in LoRA: A (r,in) is fixed and B (out,r) is tuned from 0.

    Entries of A are normal of variance 1/r, so that the kernel is right on average. In LoRA A is tuned, too, but its
    gradient is zero where B is: at the start, where the kernel is taken, that of B is all. The gates of a recurrent
    layer, and the query, key and value of ``nn.MultiheadAttention``, are matrices of their own, each with its own A,
    though torch stores them stacked in one parameter. Tables of embeddings are left as they are unless ``embeddings``.
    What ``full`` names, modules or parameters, is tuned in full, as LoRA is used with a head.
    Source: Hu et al. (2022), LoRA, §4.1.

    Examples
    --------
    >>> from torch import nn
    >>> coordinates = LowRank(2, seed=0, full=["1"]).of(nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 1)))
    >>> {name: tuple(part.shape) for name, part in coordinates.start.items()}
    {'0.weight': (3, 2), '1.weight': (1, 3), '1.bias': (1,)}
    """

    rank: int
    seed: Seed = 0
    embeddings: bool = False
    full: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not _are_names(self.full):
            remedy = f"pass [{self.full!r}]" if isinstance(self.full, str) else "pass a list of them"
            raise InvalidInput("full", "names of modules or parameters", repr(self.full), remedy)
        object.__setattr__(self, "full", tuple(self.full))  # can be hashed

    def of(self, network: nn.Module) -> Subspace:
        """Return the subspace of a network's matrices, and of what is tuned in full."""
        rank, full = at_least("rank", self.rank, 1), _named(network, self.full)
        left_out = set() if self.embeddings else _embeddings(network)
        tuned = {
            name: parameter
            for name, parameter in network.named_parameters()
            if name in full or (parameter.ndim == 2 and name not in left_out)
        }
        theta, stream = _detached(tuned, "parameters of rank r"), generator(self.seed, "low rank")
        n_stacked = _stacked(network)
        inward = {
            name: _normal((n_stacked.get(name, 1), rank, matrix.shape[1]), rank, stream, matrix)
            for name, matrix in theta.items()
            if name not in full
        }

        def parameters(z: Tensors) -> Tensors:
            return z | {name: theta[name] + _update(z[name], matrix) for name, matrix in inward.items()}

        start = {name: part.new_zeros(len(part), rank) if name in inward else part for name, part in theta.items()}
        return Subspace(start, parameters, _size(theta))


@dataclasses.dataclass(frozen=True)
class RandomProjection:
    """Updates R·z of all parameters together, z of D dimensions; entries of R (P,D) are normal of variance 1/D.

    Source: Johnson & Lindenstrauss (1984). The kernel is right on average, with ‖K′ − K‖² of mean
    ((tr K)² + ‖K‖²)/D in the Frobenius norm.

    Examples
    --------
    >>> from torch import nn
    >>> coordinates = RandomProjection(4, seed=0).of(nn.Linear(5, 3))
    >>> {name: tuple(part.shape) for name, part in coordinates.start.items()}
    {'projection': (4,)}
    """

    n_dimensions: int
    seed: Seed = 0

    def of(self, network: nn.Module) -> Subspace:
        """Return the subspace of a network's parameters. Cost O(P·D) memory."""
        n_dimensions = at_least("n_dimensions", self.n_dimensions, 1)
        theta = _detached(dict(network.named_parameters()), "parameters to project")
        stream = generator(self.seed, "random projection")
        try:
            outward = {
                name: _normal((*part.shape, n_dimensions), n_dimensions, stream, part) for name, part in theta.items()
            }
        except RuntimeError:  # out of memory
            expected = f"room for P·D = {_size(theta)}·{n_dimensions} entries"
            raise InvalidInput("n_dimensions", expected, "too little memory", "choose fewer") from None

        def parameters(z: Tensors) -> Tensors:
            return {name: part + outward[name] @ z["projection"] for name, part in theta.items()}

        first = next(iter(theta.values()))
        return Subspace({"projection": first.new_zeros(n_dimensions)}, parameters, _size(theta))


@dataclasses.dataclass(frozen=True)
class Subspace:
    """Coordinates z of tuned parameters."""

    start: Tensors  # z₀
    parameters: Callable[[Tensors], Tensors]  # θ(z), of those that change
    n_parameters: int  # P, the number of entries of θ

    @property
    def n_coordinates(self) -> int:
        """The number D of entries of z."""
        return _size(self.start)


Parameters = Chosen | Sequence[str] | LowRank | RandomProjection


def subspace(network: nn.Module, parameters: Parameters) -> Subspace:
    """Return the coordinates of chosen parameters of a network.

    Raises
    ------
    InvalidInput
        An unknown choice, a name that the network does not have (with those it has), no parameters, some that require
        no gradient, or half precision.
    """
    if isinstance(parameters, (LowRank, RandomProjection)):
        return parameters.of(network)
    return coordinates({name: dict(network.named_parameters())[name] for name in _names(network, parameters)})


def coordinates(parameters: Mapping[str, Tensor]) -> Subspace:
    """Return the subspace of parameters themselves."""
    theta = _detached(parameters, "parameters")
    return Subspace(theta, lambda z: z, _size(theta))


def _names(network: nn.Module, parameters: Chosen | Sequence[str]) -> list[str]:
    names, embeddings = [name for name, _ in network.named_parameters()], _embeddings(network)
    if isinstance(parameters, str):
        one_of("choice of parameters", parameters, ("all", "no-embeddings", "biases"))
        return {
            "all": names,
            "no-embeddings": [name for name in names if name not in embeddings],
            "biases": [name for name in names if "bias" in name.rpartition(".")[2]],
        }[parameters]
    if not _are_names(parameters):
        expected = "'all', 'no-embeddings', 'biases', names, LowRank or RandomProjection"
        raise InvalidInput("parameters", expected, repr(parameters), "choose one")
    return _named(network, parameters)


def _are_names(given: object) -> TypeGuard[Sequence[str]]:
    return isinstance(given, Sequence) and not isinstance(given, str) and all(isinstance(each, str) for each in given)


def _named(network: nn.Module, wanted: Sequence[str]) -> list[str]:
    """Return the parameters of these names, or of modules of these names: tied ones by the first of their names."""
    first = {id(parameter): name for name, parameter in network.named_parameters()}
    names = {name: first[id(part)] for name, part in network.named_parameters(remove_duplicate=False)}
    of = {each: {own for name, own in names.items() if f"{name}.".startswith(f"{each}.")} for each in wanted}
    for each, found in of.items():
        if not found:
            raise InvalidInput(f"parameter {each!r}", f"one of {', '.join(names)}", "none of them", "name one")
    return [name for name in first.values() if any(name in found for found in of.values())]


def _embeddings(network: nn.Module) -> set[str]:
    """Return the names of tables of embeddings."""
    of = {id(module.weight) for module in network.modules() if isinstance(module, (nn.Embedding, nn.EmbeddingBag))}
    return {name for name, parameter in network.named_parameters() if id(parameter) in of}


def _stacked(network: nn.Module) -> dict[str, int]:
    """Return how many matrices a parameter stacks, by name: gates of recurrent layers; query, key and value."""
    of: dict[int, int] = {}
    for module in network.modules():
        for name, weight in module.named_parameters(recurse=False):
            if isinstance(module, (nn.RNNBase, nn.RNNCellBase)) and name.startswith(("weight_ih", "weight_hh")):
                of[id(weight)] = len(weight) // module.hidden_size
            elif isinstance(module, nn.MultiheadAttention) and name == "in_proj_weight":
                of[id(weight)] = 3
    return {name: of[id(parameter)] for name, parameter in network.named_parameters() if id(parameter) in of}


def _update(outward: Tensor, inward: Tensor) -> Tensor:
    """Return the products B·A (N·out,in), stacked, of outward (N·out,r) and inward (N,r,in) matrices."""
    return (outward.unflatten(0, (len(inward), -1)) @ inward).flatten(0, 1)


def _detached(parameters: Mapping[str, Tensor], what: str) -> Tensors:
    if not parameters:
        raise InvalidInput(what, "at least one", "none", "choose others, or pass a module that has parameters")
    for name, parameter in parameters.items():
        if not isinstance(parameter, Tensor) or parameter.dtype not in (torch.float32, torch.float64):
            got = str(getattr(parameter, "dtype", type(parameter).__name__))
            raise InvalidInput(f"parameter {name!r}", "float32 or float64", got, "convert the network: .float()")
    frozen = [name for name, parameter in parameters.items() if not parameter.requires_grad]
    if frozen:
        got = f"{len(frozen)} frozen: {', '.join(frozen[:3])}{', …' if len(frozen) > 3 else ''}"
        remedy = "name the others in parameters=, or call .requires_grad_()"
        raise InvalidInput(what, "parameters that require gradients", got, remedy)
    return {name: parameter.detach() for name, parameter in parameters.items()}


def _size(tensors: Tensors) -> int:
    return sum(part.numel() for part in tensors.values())


def _normal(shape: tuple[int, ...], n_dimensions: int, stream: torch.Generator, like: Tensor) -> Tensor:
    drawn = torch.randn(shape, generator=stream, dtype=torch.float64, device=CPU)
    return (drawn / n_dimensions**0.5).to(like)
