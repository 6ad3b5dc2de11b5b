# Every command a person needs; `make` alone lists them. Nothing has to be done before any of them.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo gallery up down status logs mail check test live bench faults hammer contracts

PYTHON := .venv/bin/python
STACK := $(PYTHON) -m deploy.local
# These start nodes of their own and kill them, so they need the programs even where AMQP_URL names a broker.
SETUP_WITH_BROKER := AMQP_URL= sh deploy/local/setup.sh
# Quoted once, so that a path with spaces arrives whole; nothing at all when the variable is empty.
given = $(if $(1),"$(1)")

help: ## list these commands
	@echo "Darkroom. Commands (make <command> [VARIABLE=value]):"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "Settings from the environment: DARKROOM_HOME moves .local/ (data, logs, addresses, keys of the embedded stack);"
	@echo "AMQP_URL, <SERVICE>_DATABASE_URL and STORAGE_URL each replace their embedded part. First steps: make demo"

setup: ## install what is missing: Python packages into .venv, rabbitmq-server by apt or brew; starts nothing
	@sh deploy/local/setup.sh

demo: setup ## stage a real photo end to end, print the story, stop again; PHOTO=path takes your photo
	@$(PYTHON) -m tools.demo $(call given,$(PHOTO))

gallery: setup ## a contact sheet of each product line in demo-output/gallery; PHOTOS=folder with room, product, portrait
	@$(PYTHON) -m tools.gallery $(call given,$(PHOTOS))

up: setup ## start the embedded stack in the background; PROVIDERS=hostile: with AI vendors that misbehave
	@$(STACK) up $(if $(PROVIDERS),--providers "$(PROVIDERS)")

down: ## stop the embedded stack; its data stays for the next `make up`
	@if [ -x $(PYTHON) ]; then $(STACK) down; else echo "The stack is not running."; fi

status: ## one line per process: id, state, address
	@if [ -x $(PYTHON) ]; then $(STACK) status || true; else echo "The stack is not running."; fi

logs: setup ## show and follow the logs; S=credits one process only, LINES=20 how many lines of the past
	@$(STACK) logs $(call given,$(S)) $(if $(LINES),--lines "$(LINES)")

mail: setup ## the mails the embedded stack wrote, the newest last; M=eml_… shows one
	@$(PYTHON) -m tools mail $(call given,$(M))

check: ## ruff, ruff format, mypy, import-linter
	@sh deploy/local/setup.sh python
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/mypy --python-version 3.10 --package darkroom_client
	.venv/bin/lint-imports

test: ## every test; starts what the tests need and stops it
	@$(SETUP_WITH_BROKER)
	@sh deploy/local/setup.sh exiftool
	@$(PYTHON) -m tests

live: setup ## call every AI vendor whose key is set, for real: costs cents; P=name
	@$(PYTHON) -m tests.live $(call given,$(P))

bench: ## benchmarks, all or one; B=name
	@$(SETUP_WITH_BROKER)
	@$(PYTHON) -m benchmarks $(call given,$(B))

faults: ## fault matrix (kill -9, cut connections) against a stack of its own, all or one; F=name
	@$(SETUP_WITH_BROKER)
	@$(PYTHON) -m tests.faults $(call given,$(F))

hammer: setup ## many clients at the ledger for a minute, then its audit; SECONDS=60, CLIENTS=16, SEED=number
	@$(PYTHON) -m tools hammer $(if $(SECONDS),--seconds "$(SECONDS)") $(if $(CLIENTS),--clients "$(CLIENTS)") \
		$(if $(SEED),--seed "$(SEED)")

contracts: setup ## write docs/openapi.json, asyncapi.json, events, failures.md and shared/contracts anew
	@$(PYTHON) -m tools contracts
