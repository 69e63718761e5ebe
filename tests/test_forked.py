"""Programs that tests run apart find the package imported: each would import it again for seconds."""

import forked


def test_what_takes_long_is_imported():
    program = "import sys; print(*(name for name in sys.argv[1:] if name not in sys.modules))"
    assert forked.run(program, *forked.IMPORTED).stdout == "\n"
