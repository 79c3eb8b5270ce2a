# Lethe. `make` lists what there is.
GO ?= go
TOOL = $(GO) tool -modfile=tools/go.mod
AREA ?= all

.DEFAULT_GOAL := help
.PHONY: help build test properties check lint fmt generate demo bench

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/lethe, a static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o bin/lethe ./cmd/lethe

test: ## Pass all tests; installs and starts PostgreSQL, MariaDB and an S3 server
	$(GO) run ./test/services -- $(GO) test -timeout 30m ./...

properties: ## Draw new worlds for the property tests; make test repeats known ones
	$(GO) run ./test/services -- env LETHE_TEST_RANDOM=1 $(GO) test -timeout 60m ./connectors/... ./internal/engine

check: ## What must hold before a commit: formatting, vet, lint
	@test -z "$$($(TOOL) gofumpt -l $$(git ls-files '*.go' | grep -v '\.gen\.go$$'))" || { echo 'run make fmt'; exit 1; }
	$(GO) vet ./...

lint: ## Lint with the curated set of .golangci.yml
	$(TOOL) golangci-lint run ./...

fmt: ## Format
	$(TOOL) gofumpt -w $$(git ls-files '*.go' | grep -v '\.gen\.go$$')

generate: ## Generate server and client from openapi.yaml
	$(GO) generate ./...

demo: ## Watch an access and an erasure request, and a night of retention
	$(GO) run ./cmd/lethe demo

bench: ## Measure; AREA=erase|export|intake|queue|records|retention|retention-mariadb|all, results in bench/results
	$(GO) run ./test/services -- $(GO) run ./bench -area $(AREA)
