# Sets up .venv and runs the package's jobs. Nothing needs to be activated.

PYTHON ?= python3
BIN := .venv/bin
# Each of two processes takes one half of the tests, whose modules' fixtures it then computes once, until one has none
# left and takes some of the other's.
TEST := $(BIN)/python -m pytest -n 2 --dist worksteal

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Empty: compiled modules and rewritten assertions are kept.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help reproduce analyses test test-all lint bench gpu docs clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

reproduce: .venv/.stamp-fast  ## Run the main experiment; results in results/head-vs-prompt
	$(BIN)/ppl-hmm reproduce head-vs-prompt --out results/head-vs-prompt

analyses: .venv/.stamp-fast  ## Run the analyses, minutes each; results in results/
	@for script in analyses/[0-9]*.py; do echo; echo "$$script"; $(BIN)/python "$$script" || exit 1; done

test: .venv/.stamp-dev  ## Run the tests, without the slow, gpu and benchmark ones
	$(TEST)

test-all: .venv/.stamp-dev  ## Run all tests but benchmarks (those marked gpu only where there is one)
	@if $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then marker='not benchmark'; \
	else marker='not benchmark and not gpu'; echo 'No GPU here: tests marked gpu are left out.'; fi; \
	$(TEST) -m "$$marker"

lint: .venv/.stamp-dev  ## Check style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: .venv/.stamp-bench  ## Measure time beside the peers, a quarter of an hour; writes docs/performance.md
	@mkdir -p results
	$(BIN)/python -m pytest -p benchmark -m 'benchmark and not gpu and not slow' tests/benchmarks \
	  --benchmark-json=results/benchmarks.json --benchmark-columns=median,iqr,rounds
	PYTHONPATH=tests $(BIN)/python -m benchmarks.report results/benchmarks.json

gpu: .venv/.stamp-bench  ## Test and measure on a GPU, about a quarter of an hour; writes docs/performance.md
	@mkdir -p results
	$(BIN)/python -m pytest -n 8 -m 'gpu and not benchmark' tests
	$(BIN)/python -m pytest -p benchmark -m 'gpu and benchmark' tests/benchmarks \
	  --benchmark-json=results/gpu.json --benchmark-columns=median,iqr,rounds
	PYTHONPATH=tests $(BIN)/python -m benchmarks.report results/gpu.json
	TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1 \
	$(BIN)/python -m ppl_hmm reproduce head-vs-prompt --lm transformer --device cuda --workers 10 \
	  --out results/head-vs-prompt-transformer

docs: .venv/.stamp-docs  ## Build the documentation in docs/_build/html
	@rm -rf docs/api/generated docs/_build  # tutorials are executed again: the package may have changed
	$(BIN)/sphinx-build -j 2 -E -W --keep-going -b html docs docs/_build/html
	$(BIN)/python docs/check_html.py docs/_build/html

.PHONY: release
release: .venv/.stamp-fast  ## Check the versions, build wheel and sdist, and try them in an empty environment
	$(BIN)/python docs/release.py

clean:  ## Remove caches and built files; keep .venv and results
	rm -rf docs/_build docs/api/generated dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name .venv -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

# One stamp for each set of extras.
.venv/.stamp-%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[$*]'
	@$(BIN)/ppl-hmm warm-up
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo 'ppl_hmm needs Python 3.11 or later as "$(PYTHON)": install it, or run make PYTHON=/path/to/python3.11' >&2; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
