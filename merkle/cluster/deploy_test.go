package cluster_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"scripta/merkle/cluster"
	"scripta/merkle/cluster/clustertest"
)

const deploy = "../../deploy/cluster"

// TestDeployLease holds that operators make the table of leases that this package
// uses.
func TestDeployLease(t *testing.T) {
	t.Parallel()
	lease, err := os.ReadFile(filepath.Join(deploy, "lease.sql"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(lease), cluster.LeaseTable+";") {
		t.Error("deploy/cluster/lease.sql makes another table than the program")
	}
}

// TestDeploySetup runs the script for operators, twice, and takes a lease as the
// role that it made.
func TestDeploySetup(t *testing.T) {
	t.Parallel()
	c := clustertest.Start(t)
	host, port, err := net.SplitHostPort(c.DatabaseAddress)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		cmd := exec.Command(filepath.Join(deploy, "setup.sh"), c.Schema(), "deployed")
		cmd.Env = append(os.Environ(), "PGHOST="+host, "PGPORT="+port, "PGUSER=postgres")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "database deployed is ready") {
			t.Fatalf("setup.sh: %v\n%s", err, out)
		}
	}
	database := "postgres://scripta@" + c.DatabaseAddress + "/deployed?sslmode=disable"
	l, err := cluster.Take(t.Context(), cluster.LeaseOptions{Database: database, Origin: "log.example/scripta/1", Node: "a", TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Renew(t.Context()); err != nil {
		t.Error(err)
	}
	conn, err := pgconn.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, sql := range []string{"DELETE FROM scripta_lease", "SELECT * FROM LeafData", "DELETE FROM TreeHead"} {
		_, err := conn.Exec(t.Context(), sql).ReadAll()
		if pg := (*pgconn.PgError)(nil); !errors.As(err, &pg) || pg.Code != "42501" { // insufficient_privilege
			t.Errorf("%s: %v", sql, err)
		}
	}
	// The servers' role can use its tables.
	if address, err := c.ServeOn("postgres://trillian@" + c.DatabaseAddress + "/deployed?sslmode=disable"); err != nil {
		t.Error(err)
	} else if conn, err := cluster.Dial(address, nil); err != nil {
		t.Error(err)
	} else {
		defer conn.Close()
		if _, err := conn.Tree(t.Context(), "log.example/scripta/1", 0); err != nil {
			t.Error(err)
		}
	}
}
