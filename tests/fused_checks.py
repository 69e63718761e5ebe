"""Checks of the GPU's kernels that run anywhere: by Triton's interpreter, and by compiling for a GPU that is not there.

``python tests/fused_checks.py`` runs each one that is named on standard input in a process of its own: Triton reads
TRITON_INTERPRET when it is imported, and some checks change the package.
"""

import functools
import os
import re
import subprocess
import sys
import tempfile
import traceback
import unittest

import numpy as np
import torch
import triton
from chains import TINY, arrays
from comparisons import assert_equal
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import KernelInterface, mangle_type

from ppl_hmm.exact import backends, chain, predictive
from ppl_hmm.exact.backends.fused import Fused, launch
from ppl_hmm.exact.recursion import Chain

#: Bytes of shared memory that one program may have on compute capability 9.
MOST_SHARED = 232448
#: Bytes of registers moved to slower memory. The widest laws need some: three programs a multiprocessor that spill were
#: faster on an H100 than one that does not.
MOST_SPILLED = 4096


def small_shape(seed):
    rng = np.random.default_rng(seed)
    sizes = {"n_models": 2, "n_sequences": 18, "length": 6, "n_states": 20, "n_rows": 6}
    return {name: int(rng.integers(1, most + 1)) for name, most in sizes.items()} | {"zeros": rng.choice([0.0, 0.4])}


def assert_passes_agree(given_arrays, seed, device="cpu", tolerance=1e-10):
    """Compare all passes at random positions with those of torch in float64 on the CPU, whatever is lost on the way."""
    *parameters, ids = given_arrays
    ours = [array.to(device) for array in given_arrays]
    exact = [*(array.double() for array in parameters), ids]
    length = ids.shape[-1]
    positions = np.random.default_rng(seed).permutation(length)[: 1 + seed % length].tolist()
    for ask in (
        lambda given, backend: [chain.log_evidence(Chain(*given), backend=backend)],
        lambda given, backend: chain.forward_backward(Chain(*given), range(length), backend=backend),
        lambda given, backend: chain.forward_backward(Chain(*given), positions, backend=backend),
        lambda given, backend: chain.forward_backward(Chain(*given), positions, own_token=False, backend=backend),
        lambda given, backend: predictive.filtered(Chain(*given), range(-1, length), backend=backend),
        lambda given, backend: predictive.filtered(Chain(*given), positions, backend=backend),
        lambda given, backend: chain.messages_at(Chain(*given), positions, backend=backend),
        lambda given, backend: chain.messages_at(Chain(*given), [*positions, -1], backend=backend),
    ):
        for one, other in zip(ask(ours, "triton"), ask(exact, "torch"), strict=True):
            if other is not None:
                assert one.dtype == parameters[0].dtype
                assert_equal(one.cpu(), other, tolerance * (1 + other[other > -torch.inf].abs().amax().item()))


def assert_counts_agree(given_arrays, seed, device="cpu", tolerance=1e-10):
    """Compare expected counts and evidence, of possible text of any length, with torch's in float64 on the CPU."""
    initial, transition, table, ids = given_arrays
    stream = np.random.default_rng(seed)
    lengths = torch.tensor(stream.integers(ids.shape[-1] + 1, size=ids.shape[:2]))
    table = torch.cat([table, torch.ones_like(table[:, :1])], 1)  # the mask's row
    ids = torch.where(torch.arange(ids.shape[-1]) < lengths[..., None], ids, table.shape[1] - 1)
    exact = Chain(initial.double(), transition.double(), table.double(), ids)
    weights = torch.tensor(stream.normal(size=ids.shape[:2]))
    weights[:, 0] = 0
    weights[chain.log_evidence(exact, backend="torch") == -torch.inf] = 0
    arrays = (initial, transition, table, ids, weights.to(initial.dtype), lengths)
    *on_device, own_weights, ends = [array.to(device) for array in arrays]
    evidence, ours = chain.evidence_and_gradient(Chain(*on_device), own_weights, lengths=ends, backend="triton")
    log_evidence, expected = chain.evidence_and_gradient(exact, weights, lengths=lengths, backend="torch")
    counted = weights != 0
    for one, other in ((evidence.cpu()[counted], log_evidence[counted]), *zip(ours, expected, strict=True)):
        assert_equal(one.cpu(), other, tolerance * (1 + other.abs().sum().item()))


