// Package slapdtest runs a real slapd with the directory of RFC 6109 §4.5, for
// tests of the index of providers. A server has its own configuration, database
// and port on loopback, and ends with the test.
package slapdtest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Options say what a server is like.
type Options struct {
	LDIF []byte // what slapadd fills it with; the root entry o=postacert first

	// Certificate and Key are PEM files: with them the server speaks LDAPS only.
	// ClientCA, if not empty, is the PEM file of who must have issued a client's
	// certificate.
	Certificate, Key, ClientCA string

	SizeLimit int // entries of an answer without paging; 0 = slapd's own (500)

	// Password, if not empty, is what cn=reader,o=postacert must bind with to read.
	Password string
}

// Reader is who Options.Password is of.
const Reader = "cn=reader,o=postacert"

// Server is a slapd with a database of its own. Its methods fail the test.
type Server struct {
	URL string // ldap://127.0.0.1:port or ldaps://localhost:port

	t       testing.TB
	options Options
	dir     string
	port    int
	process *exec.Cmd
	exited  chan struct{}
	said    *output
}

// Need skips the test when slapd or ldapsearch is not installed; under CI_STRICT it fails.
func Need(t testing.TB) {
	t.Helper()
	for _, program := range []string{"slapd", "slapadd", "slapcat", "ldapsearch"} {
		if _, err := find(program); err != nil {
			if os.Getenv("CI_STRICT") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
}

// find also looks where Debian puts servers, which is not in everybody's PATH.
func find(program string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	path, err := exec.LookPath("/usr/sbin/" + program)
	if err != nil {
		return "", fmt.Errorf("%s is not installed (Debian: slapd, ldap-utils)", program)
	}
	return path, nil
}

// Start runs a server until the test ends; see [Need].
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	Need(t)
	s := &Server{t: t, options: o, dir: t.TempDir(), said: new(output)}
	if err := os.WriteFile(s.path("slapd.conf"), []byte(s.configuration()), 0o600); err != nil {
		t.Fatal(err)
	}
	s.fill(o.LDIF)
	t.Cleanup(s.Stop)
	s.Run()
	return s
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Server) configuration() string {
	var b strings.Builder
	o := s.options
	fmt.Fprintf(&b, "include /etc/ldap/schema/core.schema\n%s\n", Schema)
	fmt.Fprintf(&b, "modulepath /usr/lib/ldap\nmoduleload back_mdb\npidfile %s\nargsfile %s\n", s.path("pid"), s.path("args"))
	if o.Certificate != "" {
		fmt.Fprintf(&b, "TLSCertificateFile %s\nTLSCertificateKeyFile %s\n", o.Certificate, o.Key)
	}
	if o.ClientCA != "" {
		fmt.Fprintf(&b, "TLSCACertificateFile %s\nTLSVerifyClient demand\n", o.ClientCA)
	}
	b.WriteString("database mdb\nsuffix \"o=postacert\"\n")
	fmt.Fprintf(&b, "directory %s\nmaxsize 67108864\ndbnosync\n", s.path("db"))
	if o.SizeLimit > 0 {
		fmt.Fprintf(&b, "sizelimit size=%d size.prtotal=unlimited\n", o.SizeLimit)
	}
	if o.Password != "" {
		fmt.Fprintf(&b, "rootdn \"%s\"\nrootpw \"%s\"\naccess to * by * auth\n", Reader, o.Password)
	} else {
		b.WriteString("access to * by * read\n")
	}
	return b.String()
}

// fill makes the database anew.
func (s *Server) fill(ldif []byte) {
	s.t.Helper()
	err := errors.Join(os.RemoveAll(s.path("db")), os.Mkdir(s.path("db"), 0o700))
	if err != nil {
		s.t.Fatal(err)
	}
	if len(ldif) > 0 {
		s.tool(ldif, "slapadd", "-f", s.path("slapd.conf"))
	}
}

// tool runs a program to its end and returns what it wrote.
func (s *Server) tool(stdin []byte, name string, args ...string) []byte {
	s.t.Helper()
	path, err := find(name)
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", name, err, &stderr)
	}
	return out
}

// Run starts the server again after [Server.Stop], on the port that it had.
func (s *Server) Run() {
	s.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		port := s.port
		if port == 0 {
			port = s.freePort()
		}
		err := s.run(port, deadline)
		if err == nil {
			s.port = port
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("slapd: %v\n%s", err, s.said)
		}
	}
}

func (s *Server) freePort() int {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// run starts slapd and returns when it accepts connections, or has ended.
func (s *Server) run(port int, deadline time.Time) error {
	path, err := find("slapd")
	if err != nil {
		return err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	listen := "ldap://" + address
	s.URL = listen
	if s.options.Certificate != "" {
		listen, s.URL = "ldaps://"+address, fmt.Sprintf("ldaps://localhost:%d", port)
	}
	if err := os.Remove(s.path("pid")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// -d keeps it in the foreground.
	s.process = exec.Command(path, "-d", "0", "-f", s.path("slapd.conf"), "-h", listen)
	s.process.Stdout, s.process.Stderr = s.said, s.said
	s.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // should the test process die
	if err := s.process.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	s.exited = exited
	process := s.process
	go func() { _ = process.Wait(); close(exited) }()
	for time.Now().Before(deadline) {
		// It writes its PID once it has the port: without that file, whoever answers
		// is somebody else, who took the port meanwhile.
		if _, err := os.Stat(s.path("pid")); err == nil {
			if c, err := net.DialTimeout("tcp", address, time.Second); err == nil {
				return c.Close()
			}
		}
		select {
		case <-exited:
			return errors.New("it ended at once")
		case <-time.After(10 * time.Millisecond):
		}
	}
	s.Stop()
	return errors.New("it does not answer")
}

// Stop ends the server, as a network that is cut; [Server.Run] brings it back.
func (s *Server) Stop() {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Kill()
	<-s.exited
	s.process = nil
}

// Replace gives the directory another content; the server restarts.
func (s *Server) Replace(ldif []byte) {
	s.t.Helper()
	s.Stop()
	s.fill(ldif)
	s.Run()
}

// Slapcat returns the whole database as LDIF; the server may run.
func (s *Server) Slapcat() []byte {
	s.t.Helper()
	return s.tool(nil, "slapcat", "-f", s.path("slapd.conf"))
}

// Search returns what ldapsearch -LLL says of o=postacert; args are its filter
// and attributes. It is for a server without TLS and password.
func (s *Server) Search(args ...string) []byte {
	s.t.Helper()
	return s.tool(nil, "ldapsearch", append([]string{"-LLL", "-x", "-H", s.URL, "-b", "o=postacert"}, args...)...)
}

// output keeps what slapd says.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
