# AgentKeys: what can be done here. `make help` lists it.
# Works with GNU make 3.81 and newer; recipes are bash, the longer ones live in scripts/.
SHELL := bash
.DEFAULT_GOAL := help

FUZZTIME ?= 5s
BENCH ?= .
DEMO_ARGS ?=
MUTANT ?=

.PHONY: help setup build pkcs11 smoke demo test adversary model vet staticcheck fuzz bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## brings what demo and test need (Go, a C compiler), asks nothing
	@scripts/setup-dev-env.sh --minimal --yes --no-build

build: ## the six binaries into bin/ (some minutes the first time)
	@scripts/build.sh

pkcs11: setup ## the custodian for anchors on PKCS#11 tokens, into bin/pkcs11 (needs cgo)
	@scripts/build.sh --pkcs11

smoke: ## starts each built binary once, with --help
	@scripts/smoke.sh

demo: setup build ## use, steal, revoke, destroy, verify: the whole story on real processes
	@bin/agentkeys demo $(DEMO_ARGS)

test: setup build ## every test of every module; ends with "N passed, N failed"
	@scripts/test.sh

model: ## the Spin model of trees, anchors and chain, with its mutants (needs spin and gcc)
	@MODEL=required go test -count=1 -p 2 -parallel 2 -v ./model

adversary: $(if $(filter list,$(MUTANT)),,setup build) ## the thief who kept everything, long form (MUTANT=list, MUTANT=name: must fail)
	@scripts/adversary.sh $(MUTANT)

vet: ## go vet, every module
	@scripts/each-module.sh go vet -p 2 ./...

staticcheck: ## staticcheck, every module
	@scripts/staticcheck.sh

fuzz: ## every fuzz target for FUZZTIME (5s)
	@scripts/fuzz.sh $(FUZZTIME)

bench: ## Go benchmarks, every module (BENCH=regexp)
	@scripts/each-module.sh go test -p 1 -run '^$$' -bench '$(BENCH)' -benchmem ./...

clean: ## removes what build made
	@rm -rf bin
