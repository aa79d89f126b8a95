# `make demo` and `make test` work from a bare checkout with Python 3.11, make and a network.
PYTHON ?= $(firstword $(foreach name,python3.11 python3,$(shell command -v $(name))))
BIN := .venv/bin
TRIES ?= 10
TEST_WORKERS ?= 2
RUN_STAMP := .venv/.installed
DEV_STAMP := .venv/.installed-dev
LIBERO_STAMP := .venv/.installed-libero

# Spinning OpenMP threads starve each other on few cores.
export OMP_WAIT_POLICY ?= PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help demo libero nano nano-libero test test-quick nightly reliability format format-check type layers build bench bench-gpu check-python check-system
.DELETE_ON_ERROR:

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' Makefile

demo: check-system $(RUN_STAMP) ## install flexor into .venv and show one turn of the flywheel, in minutes
	$(BIN)/flexor demo

libero: check-system $(LIBERO_STAMP) ## add what the LIBERO suites need to .venv (docs/libero.md)

test: check-system $(DEV_STAMP) ## install flexor into .venv and run the tests, TEST_WORKERS files at once
	$(BIN)/pytest -n $(TEST_WORKERS) --dist loadfile -m "not gpu and not nightly" -rs --durations=10

test-quick: $(DEV_STAMP) ## the tests that take seconds
	$(BIN)/pytest -m "not gpu and not slow and not nightly" -rs -q

nightly: check-system $(DEV_STAMP) ## what takes minutes: broken messages, 20 kills of the learner, 20 random adapters, large models
	$(BIN)/pytest -m "nightly and not gpu" -rs --durations=10

reliability: check-system $(DEV_STAMP) ## what takes minutes: try every fault TRIES times and write docs/reliability.md
	$(BIN)/pytest -m fault -rs --tries $(TRIES) --fault-log docs/results/faults.jsonl

format: $(DEV_STAMP) ## format the code and mend what the linter can mend
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

format-check: $(DEV_STAMP) ## formatted and linted, nothing changed
	$(BIN)/ruff format --check
	$(BIN)/ruff check

type: $(DEV_STAMP) ## pyright on the package and the tests
	$(BIN)/pyright

layers: $(DEV_STAMP) ## the import law
	$(BIN)/lint-imports

build: $(DEV_STAMP) ## sdist, wheel from it, clean install, smoke test outside the checkout
	rm -rf dist
	$(BIN)/python -m build
	set -e; outside=$$(mktemp -d); trap 'rm -rf "$$outside"' EXIT; \
	"$(PYTHON)" -m venv "$$outside/venv"; \
	wheel=$$(ls "$$PWD"/dist/*.whl); \
	"$$outside/venv/bin/python" -m pip install -q -c constraints.txt "$$wheel[torch,onnx,sim,tensorrt]"; \
	cp tests/smoke.py "$$outside/smoke.py"; \
	cd "$$outside" && venv/bin/python -I smoke.py

nano: check-system $(RUN_STAMP) ## make the shipped policy again: record, train (about two hours on two cores), measure
	$(BIN)/flexor collect --out data/tabletop --episodes 4200 --workers 2
	$(BIN)/flexor collect --out data/tabletop --episodes 1400 --tasks puck_to_white_mat,puck_to_black_mat --workers 2
	$(BIN)/flexor pretrain --data data/tabletop --preset pi05-nano --out runs/pi05-nano --minutes 90 --processes 2
	$(BIN)/flexor eval runs/pi05-nano --episodes 200 --seed 5000 --workers 2 --json runs/pi05-nano.eval.json

nano-libero: check-system $(LIBERO_STAMP) ## make a LIBERO policy from nothing: record (1.5 hours on two cores), train (4 hours)
	$(BIN)/flexor collect --sim libero_spatial --out data/libero --episodes 600 --workers 2
	$(BIN)/flexor collect --sim libero_object --out data/libero --episodes 450 --workers 2
	$(BIN)/flexor collect --sim libero_goal --out data/libero --episodes 500 --workers 2
	$(BIN)/flexor collect --sim libero_10 --out data/libero --episodes 320 --workers 2 frame_every=4
	$(BIN)/flexor collect --sim libero_spatial --counterfactual --out data/libero --episodes 250 --workers 2
	$(BIN)/flexor collect --sim libero_object --counterfactual --out data/libero --episodes 200 --workers 2
	$(BIN)/flexor collect --sim libero_10 --counterfactual --out data/libero --episodes 168 --workers 2 frame_every=4
	$(BIN)/flexor elsewhere --data data/libero --workers 2
	$(BIN)/flexor pretrain --data data/libero --preset pi05-nano --out runs/pi05-nano-libero --samples 2200000 --processes 2 batch=64 max_delay=2

bench: $(RUN_STAMP) ## latency of the embedded default on this machine
	$(BIN)/flexor bench latency pi05-nano

bench-gpu: $(DEV_STAMP) ## on a GPU: the tests that need one, and its figures (docs/gpu.md)
	$(BIN)/pytest -m gpu -rs
	mkdir -p docs/results/gpu
	$(BIN)/flexor bench latency pi05-nano --precision bf16 --json docs/results/gpu/latency.json
	$(BIN)/flexor bench swap pi05-nano --precision bf16 --json docs/results/gpu/swap.json
	$(BIN)/flexor bench gpu docs/results/gpu/roofline.jsonl

$(RUN_STAMP): pyproject.toml constraints.txt | check-python
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install -e '.[torch,sim,plot]' -c constraints.txt
	touch $@

$(DEV_STAMP): $(RUN_STAMP)
	$(BIN)/python -m pip install -e '.[torch,sim,dev]' -c constraints.txt
	touch $@

# Without their own dependencies: robomimic would bring torchvision, which breaks transformers beside a CPU build of torch.
$(LIBERO_STAMP): $(RUN_STAMP)
	$(BIN)/python -m pip install -e '.[libero]' -c constraints.txt
	$(BIN)/python -m pip install --no-deps hf-libero robosuite bddl -c constraints.txt
	touch $@

check-python:
	@"$(PYTHON)" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' || { \
	echo 'error: flexor needs Python 3.11 or newer with venv; type: sudo apt-get install -y python3.11 python3.11-venv' >&2; \
	echo '       or name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)' >&2; exit 1; }

check-system: | check-python
	@"$(PYTHON)" -m flexor.runtime.system_libraries >/dev/null
