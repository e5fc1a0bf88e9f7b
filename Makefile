# The two commands a user needs are `make up` and `make down`; CONTRIBUTING.md has the rest.
PYTHON ?= python3.11
MODEL ?=
MINUTES ?= 60
REQUESTS ?= 100000
BIN := .venv/bin

.PHONY: bench bench-peers chaos gpu-check-cpu up down status env dev repair test test-slow lint types lock lock-check docs rules sight soak

up: env ## environment, archive of MODEL (default: minilm), supervised service, a verified answer
	@$(BIN)/embedkit up $(MODEL)

down: ## stop everything that `make up` started
	@if [ -x $(BIN)/embedkit ]; then $(BIN)/embedkit down; \
	elif [ -s var/run/supervisord.pid ] && kill -0 "$$(cat var/run/supervisord.pid)" 2>/dev/null; then \
		echo "embedkit: the service runs and .venv, which could stop it, is gone: make env, then make down" >&2; exit 1; \
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

test: dev ## the tests, those on the real TorchServe included
	@$(BIN)/pytest

test-slow: dev ## those that take minutes: a whole Prometheus beside the service, and `embedkit tune` for real
	@$(BIN)/pytest -m slow

lint: dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: dev
	@$(BIN)/mypy

docs: dev ## write the reference pages under docs/
	@$(BIN)/python -m ops.reference

rules: dev ## write Prometheus' rules and Grafana's dashboards from ops/prometheus/ and ops/grafana/
	@$(BIN)/python -m ops.prometheus.rules
	@$(BIN)/python -m ops.grafana.dashboards

sight: dev ## what metrics, alerts and dashboards show while things break: some minutes, and the pictures in docs/img/
	@$(BIN)/pytest -m sight -rP

chaos: dev ## break one thing after another under load and measure what it costs: some 20 minutes; writes docs/chaos.md
	@$(BIN)/pytest -m chaos tests/chaos

soak: dev ## mixed load for MINUTES and then REQUESTS short texts: memory, restarts, errors; writes docs/chaos.md
	@SOAK_MINUTES=$(MINUTES) SOAK_REQUESTS=$(REQUESTS) $(BIN)/pytest -m soak tests/chaos

lock: dev ## make uv.lock and env/locks/ from pyproject.toml and env/pins.toml
	@$(BIN)/python -m env.lock

lock-check: dev
	@$(BIN)/python -m env.lock --check
