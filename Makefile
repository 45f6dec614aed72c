# Thin: what each target does is in the tools it calls.
UV_VERSION := 0.13.9
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
EXTRAS ?= --extra lab
RUN := $(UV) run $(EXTRAS) --quiet

.PHONY: demo test lint bench

demo: $(UV)
	@$(RUN) python examples/demo/demo.py

test: $(UV)
	@$(RUN) pytest -n 3 --dist loadfile

lint: $(UV)
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@$(RUN) lint-imports
	@$(RUN) check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(RUN) zizmor --offline --quiet .github/workflows

bench: $(UV)
	@$(RUN) python bench/overhead.py
	@$(RUN) python bench/prediction.py
	@$(RUN) python bench/estimate.py

.uv/bin/uv:
	@python3 -m venv .uv
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
