// Package scripta_test holds the order of the rooms: who may import whom.
package scripta_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// rooms in the order of imports: each may import those after it, and itself.
var rooms = []string{"cmd", "api", "mta", "archive", "register", "merkle", "tsa", "internal"}

// pure packages and what of this module they may import: formats without I/O.
var pure = map[string][]string{
	"mta/pec":           {"internal/cms"},
	"merkle/tiles":      {},
	"merkle/checkpoint": {},
	"register/record":   {"internal/seal"},
	"register/calendar": {},
}

// Imports of tests count too, but for those packages that only tests import.
func TestImportOrder(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	rank := map[string]int{}
	for i, r := range rooms {
		rank[r] = i
	}
	n := 0
	dec := json.NewDecoder(bufio.NewReader(bytes.NewReader(out)))
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		path, ok := strings.CutPrefix(p.ImportPath, "scripta/")
		if !ok {
			continue
		}
		n++
		room, _, _ := strings.Cut(path, "/")
		from, known := rank[room]
		if !known {
			t.Errorf("%s is in no room: %v", path, rooms)
			continue
		}
		for _, imp := range p.Imports {
			imp, ours := strings.CutPrefix(imp, "scripta/")
			if !ours {
				continue
			}
			to, _, _ := strings.Cut(imp, "/")
			if rank[to] < from {
				t.Errorf("%s imports %s: imports go downwards only (%s)", path, imp, strings.Join(rooms, " → "))
			}
			if allowed, is := pure[path]; is && !contains(allowed, imp) {
				t.Errorf("%s is pure and imports %s", path, imp)
			}
		}
	}
	if n < 15 {
		t.Errorf("go list found %d packages of this module", n)
	}
}

// TestNotLinked holds what the program must not contain: Trillian's storages and
// the servers that it talks to in a cluster, and what only tests use.
func TestNotLinked(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "./cmd/scripta").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := strings.Fields(string(out))
	if !contains(deps, "github.com/jackc/pgx/v5/pgconn") { // of the lease: the list is whole
		t.Error("go list does not find what is linked")
	}
	for _, dep := range deps {
		for _, not := range []string{
			"github.com/google/trillian/storage/postgresql", "github.com/google/trillian/storage/mysql", "github.com/google/trillian/storage/crdb",
			"github.com/google/trillian/storage/cloudspanner", "github.com/google/trillian/cmd", "github.com/google/trillian/quota/postgresqlqm",
			"github.com/jackc/pgx/v5/pgxpool", "scripta/merkle/cluster/clustertest",
		} {
			if contains([]string{not}, dep) {
				t.Errorf("scripta links %s", dep)
			}
		}
		if dep == "github.com/jackc/pgx/v5" {
			t.Error("scripta links all of pgx, the lease needs pgconn alone")
		}
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s || strings.HasPrefix(s, x+"/") {
			return true
		}
	}
	return false
}
