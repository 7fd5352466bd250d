# What people and CI call. Every target installs what it needs, or says what is missing.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Programs that no package manager brings are kept here, so that they are built once.
TOOLS := $(CURDIR)/.tools
export PATH := $(TOOLS)/bin:$(PATH)

QUOTAD := target/release/quotad
TRACES := conv code
# How many seeds `make soak` runs, and from which on.
SEEDS := 2000
FIRST := 1
# Flags for `make bench-peers`, such as --rounds 1 --only pair --markdown.
PEERS :=
# How long `make fuzz` may take, in seconds.
FUZZ_SECONDS := 300
# How long the benchmarks of `make bench` may take, in seconds, once they are compiled.
BENCH_SECONDS := 600

.PHONY: help run build test soak lint deny bench bench-instructions bench-peers loadtest fuzz clean need-build

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## Install redis-server if missing, build, and serve with a demo account
	@.ci/need redis
	$(QUOTAD) serve --demo

build: need-build ## Build the release binary
	cargo build --release

need-build:
	@.ci/need cargo cc

# Doc tests first: the summary of nextest is the last thing to be seen.
test: need-build ## Run all tests, with real Redis and SQL servers
	@.ci/need redis postgres mariadb openssl
	@.ci/need cargo-nextest
	cargo test --release --workspace --features quotad/faults --doc
	cargo nextest run --release --workspace --features quotad/faults

# What is told in the end is kept in target/soak.md, to be put into loadtest/results; its last line is all of it.
soak: need-build ## Random faults on real processes: SEEDS of them, from seed FIRST
	@.ci/need redis postgres mariadb
	mkdir -p target && failed=0; \
	QUOTAD_FAULT_SEEDS=$(SEEDS) QUOTAD_FAULT_FIRST=$(FIRST) \
	  cargo test --release --package quotad --features faults --test faults random_faults -- --nocapture \
	  | tee target/soak.log || failed=1; \
	sed -n '/^## Random faults/,/^soak: /p' target/soak.log >target/soak.md; \
	tail -n 1 target/soak.md; exit $$failed

# With --release, so that C code is compiled once for lint, test and run.
lint: need-build ## Formatting, clippy without warnings, unused dependencies
	@.ci/need cargo-machete
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	cargo clippy --release --workspace --all-targets --features quotad/faults -- -D warnings
	cargo machete

# Apart from lint, because building cargo-deny takes several minutes.
deny: need-build ## Licences, advisories and sources of all dependencies
	@.ci/need cargo-deny
	cargo deny --all-features check

bench: need-build ## Run the benchmarks
	@.ci/need redis postgres mariadb
	cargo bench --package quotad --benches --no-run
	timeout $(BENCH_SECONDS) cargo bench --package quotad --benches || \
	  { echo "the benchmarks failed, or took more than $(BENCH_SECONDS) s" >&2; exit 1; }

bench-instructions: need-build ## Instructions per operation, and how many it was last time
	.ci/instructions

bench-peers: build ## Compare with nginx + Lua, webdis and a bare Redis on this machine, print the table
	@.ci/need redis nginx-lua webdis wrk
	cargo build --release --package quotad-loadtest
	PATH="$$PATH:/usr/sbin" target/release/quotad-loadtest peers --quotad $(QUOTAD) $(PEERS)

loadtest: build ## Replay both traces against a fresh quotad, audit every unit, print the table
	@.ci/need redis
	cargo build --release --package quotad-loadtest
	for trace in $(TRACES); do \
	  target/release/quotad-loadtest run --profile $$trace --mode closed --speed max --spawn $(QUOTAD); \
	done
	target/release/quotad-loadtest redis-cost --spawn $(QUOTAD)

fuzz: build ## Random requests made from /openapi.json, bounded
	@.ci/need redis schemathesis
	.ci/fuzz $(QUOTAD) $(FUZZ_SECONDS)

clean: ## Remove what was built, but neither data nor tools
	cargo clean
