"""Shared set-up: shapes that execute, and random examples that repeat."""

import hypothesis
import jaxtyping
import torch

# Before anything imports the kernels: every jaxtyping annotation in them becomes a check.
jaxtyping.install_import_hook("ppl_hmm.exact", "beartype.beartype")

# The tests' tensors are tiny: threads waiting for each other on shared cores take longer than the work.
torch.set_num_threads(1)

hypothesis.settings.register_profile("ppl_hmm", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ppl_hmm")
