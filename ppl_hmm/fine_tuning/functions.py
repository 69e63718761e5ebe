"""The scores of a network as a function of its coordinates, and their gradients for each example.

For two classes the score is the difference of the two logits; for C > 2 there are C scores.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from ppl_hmm.base import foreign
from ppl_hmm.base.arrays import as_tensor
from ppl_hmm.errors import InvalidInput
from ppl_hmm.fine_tuning.subspaces import Parameters, Subspace, Tensors, coordinates, subspace
from ppl_hmm.fine_tuning.unrolled import unrolled

#: What reads the logits (B,C) of inputs off a module; a module itself may have parameters of its own.
Read = Callable[[Any, Tensor], Tensor]
#: A network, or a function of parameters by name and inputs.
Function = nn.Module | Callable[[Mapping[str, Tensor], Tensor], Tensor]

# Examples whose gradients are taken together, at most: more are not faster.
_CHUNK = 64
# Copies of the gradients of a chunk that are alive at once.
_WORKING = 3
_log = logging.getLogger("ppl_hmm")


class ReadNetwork(nn.Module):
    """A module and what reads logits off it: parameters are named ``lm.…``, and ``head.…`` if the reader has some."""

    def __init__(self, lm: nn.Module, head: Read) -> None:
        super().__init__()
        self.lm, self.head = lm, head

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (B,C)."""
        return self.head(self.lm, inputs)


