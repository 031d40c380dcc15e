package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"scripta/merkle/witness"
)

// TestWitnessCommand makes a witness's folder, and says what is wrong with one.
func TestWitnessCommand(t *testing.T) {
	t.Parallel()
	dir := witnessDir(filepath.Join(t.TempDir(), "w"))
	var out, errs bytes.Buffer
	if code := runWitnessInit([]string{"--dir", string(dir), "--name", "w.example/1"}, &out, &errs); code != 0 {
		t.Fatal(errs.String())
	}
	if _, err := witness.NewVerifier(strings.TrimSpace(out.String())); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(dir.key()); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st, err)
	}
	if code := runWitnessInit([]string{"--dir", string(dir), "--name", "w.example/1"}, io.Discard, io.Discard); code != 1 {
		t.Error("a second key was made")
	}
	for _, name := range []string{"", "a b", "a+b"} {
		if code := runWitnessInit([]string{"--dir", t.TempDir(), "--name", name}, io.Discard, io.Discard); code == 0 {
			t.Errorf("made a witness named %q", name)
		}
	}
	serve := func(o witnessOptions) error {
		ctx, stop := context.WithCancel(t.Context())
		stop()
		return serveWitness(ctx, dir, o, io.Discard, io.Discard)
	}
	here := witnessOptions{listen: "127.0.0.1:0"}
	if err := serve(here); err == nil || !strings.Contains(err.Error(), "names no log") {
		t.Errorf("without a log: %v", err)
	}
	log, err := note.NewEd25519VerifierKey("log.example/scripta/1", make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(dir.logs(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for text, want := range map[string]string{log + "\n" + log + "\n": "given twice", "# a\n\nx\n": "line 3"} {
		write(text)
		if err := serve(here); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("logs %q: %v", text, err)
		}
	}
	write("# ours\n " + log + " # since 2026\n")
	if err := serve(here); err != nil {
		t.Errorf("stopped at once: %v", err)
	}
	if err := serve(witnessOptions{listen: "127.0.0.1:0", cert: "absent"}); err == nil || !strings.Contains(err.Error(), "--tls-cert") {
		t.Errorf("without its TLS key: %v", err)
	}
}
