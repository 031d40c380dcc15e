package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// deploy/two.sh makes two providers of which each knows the other, by a directory
// that both accept, and never writes over what is there.
func TestTwoScript(t *testing.T) {
	t.Parallel()
	need(t, "openssl")
	script, two := filepath.Join("..", "..", "deploy", "two.sh"), filepath.Join(t.TempDir(), "two")
	if out, err := run(t, "sh", script, binary, two, "41000"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"alfa", "beta"} {
		dir := filepath.Join(two, name)
		out, err := run(t, binary, "index", "refresh", "--dir", dir)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		out, err = run(t, binary, "index", "show", "--dir", dir, "--providers")
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		for _, want := range []string{"2 records, 2 domains", "Alfa di prova", "Beta di prova"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", name, want, out)
			}
		}
		if strings.Contains(out, "remark") || strings.Contains(out, "trouble") {
			t.Errorf("%s does not agree with the directory:\n%s", name, out)
		}
	}
	if out, err := run(t, "sh", script, binary, two); err == nil {
		t.Errorf("it was made twice:\n%s", out)
	}
}