def cut_into_short_segments():
    launch.SHORTEST_SEGMENT, launch.FEWEST_SEGMENTS = 3, 2


def rounding_bound(length, n_states):
    """As in test_exact_routes: four times S·(K + 6) relative roundings bound the smoothed law."""
    return 4 * length * (n_states + 6) * torch.finfo(torch.float32).eps / 2


def passes():
    for seed in range(6):
        assert_passes_agree(arrays(seed, **small_shape(seed)), seed)
    for seed, shape in enumerate(({"n_states": 1}, {"length": 1}, {"n_rows": 1}, {"n_sequences": 1})):
        assert_passes_agree(arrays(seed, **({"length": 5} | shape)), seed)


def single_precision():
    for n_states in (1, 17):
        given = arrays(0, n_states=n_states, length=5, dtype=torch.float32)
        assert_passes_agree(given, 0, tolerance=rounding_bound(5, n_states))
        assert_counts_agree(given, 0, tolerance=3 * rounding_bound(5, n_states))


def shared_texts():
    *parameters, ids = arrays(0, length=5)
    assert_passes_agree([*parameters, ids[:1].expand(2, -1, -1)], 0)


def texts_without_a_token():
    *parameters, ids = arrays(0)
    ours = predictive.filtered(Chain(*parameters, ids[..., :0]), [-1], backend="triton")
    assert torch.equal(ours.filtered, parameters[0][:, None, None].expand(-1, 3, -1, -1))
    assert torch.equal(ours.log_prefix, torch.zeros_like(ours.log_prefix))


def counts():
    for seed in range(5):
        assert_counts_agree(arrays(seed, **small_shape(seed)), seed)
    left_to_torch = arrays(0, n_states=65, n_sequences=2, length=2, dtype=torch.float32)
    assert_counts_agree(left_to_torch, 0, tolerance=1e-5)


def segments():
    cut_into_short_segments()
    for seed, length in enumerate((11, 12, 6, 7)):
        given = arrays(seed, n_models=1 + seed % 2, n_sequences=2, n_states=3, length=length, zeros=0.3 * (seed % 2))
        assert launch.segments_of(2, length, 3) > 1
        assert not Fused().smooth(Chain(*given), range(length), True)[1].any()  # nothing is left to logarithms
        assert_passes_agree(given, seed)
        assert_counts_agree(given, seed)
    given = arrays(0, n_models=1, n_states=3, length=12, dtype=torch.float32)
    assert not Fused().smooth(Chain(*given), range(12), True)[1].any()
    assert_passes_agree(given, 0, tolerance=rounding_bound(12, 3))


def underflow():
    """Two chains that never meet; each of two rows makes the states of one faint beside the others."""
    for cut in (False, True):
        initial, transition, table, ids = arrays(1, n_models=1, n_sequences=6, length=8)
        transition[:, :2, 2:] = transition[:, 2:, :2] = 0
        table[:, 0, :2] = table[:, 1, 2:] = TINY
        if cut:
            cut_into_short_segments()
        for *_, lost in (
            Fused().evidence(Chain(initial, transition, table, ids)),
            Fused().smooth(Chain(initial, transition, table, ids), range(8), True),
            Fused().filter(Chain(initial, transition, table, ids), [7]),
            Fused().messages(Chain(initial, transition, table, ids), [-1]),
            Fused().gradient(Chain(initial, transition, table, ids), torch.ones(1, 6, dtype=torch.float64)),
        ):
            assert lost.any()
        assert_passes_agree((initial, transition, table, ids), 0)


def segments_whose_scales_no_float_holds():
    """From one state a segment is 10⁴⁰⁰ times as likely as from the other; both count."""
    cut_into_short_segments()
    initial, transition = torch.tensor([[0.5, 0.5]]).double(), torch.eye(2).double()[None]
    table = torch.tensor([[[1.0, 1e-40], [1e-40, 1.0]]]).double()
    ids = torch.tensor([[[0] * 10 + [1] * 10]])
    for _, lost in (
        Fused().evidence(Chain(initial, transition, table, ids)),
        Fused().smooth(Chain(initial, transition, table, ids), range(20), True),
        Fused().filter(Chain(initial, transition, table, ids), range(-1, 20)),
    ):
        assert lost.all()
    assert_passes_agree((initial, transition, table, ids), 0)


