// Package clustertest runs a real cluster for tests: PostgreSQL of the system's
// packages and Trillian's own log server and log signer, on loopback, in a
// temporary folder. Only tests import it.
package clustertest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/trillian"
	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// startTime bounds the start of one program.
const startTime = 30 * time.Second

// Cluster is a running cluster. Its methods are for one goroutine.
type Cluster struct {
	// Address is the log server's.
	Address string
	// Database is a connection string of the database, which is at
	// DatabaseAddress.
	Database, DatabaseAddress string

	dir      string // everything lies here
	programs programs
	postgres *process
	server   *process
	signer   *process
	others   []*process
	cred     *syscall.Credential // of PostgreSQL, which does not run as root
	port     string              // PostgreSQL's
	log      func(format string, a ...any)
}

// programs are the paths of what is needed.
type programs struct{ initdb, postgres, server, signer, schema string }

// find looks for the programs; the error says what is missing.
func find() (p programs, err error) {
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(bins, func(a, b string) int { return version(b) - version(a) })
	for _, bin := range bins {
		p.initdb, p.postgres = filepath.Join(bin, "initdb"), filepath.Join(bin, "postgres")
		if _, err := os.Stat(p.initdb); err == nil {
			break
		}
		p.initdb = ""
	}
	if p.initdb == "" {
		return p, errors.New("PostgreSQL is not installed (Debian: postgresql)")
	}
	for name, path := range map[string]*string{"trillian_log_server": &p.server, "trillian_log_signer": &p.signer} {
		if *path, err = exec.LookPath(name); err != nil {
			cache, _ := os.UserCacheDir()
			*path = filepath.Join(cache, "scripta-ci", name)
			if _, err := os.Stat(*path); err != nil {
				return p, fmt.Errorf("%s is neither in PATH nor in %s (.ci/run builds it)", name, filepath.Dir(*path))
			}
		}
	}
	p.schema = filepath.Join(filepath.Dir(p.server), "trillian.sql")
	if _, err := os.Stat(p.schema); err != nil {
		return p, fmt.Errorf("there is no %s (.ci/run puts it there)", p.schema)
	}
	return p, nil
}

// Schema is the file of the database's schema, as build.sh puts it beside the
// servers.
func (c *Cluster) Schema() string { return c.programs.schema }

// version is the number in /usr/lib/postgresql/15/bin.
func version(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return n
}

