# One environment in .venv, pinned by constraints.txt; every target makes what it needs.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made
unexport PYTHONDONTWRITEBYTECODE  # else every process of the tests compiles all it imports anew
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/nestobs
LIVEKIT_VERSION := v1.11.0
S3_VERSION := v1.8.0
GRAFANA_SOURCE := tests/exports/grafana
NAME ?= incident
STORE ?= example
OTEL_CLI := github.com/tobert/otel-cli@v0.5.0
COMPOSE_GO := github.com/compose-spec/compose-go/v2@v2.4.7
NODE_WANTED := tests/exports/client/package.json
LIVEKIT := $(CACHE)/bin/livekit-server-$(LIVEKIT_VERSION)
S3 := $(CACHE)/bin/versitygw-$(S3_VERSION)
GRAFANA := $(CACHE)/bin/grafana-dashboard

define STATIC
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers auto
	$(BIN)/lint-imports
endef

# name, module@version, package in it: built in a module of its own, since a proxy need not list a module's versions
define built_by_go
	test -x $(CACHE)/bin/$(1) && exit; \
	command -v go >/dev/null || { echo "make $@ needs Go: install it, or run the tests without it" >&2; exit 1; }; \
	mkdir -p $(CACHE)/bin && build=$$(mktemp -d) && cd $$build && go mod init built && go mod edit -require=$(2) \
	&& GOFLAGS=-mod=mod go build -o $(1) $(firstword $(subst @, ,$(2)))$(3) \
	&& mv $(1) $(CACHE)/bin && rm -rf $$build && ls $(CACHE)/bin/$(1)
endef

.PHONY: help demo check test lint bench coverage calibrate causes fuzz chaos livekit s3 sftp browser zsh node site prometheus otlp compose grafana notebook environment constraints clean
.DEFAULT_GOAL := help

help:  ## what there is
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev,fleet,otel]'
	touch $@

demo: $(STAMP)  ## lab, nests, joins from two vantages, report in runs/demo
	$(BIN)/nestobs demo --out runs/demo

check: $(STAMP)  ## lint, types, walls and the quick tests, in under a minute
	$(STATIC)
	$(BIN)/python -m pytest -q -n auto -m "not slow"

test: $(STAMP)  ## lint, types, walls and all tests; what fails beside others is run once more, alone
	$(STATIC)
	$(BIN)/python -m pytest -n auto || { test $$? -eq 1 && echo "what failed, once more and alone:" \
		&& $(BIN)/python -m pytest --last-failed --last-failed-no-failures none -rA; }

lint: $(STAMP)  ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)  ## speed, as ratios against a peer in the same run
	PYTHONPATH=tests $(BIN)/python -m benchmarks.bench_cli
	PYTHONPATH=tests $(BIN)/python -m benchmarks.bench_store
	PYTHONPATH=tests $(BIN)/python -m benchmarks.bench_shipments
	PYTHONPATH=tests $(BIN)/python -m benchmarks.bench_stamps
	PYTHONPATH=tests $(BIN)/python -m benchmarks.bench_partitions
	PYTHONPATH=tests $(BIN)/python -m benchmarks.bench_flood
	PYTHONPATH=tests $(BIN)/python -m benchmarks.bench_relays
	PYTHONPATH=tests $(BIN)/python -m benchmarks.bench_tuning
	PYTHONPATH=tests $(BIN)/python -m benchmarks.bench_reports

coverage: $(STAMP)  ## do 95 % intervals cover 95 %? how good are tuned policies, and the advice? (about two hours)
	PYTHONPATH=tests $(BIN)/python -m benchmarks.simulate_clocks
	PYTHONPATH=tests $(BIN)/python -m benchmarks.simulate_coverage
	PYTHONPATH=tests $(BIN)/python -m benchmarks.simulate_policy
	PYTHONPATH=tests $(BIN)/python -m benchmarks.simulate_change
	PYTHONPATH=tests $(BIN)/python -m benchmarks.simulate_advice

calibrate: $(STAMP)  ## 1000 nests against the lab's truth (about 10 minutes)
	PYTHONPATH=tests $(BIN)/python -m benchmarks.calibrate_lab --nests 1000 --out runs/calibrate

chaos: $(STAMP)  ## everything goes wrong at once, seeded (10 minutes)
	PYTHONPATH=tests $(BIN)/python -m benchmarks.chaos --out runs/chaos

causes: $(STAMP)  ## is the cause named? 1000 nests with a fault, 500 with two, 1000 races (about an hour and a half)
	PYTHONPATH=tests $(BIN)/python -m benchmarks.causes_lab --nests 1000 --faults 1 --out runs/causes-1
	PYTHONPATH=tests $(BIN)/python -m benchmarks.causes_lab --nests 500 --faults 2 --out runs/causes-2
	PYTHONPATH=tests $(BIN)/python -m benchmarks.causes_lab --nests 1000 --scenario races --out runs/causes-0

fuzz: $(STAMP)  ## a million inputs to every parser of others' bytes (about 20 minutes)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev,fleet,fuzz,otel]' \
		|| echo "no atheris for this machine: the seeds are changed at random" >&2
	PYTHONPATH=tests $(BIN)/python -m benchmarks.fuzz

livekit: $(LIVEKIT)  ## build livekit-server once, with Go

$(LIVEKIT):
	@command -v go >/dev/null || { echo "make livekit needs Go 1.24 or newer: install it, or run on the stand-in" >&2; exit 1; }
	mkdir -p $(dir $@)
	build=$$(mktemp -d) && GOBIN=$$build go install github.com/livekit/livekit-server/cmd/server@$(LIVEKIT_VERSION) \
		&& mv $$build/server $@.part && mv $@.part $@ && rm -rf $$build
	$@ --version

