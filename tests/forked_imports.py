"""What forked programs find imported."""

import ppl_hmm.audits.audit
import ppl_hmm.cli
import ppl_hmm.exact.backends.compiled
import ppl_hmm.experiments.figure3.head_vs_prompt
import ppl_hmm.experiments.figure3.memory_vs_vanilla
import ppl_hmm.programs.distribution  # noqa: F401
