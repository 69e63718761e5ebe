"""``python -m ppl_hmm``: the command line."""

from ppl_hmm.cli import main

main()