@dataclasses.dataclass(frozen=True)
class ScoreFunction:
    """Scores f(z, x) (B,S) of inputs, S = 1 for two classes and C for more, and where z starts."""

    apply: Callable[[Tensors, Tensor], Tensor]
    batched: Callable[[Tensors, Tensor], Tensor]  # the same function of operations that torch.func.vmap knows
    space: Subspace

    @classmethod
    def of(cls, function: Function, read: Read | None, parameters: Parameters | Mapping[str, Tensor]) -> ScoreFunction:
        """Return the scores of a module, or of a function of parameters by name.

        Raises
        ------
        InvalidInput
            Neither a module nor a function with its parameters; parameters as :func:`subspace` refuses them.
        """
        if isinstance(parameters, Mapping):
            if not callable(function) or isinstance(function, nn.Module) or read is not None:
                remedy = "pass names of a module's parameters, or a function"
                raise InvalidInput("parameters", "a dictionary for a plain function alone", "one for a module", remedy)
            apply = _scored(function)
            return cls(apply, apply, coordinates(parameters))
        if not isinstance(function, nn.Module):
            expected = "a torch.nn.Module, or a function f(parameters, inputs) with parameters={name: tensor}"
            raise InvalidInput("lm", expected, foreign.described(function), "wrap it in a module")
        if read is not None and not callable(read):
            remedy = "pass e.g. ClozeHead([0, 1])"
            raise InvalidInput("read", "a function of the module and inputs", foreign.described(read), remedy)
        if read is None and type(function).forward is nn.Module.forward:
            got = f"a {type(function).__name__}, which cannot be called"
            raise InvalidInput("lm", "a module that returns logits", got, "pass read=, such as ClozeHead([0, 1])")
        network = function if read is None else ReadNetwork(function, read)
        space, copied = subspace(network, parameters), copy.deepcopy(network).eval()
        return cls(_called(copied, space), _called(unrolled(copied), space), space)

    def inputs(self, values: ArrayLike | Tensor, what: str = "inputs") -> Tensor:
        """Return inputs (N,…), at least one, on the device of the parameters; real numbers in their precision."""
        like = next(iter(self.space.start.values()))
        found = as_tensor(values, like.device, what=what)
        if found.ndim < 1 or not len(found):
            raise InvalidInput(what, "at least one example", f"shape {tuple(found.shape)}", "pass (N, …)")
        if not found.is_floating_point():
            return found
        if not torch.isfinite(found).all():
            raise InvalidInput(what, "finite numbers", "NaN or infinity", "leave these examples out")
        return found.to(like.dtype)

    def scores(self, z: Tensors, inputs: Tensor) -> Tensor:
        """Return f(z, x) (B,S) without a derivative."""
        with torch.no_grad():
            found = torch.cat([self.apply(z, part) for part in inputs.split(_CHUNK * 4)])
        if not torch.isfinite(found).all():
            raise InvalidInput("scores of the network", "finite numbers", "NaN or infinity", "look at its parameters")
        return found

    def along(self, direction: Tensors, inputs: Tensor) -> Tensor:
        """Return the derivative (B,S) of the scores at z₀ along a direction.

        By reverse mode twice, as Σ_s u_s ∇f_s is linear in u: forward mode has no rule for some layers. Cost four
        forward passes.
        """
        return torch.cat([self._along(direction, part) for part in inputs.split(_CHUNK * 4)])

    def _along(self, direction: Tensors, inputs: Tensor) -> Tensor:
        z = {name: part.detach().requires_grad_() for name, part in self.space.start.items()}
        with torch.enable_grad(), _differentiable_attention():
            scores = self.batched(z, inputs)
            u = torch.zeros_like(scores, requires_grad=True)
            back = torch.autograd.grad(scores, list(z.values()), u, create_graph=True, materialize_grads=True)
            parts = [(part * direction[name]).sum() for name, part in zip(z, back, strict=True)]
            return torch.autograd.grad(torch.stack(parts).sum(), u)[0]

    def gradients(self, inputs: Tensor, chunk: int, z: Tensors | None = None) -> Iterator[Tensor]:
        """Yield the gradients (b,S,D) of the scores of each example, by default at z₀, a chunk of examples at a time.

        By ``torch.func.vmap``, or example by example where torch cannot batch the network. Cost S forward and backward
        passes of all examples.
        """
        z = self.space.start if z is None else z
        n_scores = self.scores(z, inputs[:1]).shape[-1]
        together = self._can_batch(z, inputs[:1])
        for part in inputs.split(chunk):
            if together:
                each = [_flat(_by_vmap(self.batched, s, z, part)) for s in range(n_scores)]
            else:
                each = [_by_loop(self.apply, s, z, part) for s in range(n_scores)]
            yield torch.stack(each, 1).detach()  # a reader may close over parameters of its own

    def all_gradients(self, inputs: Tensor, chunk: int, z: Tensors | None = None) -> Tensor:
        """Return the gradients (N,S,D) of all examples, in one buffer that chunks are written to."""
        n_scores = self.scores(self.space.start if z is None else z, inputs[:1]).shape[-1]
        like = next(iter(self.space.start.values()))
        found = like.new_empty(len(inputs), n_scores, self.space.n_coordinates)
        for rows, part in zip(found.split(chunk), self.gradients(inputs, chunk, z), strict=True):
            rows.copy_(part)
        return found

    def chunk(self, n_inputs: int, n_held: int, n_scores: int, memory: float) -> int:
        """Return how many examples fit into ``memory`` bytes at once, beside ``n_held`` examples whose gradients stay.

        Raises
        ------
        InvalidInput
            Not even one does.
        """
        n, d = self.space.n_parameters, self.space.n_coordinates
        of_entry = next(iter(self.space.start.values())).element_size()
        held = n_held * n_scores * d * of_entry
        each = _WORKING * n_scores * max(n, d) * of_entry
        chunk = int(min(n_inputs, _CHUNK, max(memory - held, 0) // each))
        if chunk < 1:
            raise InvalidInput(
                "memory",
                f"room for N·P = {n_held * n_scores}·{d} entries that are kept, and a chunk of 1 example more",
                f"{memory:.3g} bytes of {held + each:.3g}",
                "raise memory=, pass fewer examples, or parameters=RandomProjection(1000)",
            )
        return chunk

    def _can_batch(self, z: Tensors, inputs: Tensor) -> bool:
        try:
            _by_vmap(self.batched, 0, z, inputs)
        except (RuntimeError, NotImplementedError, ValueError) as error:
            _log.info("gradients example by example: torch cannot batch them (%s)", error)
            return False
        return True


def _called(network: nn.Module, space: Subspace) -> Callable[[Tensors, Tensor], Tensor]:
    fixed = {name: part.detach() for name, part in (*network.named_parameters(), *network.named_buffers())}

    def call(z: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        return functional_call(network, {**fixed, **space.parameters(dict(z))}, (inputs,))

    return _scored(call)


def _scored(function: Callable[[Mapping[str, Tensor], Tensor], Tensor]) -> Callable[[Tensors, Tensor], Tensor]:
    """Return a function of scores (B,S) from one of logits (B,C), or of one score (B,)."""

    def scores(z: Tensors, inputs: Tensor) -> Tensor:
        logits = _taken(function, z, inputs)
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if not isinstance(logits, Tensor) or logits.ndim not in (1, 2) or len(logits) != len(inputs):
            expected = f"logits of shape ({len(inputs)}, C), or one score each"
            raise InvalidInput("what the network returns", expected, str(shape), "pass read=, which picks the logits")
        if logits.ndim == 1 or logits.shape[1] == 1:
            return logits.reshape(-1, 1)
        return logits[:, 1:] - logits[:, :1] if logits.shape[1] == 2 else logits

    return scores


def _taken(function: Callable[[Mapping[str, Tensor], Tensor], Any], z: Tensors, inputs: Tensor) -> Any:
    """Return what a network makes of inputs; raise :class:`InvalidInput` for those that it cannot take."""
    try:
        return function(z, inputs)
    except InvalidInput:
        raise
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        given = f"inputs of shape {tuple(inputs.shape)} and {inputs.dtype} to the network"
        first = str(error).partition("\n")[0]
        remedy = "pass tokens of its vocabulary, or features and heads of its width"
        raise InvalidInput(given, "what it takes", f"{type(error).__name__}: {first}", remedy) from error


def _by_vmap(function: Callable[[Tensors, Tensor], Tensor], s: int, z: Tensors, inputs: Tensor) -> Tensors:
    def score(z: Tensors, example: Tensor) -> Tensor:
        return function(z, example[None])[0, s]

    with _differentiable_attention():
        return vmap(grad(score), (None, 0))(z, inputs)


def _by_loop(function: Callable[[Tensors, Tensor], Tensor], s: int, z: Tensors, inputs: Tensor) -> Tensor:
    rows = []
    for example in inputs:
        leaves = {name: part.detach().requires_grad_() for name, part in z.items()}
        with torch.enable_grad():
            score = function(leaves, example[None])[0, s]
        parts = torch.autograd.grad(score, list(leaves.values()), allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([part.reshape(-1) for part in parts]))
    return torch.stack(rows)


def _flat(parts: Tensors) -> Tensor:
    return torch.cat([part.flatten(1) for part in parts.values()], 1)


@contextmanager
def _differentiable_attention() -> Iterator[None]:
    """Use attention of elementary operations: the fused one on CPUs has neither tangents nor a batching rule."""
    with sdpa_kernel(SDPBackend.MATH):
        yield
