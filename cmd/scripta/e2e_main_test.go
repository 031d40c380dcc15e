package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"scripta/internal/durable/powerfs"
)

// soak asks for the sizes that take hours: go test ./cmd/scripta -args -soak.
var soak = flag.Bool("soak", false, "run the end-to-end tests in their largest size")

// binary is the program under test, which TestMain builds.
var binary string

// TestMain builds the program once: end-to-end tests run what a user runs.
func TestMain(m *testing.M) {
	powerfs.ServeIfAsked()
	flag.Parse()
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "scripta-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "scripta")
	args := []string{"build", "-o", binary}
	if raceEnabled {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "couldn't build the program under test: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// strict reports whether a test may not be skipped.
func strict() bool { return os.Getenv("CI_STRICT") == "1" }

// missing ends a test that needs what this machine does not have.
func missing(t *testing.T, format string, a ...any) {
	t.Helper()
	if strict() {
		t.Fatalf(format, a...)
	}
	t.Skipf(format, a...)
}

// need returns the path of a program that a test cannot do without.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		missing(t, "%s is not installed", program)
	}
	return path
}

// size chooses how large a test is.
func size[T any](short, ci, soaking T) T {
	switch {
	case *soak:
		return soaking
	case testing.Short():
		return short
	}
	return ci
}

// seeded returns a source of random numbers that a failed run can be repeated
// with: its seed is logged, and the environment can set it.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("SCRIPTA_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("SCRIPTA_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("repeat with SCRIPTA_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// eventually waits until ok returns true.
func eventually(t *testing.T, long time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(long)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %v in vain: %s", long, what)
		}
	}
}

// run runs a program and returns what it wrote on both outputs.
func run(t *testing.T, program string, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	return string(out), err
}
