# Two commands do everything: `make run` and `make test`.
export CGO_ENABLED ?= 0
export GOTOOLCHAIN = local

BIN     := bin/scripta
DIR     ?= run/pec
DOMAIN  ?= pec.example.it
BASE    ?= 10000
# The port base that was asked for by hand: an existing folder keeps its own.
ASKED_BASE = $(if $(filter command environment,$(origin BASE)),$(BASE))
# Static analysis, pinned; fetched and cached by the go command.
STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2

# CI=1 is the second tier: race detector, fuzzing, real servers, nothing skips.
ifeq ($(CI),1)
export CI_STRICT = 1
TESTFLAGS := -count=1 -timeout 15m
else
TESTFLAGS := -count=1 -short -timeout 5m
endif

.PHONY: build run two test lint race fuzz bench soak soak-kills clean

build:
	go build -trimpath -o $(BIN) ./cmd/scripta

# Builds, makes a test provider with two mailboxes if there is none, serves it,
# and prints what to try. Ports taken? rm -r run; make run BASE=23000
run: build
	@test -e $(DIR)/scripta.toml || $(BIN) init --dir $(DIR) --domain $(DOMAIN) --provider "Scripta di prova" \
	  --account mario:segreta --account lucia:segreta --port-base $(BASE)
	@./deploy/try.sh $(BIN) $(DIR) $(ASKED_BASE)

# Two test providers that know each other, in run/two: "Two providers" in
# docs/operating.md says what to try.
two: build
	@./deploy/two.sh $(BIN) run/two $(ASKED_BASE)

lint:
	@unformatted="$$(gofmt -l $$(git ls-files '*.go'))"; test -z "$$unformatted" || { echo "gofmt -w: $$unformatted"; exit 1; }
	go vet ./...
	$(STATICCHECK) ./...

ifeq ($(CI),1)
test: lint race fuzz
	go test $(TESTFLAGS) ./...
else
test: lint
	go test $(TESTFLAGS) ./...
endif

# Tests of the whole program in which one thing happens after the other: the race
# detector sees nothing in them that it does not see in the others, ten times slower.
SEQUENTIAL := Mutation|BitFlips|BackupKilledOrChanged|ReadmeSteps|TryScript|Walkthrough|PythonVerifierSaysWhy|DisposeOfAMonth|LargeMessages|LargeMessageIsScanned|BenchMail|MailboxesIndependently|TwoProvidersLarge|TwoProvidersManyRecipients|Scrub

race:
	CGO_ENABLED=1 go test -race -short -count=1 -timeout 15m -skip '^Test($(SEQUENTIAL))$$' ./...

# Ten seconds of each fuzz target.
fuzz:
	@.ci/fuzz 10s

# The register beside a raw file and Tessera, then FILL records in one register
# (10 million take some minutes and 10 GB), then the mail path.
FILL ?= 1000000
bench: build bin/bench-tessera
	$(BIN) bench log --rounds 3 --peer bin/bench-tessera
	$(BIN) bench log --fill $(FILL)
	$(BIN) bench mail

# Another log to measure against; a module of its own.
bin/bench-tessera: bench/tessera/main.go bench/tessera/go.mod
	cd bench/tessera && go build -trimpath -o ../../bin/bench-tessera .

# The full figures; results go into docs/soak.md by hand. Tests that need a
# program that is absent are skipped and say so.
soak: build
	go test -count=1 -timeout 12h -v -run 'Kill|Power|Chaos|Mutation|Published|Large|Many|BitFlips' ./cmd/scripta -args -soak

# A thousand SIGKILLs of a register under load; about ten minutes.
soak-kills:
	SCRIPTA_KILLS=1000 go test -count=1 -timeout 3h -v -run '^TestKilled$$' ./register

clean:
	rm -rf bin
