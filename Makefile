# The project's commands. Each one first makes the machine ready (scripts/setup.sh), so all of them
# work on a fresh Debian with Rust and make.
#
# One profile and one set of features serve every command. `--workspace` with a target selection that
# counts development dependencies (--all-targets, --examples, a test run) makes cargo resolve the same
# features each time, so dependencies are compiled twice on a cold machine and never again: once as
# metadata (clippy, rustdoc), once as code (tests, demo, testnet). The smallest device has a set of features of its own,
# for which clippy reads them once more: three minutes of one core on a cold machine.

SHELL := /bin/bash
CARGO ?= cargo
PREFIX ?= $(HOME)/.local
CARGO_TARGET_DIR ?= target
BINARIES := windlass windlass-node windlass-testnet
BUILD := $(CARGO) build --locked --workspace --bins --examples

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup setup-lint build demo testnet check fmt clippy docs deny arrows no-std contracts \
	embedded interop peers test verification soak bench bench-chain bench-resolution bench-load bench-sync bench-fixture install

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:
	@scripts/setup.sh

setup-lint:
	@scripts/setup.sh lint

build: setup ## every binary, for development
	$(BUILD)

demo: build ## the main job, end to end, as separate processes on loopback
	@"$(CARGO_TARGET_DIR)/debug/demo"

testnet: build ## a local chain, nodes and devices, until Ctrl-C
	@"$(CARGO_TARGET_DIR)/debug/windlass-testnet" up

check: fmt clippy docs deny arrows no-std contracts ## formatting, lints, documentation, licences, architecture, artifacts

fmt: setup-lint ## formatting
	$(CARGO) fmt --all -- --check
	$(CARGO) fmt --manifest-path protocol/no-std-check/Cargo.toml -- --check
	$(CARGO) fmt --manifest-path tests/bench/Cargo.toml -- --check

clippy: setup-lint ## lints, warnings refused; the smallest device too, whose features no other command selects
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked -p windlass-client --no-default-features --lib --example embedded -- -D warnings

docs: setup ## public documentation, warnings refused
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --lib --examples

deny: setup-lint ## licences, sources and banned crates
	@scripts/deny.sh

arrows: setup ## the dependency edges that may not exist
	@scripts/arrows.sh

no-std: setup ## protocol, linked and run without the standard library
	@scripts/no_std.sh

contracts: setup ## committed artifacts recompiled and compared, forge's tests
	@contracts/check.sh

peers: ## other people's chain and clients, pinned, for the tests that compare with them
	@tests/interop/install.sh

embedded: build ## the smallest device as it is released: its size, its memory and its traffic
	$(CARGO) build --locked --profile embedded -p windlass-client --no-default-features --example embedded
	@"$(CARGO_TARGET_DIR)/debug/smallest-device" "$(CARGO_TARGET_DIR)/embedded/examples/embedded"

interop: build contracts peers ## the embedded chain beside anvil, and used by other people's clients; part of test
	$(CARGO) test --locked --workspace --test interop

test: build contracts peers verification ## every test, short forms
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	  echo "$(CARGO) nextest run --workspace"; \
	  $(CARGO) nextest run --locked --workspace && $(CARGO) test --locked --workspace --doc --quiet; \
	else \
	  echo "$(CARGO) test --workspace (cargo-nextest is not installed)"; \
	  $(CARGO) test --locked --workspace --quiet; \
	fi

verification: build ## docs/verification.md names only tests and commands that exist
	@scripts/verification.sh

soak: build peers ## properties over many more cases, contracts fuzzed for long, each of their rules deleted; takes hours
	PROPTEST_CASES=20000 WINDLASS_EVERY_BYTE=1 WINDLASS_PUNCHES=20 WINDLASS_KILLS=200 WINDLASS_HISTORIES=200 $(CARGO) test --locked --workspace
	WINDLASS_STEPS=1000000 $(CARGO) test --locked --workspace --lib random_histories_leave
	WINDLASS_ASLEEP=600 $(CARGO) test --locked --workspace --test stopped
	WINDLASS_MUTATIONS=2000000 $(CARGO) test --locked --workspace --test targets
	WINDLASS_KILLS=1000 $(CARGO) test --locked --workspace --test process killed_at_any_moment
	contracts/check.sh --soak

bench: setup ## figures beside stock rust-libp2p and iroh; QUICK=1 ends within 5 minutes once built
	@scripts/bench.sh

# The packages of `install`, so that both share what they compile.
BENCH_CHAIN := $(CARGO) bench --locked -p windlass-cli -p windlass-node -p windlass-testnet --bench figures --
ANVIL := tests/interop/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil
BESIDE = $(if $(wildcard $(ANVIL)),--anvil $(abspath $(ANVIL)))

bench-chain: setup ## figures of the embedded chain and the local network, beside anvil if tests/interop is installed
	$(BENCH_CHAIN) start
	$(BENCH_CHAIN) load $(BESIDE)
	$(BENCH_CHAIN) proofs --slots 100000 $(BESIDE)
	$(BENCH_CHAIN) proofs --slots 1000000

bench-resolution: setup ## figures of proven resolution in a node, for 10^3 to 10^6 slots
	$(CARGO) bench --locked -p windlass-cli -p windlass-node -p windlass-testnet --bench resolution

bench-load: bench-fixture ## devices by the thousand, many flows, many opens, with shipped limits; builds what `make bench` does
	@scripts/bench.sh load

bench-sync: setup ## figures of a node's first sync and restarts, for 10^3 to 10^6 devices; fixtures are made once
	$(BENCH_CHAIN) sync 1000 10000 100000 1000000

bench-fixture: setup ## networks of 10^3 to 10^6 devices, enrolled in real blocks, made once under ~/.cache/windlass
	$(BENCH_CHAIN) fixture 1000 10000 100000 1000000

install: setup ## release binaries into PREFIX/bin (default ~/.local/bin)
	$(CARGO) build --locked --release -p windlass-cli -p windlass-node -p windlass-testnet --bins
	install -d "$(DESTDIR)$(PREFIX)/bin"
	cd "$(CARGO_TARGET_DIR)/release" && install -m 755 $(BINARIES) "$(DESTDIR)$(PREFIX)/bin/"
	@case ":$$PATH:" in *":$(PREFIX)/bin:"*) ;; *) echo 'now run: export PATH="$(PREFIX)/bin:$$PATH"' ;; esac
