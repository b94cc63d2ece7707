# `make help` lists the verbs. Everything runs in .venv, which `make setup` makes and every other verb needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
REDOCLY := 2.77.0

.DEFAULT_GOAL := help
.PHONY: help setup run demo test simulate bench bench-kubernetes bench-kafka bench-gateway integration image lint lint-openapi format \
  types protos check-generated docs clean

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with everything that the other verbs need

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; say PYTHON=python3.12 make ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

run: $(STAMP) ## Run the server here, with its embedded parts
	$(BIN)/queue-manager serve

demo: $(STAMP) ## Start a server, run the historical pipeline live until it is FINISHED, stop everything
	@$(BIN)/python scripts/demo.py

test: $(STAMP) ## Run all tests that need only Python
	$(BIN)/pytest -m "not integration" -n auto --dist worksteal

simulate: $(STAMP) ## Play simulated histories: make simulate SEEDS=10000 FIRST=0
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),500) --first $(or $(FIRST),0)

bench: $(STAMP) ## Measure speed and size beside a bare grpc.aio service: make bench [ONLY="get start"] [SHORT=1]
	@$(BIN)/python -m bench $(if $(SHORT),--short) $(ONLY)

bench-kubernetes: $(STAMP) ## Measure with Jobs on the Kubernetes that KUBECONFIG names, beside bare aiohttp: [ONLY=...] [SHORT=1]
	@$(BIN)/python -m bench.kubernetes $(if $(SHORT),--short) $(ONLY)

bench-kafka: $(STAMP) ## Measure what goes over the Kafka that KAFKA_BOOTSTRAP_SERVERS names, beside a bare consumer: [ONLY=...] [SHORT=1]
	@$(BIN)/python -m bench.kafka $(if $(SHORT),--short) $(ONLY)

bench-gateway: $(STAMP) ## Measure the HTTP gateway beside a bare aiohttp handler, and a thousand watchers: [ONLY=...] [SHORT=1]
	@$(BIN)/python -m bench.gateway $(if $(SHORT),--short) $(ONLY)

integration: $(STAMP) ## Run the tests that need real servers; each says what it skips and why
	$(BIN)/pytest -m integration -ra

image: ## Build the image with docker, podman or buildah: make image [IMAGE=...] [BASE_IMAGE=...] [PIP_INDEX_URL=...]
	@BASE_IMAGE="$(BASE_IMAGE)" PIP_INDEX_URL="$(PIP_INDEX_URL)" scripts/build_image.sh "$(or $(IMAGE),localhost/queue-manager:dev)"

lint: $(STAMP) ## Style, import layers, the contract's style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/buf lint

lint-openapi: ## Style of docs/openapi.yaml, by Redocly from npm; skipped where there is no npx
	@if command -v npx >/dev/null; then npx --yes @redocly/cli@$(REDOCLY) lint docs/openapi.yaml; \
	else echo "lint-openapi is skipped: there is no npx here, which comes with Node.js"; fi

format: $(STAMP) ## Format the code and the contract
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format --write protos

types: $(STAMP) ## Type checks, strict
	$(BIN)/mypy

protos: $(STAMP) ## Generate gen/ from protos/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/generate_protos.py

docs: $(STAMP) ## Write the generated parts of the documentation
	$(BIN)/python scripts/configuration_table.py --write
	$(BIN)/python scripts/metrics_reference.py --write
	$(BIN)/python scripts/openapi_document.py --write

check-generated: $(STAMP) ## Fail where generated code or documentation is stale
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/generate_protos.py --check
	$(BIN)/python scripts/configuration_table.py --check
	$(BIN)/python scripts/metrics_reference.py --check
	$(BIN)/python scripts/openapi_document.py --check
	$(BIN)/python scripts/vendor_swagger_ui.py --check

clean: ## Remove what the verbs made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
