# The two commands a user needs are `make up` and `make down`; CONTRIBUTING.md has the rest.
PYTHON ?= python3.11
MODEL ?=
TARGET ?= server
MINUTES ?= 60
REQUESTS ?= 100000
# The environment: conda's, where one of env/environment*.yml is activated, else .venv.
BIN := $(if $(filter conda,$(EMBEDKIT_DOOR)),$(CONDA_PREFIX),.venv)/bin

.PHONY: audit bench bench-peers chaos docs down dev env fresh gpu-check-cpu image image-test lint lock lock-check programs repair rules sight soak soak-look status telemetry-cost test test-slow types up

up: env ## environment, archive of MODEL (default: minilm), supervised service, a verified answer
	@$(BIN)/embedkit up $(MODEL)

down: ## stop everything that `make up` started
	@if [ -x $(BIN)/embedkit ]; then $(BIN)/embedkit down; \
	elif found=$$(grep -alsP 'supervisord\x00(-n\x00)?-c\x00\Q$(CURDIR)\E/var/etc/supervisord.conf\x00' /proc/[0-9]*/cmdline); then \
		echo "embedkit: the service runs ($$found) and .venv, which could stop it, is gone: make env, then make down" >&2; exit 1; \
	else echo "embedkit: nothing was set up here, nothing to stop"; fi

status: env
	@$(BIN)/embedkit status

env: ## the runtime environment in .venv; TORCH=cpu|cuda12|cuda13 overrides the choice
	@$(PYTHON) -m env.bootstrap

dev: ## the same with the development tools
	@$(PYTHON) -m env.bootstrap --dev

bench: env ## measure the running service against the same model in process
	@$(BIN)/embedkit bench $(MODEL)

bench-peers: env ## the same beside infinity, mosec and litserve, in environments of their own
	@$(BIN)/embedkit bench $(MODEL) --peers

gpu-check-cpu: env ## the GPU check's script, whole and for real, on the CPU with a small model (some minutes)
	@PYTHON=$(abspath $(BIN))/python ops/bench/gpu.sh collect --python 3.11 var/bench/gpu/wheels
	@PYTHON=$(abspath $(BIN))/python ops/bench/gpu.sh run --wheels var/bench/gpu/wheels/step-* \
		--device cpu --small --minutes 5 --out var/bench/gpu/report

repair: ## build .venv anew
	@$(PYTHON) -m env.bootstrap --repair

programs: dev # what tests run beside Python: installed as root on Debian, else named
	@$(BIN)/python -m tests.programs

# Two processes, each with a deployment of its own: much of the time is waiting for a start.
test: programs ## the tests, those on the real TorchServe included
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: programs ## those that take minutes: a whole Prometheus, `embedkit tune` and `deploy`, conda, nix, a bundle
	@$(BIN)/pytest -m slow

lint: dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: dev
	@$(BIN)/mypy

audit: dev ## what is published against the locks, beside what env/advisories.toml accepts
	@$(BIN)/python -m env.audit

docs: dev ## write the reference pages under docs/
	@$(BIN)/python -m ops.reference

rules: dev ## write Prometheus' rules and Grafana's dashboards from ops/prometheus/ and ops/grafana/
	@$(BIN)/python -m ops.prometheus.rules
	@$(BIN)/python -m ops.grafana.dashboards

sight: programs ## what metrics, alerts and dashboards show while things break: some minutes, and the pictures in docs/img/
	@$(BIN)/pytest -m sight -rP

chaos: programs ## break one thing after another under load and measure what it costs: some 20 minutes; writes docs/chaos.md
	@$(BIN)/pytest -m chaos tests/chaos

soak: programs ## mixed load for MINUTES and then REQUESTS short texts: memory, restarts, errors; writes docs/chaos.md
	@SOAK_MINUTES=$(MINUTES) SOAK_REQUESTS=$(REQUESTS) $(BIN)/pytest -m soak tests/chaos

soak-look: programs ## five minutes of the same mixed load, which change no page
	@SOAK_MINUTES=5 $(BIN)/pytest -m soak tests/chaos -k mixed

telemetry-cost: dev ## what the metrics cost a request, part by part, in µs of processor time
	@$(BIN)/python -m ops.exporter.cost

image: ## a container image of the current checkout; TARGET=server|all-in-one, TORCH=cpu|cuda12|cuda13
	@env/image.sh $(TARGET) $(TORCH)

image-test: dev ## both images built and run without an engine (root; Debian's buildah and mmdebstrap)
	@$(BIN)/python -m tests.programs mmdebstrap buildah ip
	@$(BIN)/pytest -m container -rP

fresh: dev ## README's first commands on a fresh Debian: most of an hour (root; Debian's mmdebstrap)
	@$(BIN)/python -m tests.programs mmdebstrap
	@$(BIN)/pytest -m fresh -rP

lock: dev ## carry the pins of pyproject.toml and env/pins.toml everywhere: locks, conda files, tables
	@$(BIN)/embedkit env update

lock-check: dev ## fail, by file and line, where something does not say what the pins say
	@$(BIN)/embedkit env check