s3: $(S3)  ## build versitygw once, with Go: the S3 that shipments are tested on

$(S3):
	@command -v go >/dev/null || { echo "make s3 needs Go 1.24 or newer: install it, or run the tests without it" >&2; exit 1; }
	mkdir -p $(dir $@)
	build=$$(mktemp -d) && GOBIN=$$build go install github.com/versity/versitygw/cmd/versitygw@$(S3_VERSION) \
		&& mv $$build/versitygw $@.part && mv $@.part $@ && rm -rf $$build
	$@ --version

sftp:  ## unpack Debian's sshd, to which the tests ship, where apt is there
	@command -v sshd && exit; test -x $(CACHE)/bin/sshd && exit; \
		sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); folder=$$(mktemp -d) && chmod 755 $$folder && cd $$folder; \
		command -v apt-get dpkg-deb $$sudo >/dev/null && $$sudo apt-get update && apt-get download openssh-server libwrap0 \
		&& for each in *.deb; do dpkg-deb -x $$each .; done && mkdir -p $(CACHE)/bin \
		&& cp -L $$(find . -name 'libwrap.so.0') usr/sbin/sshd $(CACHE)/bin && rm -rf $$folder && ls $(CACHE)/bin/sshd \
		|| { echo "make sftp needs Debian's apt-get, and root or sudo: install OpenSSH's server so that sshd is on PATH," \
			"or run the tests without it" >&2; exit 1; }

browser:  ## install Chromium, which draws the reports in the tests, where apt is there
	@command -v chromium chromium-browser google-chrome google-chrome-stable && exit; \
		sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
		command -v apt-get $$sudo >/dev/null && $$sudo apt-get update \
		&& $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium \
		|| { echo "make browser needs Debian's apt-get, and root or sudo: install Chromium or Google Chrome so that" \
			"chromium or google-chrome is on PATH, or run the tests without it" >&2; exit 1; }

zsh:  ## install zsh, which the tests of completion run, where apt is there
	@command -v zsh && exit; sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
		command -v apt-get $$sudo >/dev/null && $$sudo apt-get update \
		&& $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends zsh \
		|| { echo "make zsh needs Debian's apt-get, and root or sudo: install zsh, or run the tests without it" >&2; exit 1; }

node:  ## install what the tests of the client package need (TypeScript, React, esbuild), where npm is
	@command -v npm >/dev/null || { echo "make node needs npm: install Node 18 or newer, or run the tests without it" >&2; exit 1; }
	@cmp -s $(NODE_WANTED) $(CACHE)/node/package.json && exit; \
		mkdir -p $(CACHE) && made=$$(mktemp -d $(CACHE)/node.XXXXXX) && cp $(NODE_WANTED) $$made/package.json \
		&& npm install --prefix $$made --no-package-lock --ignore-scripts --no-audit --no-fund \
		&& rm -rf $(CACHE)/node && mv $$made $(CACHE)/node

site: $(STAMP)  ## the documentation, offline, in runs/site/html: pages are run, warnings are errors
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev,docs,fleet,otel]'
	$(BIN)/sphinx-build -M html docs runs/site --quiet --fresh-env --fail-on-warning --keep-going --nitpicky --jobs auto
	@echo "open runs/site/html/index.html"

prometheus:  ## unpack Debian's prometheus and promtool, which check metrics and rules, where apt is there
	@command -v prometheus promtool && exit; test -x $(CACHE)/bin/promtool && exit; \
		sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); folder=$$(mktemp -d) && chmod 755 $$folder && cd $$folder; \
		command -v apt-get dpkg-deb $$sudo >/dev/null && $$sudo apt-get update && apt-get download prometheus \
		&& dpkg-deb -x prometheus_*.deb . && mkdir -p $(CACHE)/bin \
		&& mv usr/bin/prometheus usr/bin/promtool $(CACHE)/bin && rm -rf $$folder && $(CACHE)/bin/promtool --version \
		|| { echo "make prometheus needs Debian's apt-get, and root or sudo: install Prometheus so that prometheus and" \
			"promtool are on PATH, or run the tests without it" >&2; exit 1; }

otlp:  ## build otel-cli, a receiver of OpenTelemetry's traces, with Go
	@$(call built_by_go,otel-cli,$(OTEL_CLI),)

compose:  ## build compose-go, which reads compose files for Docker, with Go
	@$(call built_by_go,compose-go,$(COMPOSE_GO),/cmd)

grafana: $(GRAFANA)  ## build what reads a dashboard by Grafana's own types, with Go

$(GRAFANA): $(wildcard $(GRAFANA_SOURCE)/*)
	@command -v go >/dev/null || { echo "make grafana needs Go 1.21 or newer: install it, or run the tests without it" >&2; exit 1; }
	mkdir -p $(dir $@)
	go build -C $(GRAFANA_SOURCE) -o $@.part . && mv $@.part $@

notebook: $(STAMP)  ## JupyterLab on a notebook and a store (NAME=incident STORE=example LAB=--no-browser)
	$(BIN)/nestobs notebook $(NAME) --store $(STORE) --to runs/notebook $(LAB)

environment: $(STAMP)  ## write environment.yml from pyproject.toml
	$(BIN)/pyproject2conda yaml --extra dev --extra fleet --extra otel --name nestobs --python-include infer --no-header --output environment.yml

constraints: ## pin what installs now
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --all-extras --python-version 3.11 pyproject.toml --output-file constraints.txt

clean:  ## remove runs and caches; the store of a real target is never touched
	rm -rf runs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
