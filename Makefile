# Millrace: `make help` lists what there is.
GO         ?= go
BIN        := bin/millrace
VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS    := -s -w -X main.version=$(VERSION)
LINT       := $(GO) tool -modfile=tools/go.mod golangci-lint
FUZZTIME   ?= 60s
BENCH      ?= .
BENCHTIME  ?= 1s
# Two packages at a time, however many processors there are: more would have tests wait for each other.
RACEFLAGS  ?= -p 2

.DEFAULT_GOAL := help
.PHONY: help run test race lint fuzz bench build e2e cl-proxy soak cross docs clean release release-check image-check deploy-check promtool

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## run a node with no configuration: orders on 127.0.0.1:8080, admin on 127.0.0.1:8090, data in ./data
	./$(BIN) node

build: ## build bin/millrace
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/millrace

test: ## unit and integration tests, at most three minutes
	$(GO) test -timeout 5m ./...

# deploy runs programs on files, among them a binary without the race detector: it would see nothing there.
race: ## the same tests under the race detector, those of deploy excepted
	$(GO) test -race -timeout 20m $(RACEFLAGS) $$($(GO) list ./... | grep -v '^millrace/deploy$$')

lint: ## golangci-lint at the version that tools/go.mod pins
	$(LINT) run ./...

fuzz: ## every fuzz target for FUZZTIME (60s) each
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; done

bench: ## every benchmark with allocations: BENCH, BENCHTIME
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -benchtime $(BENCHTIME) ./...

# cl-proxy is measured beside this engine where somebody has built it: from a clone, because it is no dependency of ours.
CLPROXY_SRC ?=
ifneq ($(wildcard bin/cl-proxy),)
export MILLRACE_CLPROXY_BIN ?= $(CURDIR)/bin/cl-proxy
endif

# So is the first order-flow proxy, as a peer: bin/v1b, built from flashbots/tdx-orderflow-proxy at 78e0d2f.
ifneq ($(wildcard bin/v1b),)
export MILLRACE_V1B_BIN ?= $(CURDIR)/bin/v1b
endif

cl-proxy: ## bin/cl-proxy, which e2e then measures as well, from a clone of flashbots/builder-playground: CLPROXY_SRC
	@test -d '$(CLPROXY_SRC)/cl-proxy' || { echo "CLPROXY_SRC: expected a clone of flashbots/builder-playground"; exit 1; }
	cd '$(CLPROXY_SRC)' && $(GO) build -trimpath -o $(CURDIR)/bin/cl-proxy ./cl-proxy/cmd

# Most of these tests wait most of their time, so more run at once than there are processors; those that measure run alone.
E2E_PARALLEL ?= 2

e2e: ## real processes, clients and connections, one kill of each kind, at most twelve minutes
	$(GO) test -tags e2e -count=1 -timeout 25m -parallel $(E2E_PARALLEL) -v ./cmd/millrace/e2e/
	$(GO) test -tags e2e -count=1 -timeout 5m -run Geth ./ingress/engine ./egress/engine

# What a node does is done once more without the tap: a node taps its orders by default.
UNTAPPED := Test(KillingTheNode|StoppingUnderLoad|ASteadyLoad|AnOutage|ALongOutage|ABuilderThatFails|AThousand|CancelUpdate)
SOAK     := MILLRACE_E2E_ROUNDS=10 MILLRACE_E2E_SOAK=1 MILLRACE_E2E_REPORT=$(CURDIR)/soak-report.txt
E2E      := $(GO) test -tags e2e -count=1 -timeout 120m -v ./cmd/millrace/e2e/

soak: ## the same by hand, ten kills of each kind, the long outages, nodes with and without the tap; writes soak-report.txt
	@rm -f soak-report.txt; echo "the first ten minutes compare latencies: leave the machine to them"
	$(SOAK) $(E2E) -run '^TestPriority'
	$(SOAK) MILLRACE_E2E_TAP=off $(E2E) -run '^TestPriority'
	$(SOAK) $(E2E) -skip '^Test(Priority|ASoak)'
	$(SOAK) $(E2E) -run '^TestASoak'
	$(SOAK) MILLRACE_E2E_TAP=off $(E2E) -run '$(UNTAPPED)'

cross: ## cross-builds without cgo: linux/arm64, darwin/arm64, darwin/amd64
	@set -e; for t in linux/arm64 darwin/arm64 darwin/amd64; do \
	  echo "== $$t"; CGO_ENABLED=0 GOOS=$${t%/*} GOARCH=$${t#*/} $(GO) build -trimpath -ldflags '$(LDFLAGS)' \
	    -o dist/millrace-$${t%/*}-$${t#*/} ./cmd/millrace; done

# A release is the same bytes wherever it is built: no paths, no build ids, static.
RELEASE    ?= dist/release
RELEASE_LD := -s -w -buildid= -X main.version=$(VERSION) -linkmode external -extldflags "-static -Wl,--build-id=none"

release: ## a static, reproducible binary in dist/release, with its SHA-256
	@mkdir -p $(RELEASE)
	CGO_ENABLED=1 CGO_CFLAGS="-O2 -g0 -ffile-prefix-map=$(CURDIR)=/src -ffile-prefix-map=$$($(GO) env GOMODCACHE)=/mod" \
	  $(GO) build -trimpath -buildvcs=auto -tags netgo,osusergo -ldflags '$(RELEASE_LD)' -o $(RELEASE)/millrace ./cmd/millrace
	@cd $(RELEASE) && sha256sum millrace > SHA256SUMS && cat SHA256SUMS && ./millrace version

release-check: release ## build the release once more, from a clone elsewhere with an empty cache: the same bytes
	@set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; git clone -q . $$dir/elsewhere; \
	  if [ -n "$$(git status --porcelain)" ]; then echo "uncommitted changes: a clone builds something else"; exit 1; fi; \
	  GOCACHE=$$dir/cache GOFLAGS=-modcacherw $(MAKE) --no-print-directory -C $$dir/elsewhere release VERSION=$(VERSION); \
	  cmp $(RELEASE)/millrace $$dir/elsewhere/$(RELEASE)/millrace && echo "same bytes"

image-check: release ## run the image's root filesystem without a container engine (as root), serving an order
	MILLRACE_RELEASE_BIN=$(CURDIR)/$(RELEASE)/millrace $(GO) test -count=1 -run TestImage -v ./deploy/

deploy-check: promtool ## every deployment file, read by the tool that will read it; nothing is skipped
	MILLRACE_DEPLOY_TOOLS=required $(GO) test -count=1 ./deploy/
	cd deploy/check && $(GO) vet ./... && $(GO) test -count=1 ./...

promtool: bin/promtool ## Prometheus's own checker, out of Debian's package, into bin
bin/promtool:
	@mkdir -p bin; set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; chmod 0755 $$dir; \
	  (cd $$dir && { apt-get -q download prometheus || { apt-get -q update && apt-get -q download prometheus; }; }); \
	  dpkg-deb --fsys-tarfile $$dir/prometheus_*.deb | tar -x -O ./usr/bin/promtool > bin/promtool.new; \
	  chmod 0755 bin/promtool.new && mv bin/promtool.new bin/promtool

docs: build ## regenerate docs/config.md from the flags
	./$(BIN) config reference > docs/config.md

clean: ## remove what was built
	rm -rf bin dist