// Start starts a cluster, which is stopped at the end of the test. Without the
// programs the test is skipped, or fails if CI_STRICT=1.
func Start(t testing.TB) *Cluster {
	t.Helper()
	c, err := New(t.Logf)
	switch {
	case errors.Is(err, ErrAbsent) && os.Getenv("CI_STRICT") == "1":
		t.Fatal(err)
	case errors.Is(err, ErrAbsent):
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

// ErrAbsent says that a program that is needed is not installed.
var ErrAbsent = errors.New("no cluster for tests")

// New starts a cluster for who has no test at hand. Stop it.
func New(log func(format string, a ...any)) (*Cluster, error) {
	p, err := find()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAbsent, err)
	}
	c := &Cluster{programs: p, log: log}
	if err := c.start(); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) start() (err error) {
	if c.dir, err = os.MkdirTemp("", "scripta-cluster-"); err != nil {
		return err
	}
	if err := c.credential(); err != nil {
		return err
	}
	initdb := exec.Command(c.programs.initdb, "-D", c.data(), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "--no-sync")
	initdb.Dir, initdb.SysProcAttr = c.dir, &syscall.SysProcAttr{Credential: c.cred}
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	if c.port, err = freePort(); err != nil {
		return err
	}
	c.DatabaseAddress = "127.0.0.1:" + c.port
	c.Database = c.DatabaseAt(c.DatabaseAddress)
	if err := c.StartPostgres(); err != nil {
		return err
	}
	schema, err := os.ReadFile(c.programs.schema)
	if err != nil {
		return err
	}
	if err := c.Exec(string(schema)); err != nil {
		return fmt.Errorf("couldn't make the schema: %w", err)
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	c.Address = "127.0.0.1:" + port
	if err := c.StartSigner(); err != nil {
		return err
	}
	return c.StartServer()
}

// DatabaseAt is the connection string of the database as it is reached at another
// address, such as a proxy's.
func (c *Cluster) DatabaseAt(address string) string {
	return "postgres://postgres@" + address + "/postgres?sslmode=disable"
}

// credential is that of the user postgres if we are root, whom PostgreSQL
// refuses.
func (c *Cluster) credential() error {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return fmt.Errorf("%w: running as root, and there is no user postgres", ErrAbsent)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	c.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(c.dir, int(uid), int(gid))
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

// freePort returns a port that nobody had a moment ago.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// Exec runs statements in the database.
func (c *Cluster) Exec(sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	conn, err := pgconn.Connect(ctx, c.Database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql).ReadAll()
	return err
}

// StartPostgres starts the database, after KillPostgres too.
func (c *Cluster) StartPostgres() error {
	deadline := time.Now().Add(startTime)
	for {
		p, err := c.run("postgres", c.cred, c.programs.postgres, "-D", c.data(), "-p", c.port,
			"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="+c.dir, "-c", "max_connections=80", "-c", "shared_buffers=64MB")
		if err != nil {
			return err
		}
		err = p.until(deadline, func() error { return c.Exec("SELECT 1") })
		if err == nil {
			c.postgres = p
			return nil
		}
		p.kill()
		// Processes of the one that was killed may still hold its memory.
		if time.Now().After(deadline) {
			return fmt.Errorf("PostgreSQL does not start: %w: %s", err, p.output())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// KillPostgres kills the database's first process by SIGKILL.
func (c *Cluster) KillPostgres() { c.postgres.kill() }

// StartServer starts the log server and waits until it answers.
func (c *Cluster) StartServer() (err error) {
	c.server, err = c.serve(c.Address, c.Database, insecure.NewCredentials())
	return err
}

// ServeOn starts one more log server, on another database of the same
// PostgreSQL, and returns its address.
func (c *Cluster) ServeOn(database string) (address string, err error) {
	port, err := freePort()
	if err != nil {
		return "", err
	}
	address = "127.0.0.1:" + port
	p, err := c.serve(address, database, insecure.NewCredentials())
	c.others = append(c.others, p)
	return address, err
}

// ServeTLS starts one more log server, which uses TLS, and returns its address.
// The certificate is for 127.0.0.1 and leads to one of roots; files are PEM.
func (c *Cluster) ServeTLS(certFile, keyFile string, roots *x509.CertPool) (address string, err error) {
	port, err := freePort()
	if err != nil {
		return "", err
	}
	address = "127.0.0.1:" + port
	p, err := c.serve(address, c.Database, credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}), "--tls_cert_file="+certFile, "--tls_key_file="+keyFile)
	c.others = append(c.others, p)
	return address, err
}

func (c *Cluster) serve(address, database string, creds credentials.TransportCredentials, more ...string) (*process, error) {
	p, err := c.run("log-server", nil, c.programs.server, append(more, "--rpc_endpoint="+address, "--http_endpoint=", "--storage_system=postgresql",
		"--postgresql_uri="+database, "--quota_system=noop", "--tree_gc=false", "--logtostderr")...)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
	if err != nil {
		return p, err
	}
	defer conn.Close()
	err = p.until(time.Now().Add(startTime), func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := trillian.NewTrillianAdminClient(conn).ListTrees(ctx, &trillian.ListTreesRequest{}, grpc.WaitForReady(true))
		return err
	})
	if err != nil {
		return p, fmt.Errorf("the log server does not start: %w: %s", err, p.output())
	}
	return p, nil
}

// KillServer kills the log server by SIGKILL.
func (c *Cluster) KillServer() { c.server.kill() }

// StartSigner starts the log signer.
func (c *Cluster) StartSigner() (err error) {
	c.signer, err = c.run("log-signer", nil, c.programs.signer, "--rpc_endpoint=127.0.0.1:0", "--http_endpoint=", "--storage_system=postgresql",
		"--postgresql_uri="+c.Database, "--quota_system=noop", "--force_master", "--sequencer_interval=10ms", "--batch_size=5000", "--logtostderr")
	return err
}

// KillSigner kills the log signer by SIGKILL.
func (c *Cluster) KillSigner() { c.signer.kill() }

// Stop stops everything and removes the folder.
func (c *Cluster) Stop() {
	for _, p := range append(c.others, c.server, c.signer, c.postgres) {
		if p != nil {
			p.kill()
		}
	}
	// What the database's first process leaves behind ends by itself, and may
	// write its last files meanwhile.
	for range 100 {
		if os.RemoveAll(c.dir) == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	c.log("couldn't remove %s", c.dir)
}

// process is a program that runs until it is killed.
type process struct {
	cmd   *exec.Cmd
	file  string // its output
	ended chan struct{}
	once  sync.Once
}

// run starts a program. It dies with this process, whatever ends that.
func (c *Cluster) run(name string, cred *syscall.Credential, program string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(program, args...), file: filepath.Join(c.dir, name+".log"), ended: make(chan struct{})}
	out, err := os.OpenFile(p.file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = c.dir, out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The signal comes when the thread that started the program ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
			close(p.ended)
		}
	}()
	return p, <-started
}

// until tries f until it succeeds, the program ends or time is up.
func (p *process) until(deadline time.Time, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("it ended: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

func (p *process) kill() {
	p.once.Do(func() { _ = p.cmd.Process.Kill() })
	<-p.ended
}

func (p *process) output() string {
	b, _ := os.ReadFile(p.file)
	return string(b[max(0, len(b)-4000):])
}
