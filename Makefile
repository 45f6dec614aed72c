# Thin: what each target does is in the tools it calls.
UV_VERSION := 0.13.9
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
EXTRAS ?= --extra lab
RUN := $(UV) run $(EXTRAS) --quiet
# Tests start the command hundreds of times: where Python may not keep its bytecode, each compiles everything anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all lint bench pulumi policy

demo: $(UV)
	@$(RUN) python examples/demo/demo.py

PYTEST := pytest -n 3 --dist loadfile --no-loadscope-reorder

test: $(UV)
	@$(RUN) $(PYTEST)

# End-to-end tests on every engine that is here, not only on the best one, and the tests marked slow.
test-all: $(UV)
	@$(RUN) $(PYTEST) --everything

# The types are checked with everything installed, Pulumi's among them.
lint: CHECK := $(UV) run --all-extras --quiet
lint: $(UV)
	@$(CHECK) ruff check .
	@$(CHECK) ruff format --check .
	@$(CHECK) mypy
	@$(CHECK) lint-imports
	@$(CHECK) check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(CHECK) zizmor --offline --quiet .github/workflows

# The `pulumi` CLI where the tests find it: on PATH, else built here once from its Go modules (minutes), else not at all.
pulumi:
	@if command -v pulumi >/dev/null; then pulumi version; \
	elif [ -x .tools/pulumi ]; then .tools/pulumi version; \
	elif command -v go >/dev/null; then $(MAKE) --no-print-directory .tools/pulumi && .tools/pulumi version; \
	else echo "no pulumi: neither it nor Go is installed; tests with the real engine will skip"; fi

.tools/pulumi: tools/go.mod tools/go.sum
	@cd tools && CGO_ENABLED=0 nice go build -trimpath -o ../$@ \
	  -ldflags "-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=$$(go list -m -f '{{.Version}}' github.com/pulumi/pulumi/pkg/v3)" \
	  github.com/pulumi/pulumi/pkg/v3/cmd/pulumi
	@touch $@

# The policy pack's own environment: pulumi-policy needs an older protobuf than the project is locked to.
policy: $(UV)
	@$(UV) venv --quiet --clear infra/policy/.venv
	@VIRTUAL_ENV=infra/policy/.venv $(UV) pip install --quiet -r infra/policy/requirements.txt

bench: $(UV)
	@$(RUN) python bench/overhead.py
	@$(RUN) python bench/prediction.py
	@$(RUN) python bench/estimate.py

.uv/bin/uv:
	@python3 -m venv .uv
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