def choice():
    transition = torch.eye(3)[None]
    assert isinstance(backends.choose(transition, "triton"), Fused)
    assert not isinstance(backends.choose(transition), Fused)  # the interpreter is slow: only ever by name


def use_where_it_agrees_with_torch():
    cpu = torch.device("cpu")
    for dtype in (torch.float32, torch.float64):
        assert backends._agrees_with_torch(cpu, dtype)
    smooth = Fused.smooth

    def wrong(self, *given, **options):
        result, lost = smooth(self, *given, **options)
        return result._replace(marginals=result.marginals + 0.01), lost

    def broken(self, *given, **options):
        raise RuntimeError("no compiler")

    for instead, said in ((wrong, "answers differ on cpu"), (broken, "does not run on cpu: no compiler")):
        Fused.smooth = instead
        backends._agrees_with_torch.cache_clear()
        with unittest.TestCase().assertLogs("ppl_hmm", "WARNING") as logs:
            assert not backends._agrees_with_torch(cpu, torch.float32)
        assert said in logs.output[0]


def compile_smallest_for_a_gpu():
    compile_for_a_gpu((torch.float32, (8,)))


def compile_larger_for_a_gpu():
    """What a kernel takes grows with the states."""
    compile_for_a_gpu((torch.float32, (30, 64, 128)), (torch.float64, (30, 64)))


def compile_for_a_gpu(*kinds):
    """Compile every launch of every pass for compute capability 9, and say what each takes."""
    seen = set()
    KernelInterface.__getitem__ = lambda kernel, _: functools.partial(compile_once, seen, kernel)
    for dtype, sizes in kinds:
        for n_states in sizes:
            for length in (4, 300):  # as whole texts, and in segments
                *parameters, ids = arrays(0, n_sequences=2, length=length, n_states=n_states, dtype=dtype)
                Fused().evidence(Chain(*parameters, ids))
                Fused().smooth(Chain(*parameters, ids), range(2), True)
                Fused().smooth(Chain(*parameters, ids), [1], False)
                Fused().filter(Chain(*parameters, ids), range(-1, 2))
                Fused().messages(Chain(*parameters, ids), [-1])
                Fused().gradient(Chain(*parameters, ids), torch.ones(2, 2, dtype=dtype))


def compile_once(seen, kernel, *given, **others):
    """Compile one launch as Triton would on a GPU, unless arguments of this kind were seen."""
    options = {name: others.pop(name) for name in ("num_warps", "num_stages", "maxnreg")}
    values = dict(zip(kernel.arg_names, given, strict=False)) | others
    constants = {name for name, value in values.items() if name.isupper() or value is None}
    signature = {n: "constexpr" if n in constants else mangle_type(values[n]) for n in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(kernel.arg_names) if signature[n][0] == "*"}
    key = (kernel.__name__, *signature.values(), *(values[name] for name in sorted(constants)))
    if key in seen:
        return
    seen.add(key)
    source = ASTSource(kernel, signature, {n: values[n] for n in constants}, aligned)
    program = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    registers, spilled = resources(program.asm["cubin"])
    size = f"{values['STATES']} states {signature[kernel.arg_names[1]]}"
    shared = program.metadata.shared
    sys.stdout.write(f"{key[0]}: {size}, {registers} registers, {spilled} bytes spilled, {shared} bytes shared\n")
    assert shared <= MOST_SHARED
    assert spilled <= MOST_SPILLED


def resources(machine_code):
    """Return the registers of a thread, and the bytes of its stack: what has no room in them."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(machine_code)
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return tuple(int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "STACK"))


INTERPRETED = (
    passes,
    single_precision,
    shared_texts,
    texts_without_a_token,
    counts,
    segments,
    underflow,
    segments_whose_scales_no_float_holds,
    choice,
    use_where_it_agrees_with_torch,
)


def run_in_a_fork(name):
    """Run a check in a copy of this process, all that it imports being there; return the exit status."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    status = 1
    try:
        globals()[name]()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(f"{run_in_a_fork(line.strip())}\n")
        sys.stdout.flush()
