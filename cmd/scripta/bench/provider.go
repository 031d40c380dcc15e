package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"scripta/internal/config"
	"scripta/internal/keys"
	"scripta/mta/mailbox"
)

const (
	benchDomain = "bench.example"
	password    = "prova"

	// ProviderCommand is the argument of `scripta bench` by which it runs the
	// provider that it measures: `serve` under a profile.
	ProviderCommand = "provider"
)

// provider is the one that is measured: the same program, running `serve` in a
// process of its own.
type provider struct {
	dir     config.Dir
	address string // of submission over TLS
	tls     *tls.Config
	child   *exec.Cmd
	stderr  bytes.Buffer
}

// initProvider makes a provider's folder with mailboxes named by address, as
// `scripta init` does. They share one password and its hash: Argon2id is slow on
// purpose.
func initProvider(ctx context.Context, binary, dir string, boxes int) (*provider, error) {
	p := &provider{dir: config.Dir(filepath.Join(dir, "provider"))}
	accounts := filepath.Join(dir, "accounts")
	if err := os.WriteFile(accounts, []byte(local(0)+":"+password+"\n"), 0o600); err != nil {
		return nil, err
	}
	init := exec.CommandContext(ctx, binary, "init", "--dir", string(p.dir), "--domain", benchDomain, "--provider", "Scripta bench", "--accounts-file", accounts)
	if out, err := init.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("couldn't make the provider: %w: %s", err, out)
	}
	if err := p.configure(); err != nil {
		return nil, err
	}
	if err := p.addMailboxes(boxes); err != nil {
		return nil, err
	}
	roots, err := keys.LoadCertificates(p.dir.PublicTLSCA())
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range roots {
		pool.AddCert(c)
	}
	p.tls = &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12}
	return p, nil
}

// configure leaves two ports open, for mail and for the embedded authority, and
// asks no network for the time.
func (p *provider) configure() error {
	cfg, err := config.Load(p.dir.Config())
	if err != nil {
		return err
	}
	if p.address, err = freeAddress(); err != nil {
		return err
	}
	stamps, err := freeAddress()
	if err != nil {
		return err
	}
	off := config.Closed
	cfg.Listen = config.Listen{Host: cfg.Listen.Host, PortBase: cfg.Listen.PortBase, Submissions: p.address, Submission: off, Incoming: off,
		HTTPS: off, IMAPS: off, POP3S: off, TSA: stamps, Metrics: off}
	cfg.Clock.Servers = nil
	// As many messages as are asked for; counting them is measured, too.
	cfg.Limits.MessagesPerHour, cfg.Limits.RecipientsPerDay = 100_000_000, 100_000_000
	return config.Write(p.dir.Config(), cfg)
}

// freeAddress finds a port of this host that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func local(i int) string   { return fmt.Sprintf("casella%04d", i) }
func address(i int) string { return local(i) + "@" + benchDomain }

// addMailboxes copies the account that init made.
func (p *provider) addMailboxes(boxes int) error {
	first, err := os.ReadFile(p.dir.Accounts())
	if err != nil {
		return err
	}
	store, err := mailbox.Open(p.dir.Mail(), mailbox.Options{Host: benchDomain})
	if err != nil {
		return err
	}
	var all strings.Builder
	for i := range boxes {
		all.WriteString(strings.Replace(strings.TrimRight(string(first), "\n"), address(0), address(i), 1) + "\n")
		if err := store.Create(address(i), config.Default("", "", 0).Mail.DefaultQuotaBytes); err != nil {
			return errors.Join(err, store.Close())
		}
	}
	return errors.Join(os.WriteFile(p.dir.Accounts(), []byte(all.String()), 0o600), store.Close())
}

// start runs the provider until stop and returns when it is ready.
func (p *provider) start(binary, profile string) error {
	args := []string{"serve", "--dir", string(p.dir), "--log-level", "warn"}
	if profile != "" {
		args = []string{"bench", ProviderCommand, "--dir", string(p.dir), "--cpuprofile", profile}
	}
	p.child = exec.Command(binary, args...)
	p.child.Stderr = &p.stderr
	out, err := p.child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.child.Start(); err != nil {
		return fmt.Errorf("couldn't start the provider: %w", err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "ready") {
			go io.Copy(io.Discard, out)
			return nil
		}
	}
	err = p.child.Wait()
	return fmt.Errorf("the provider ended before it was ready: %w: %s", err, p.stderr.String())
}

// stop ends the provider as an operator would and tells what it complained of.
func (p *provider) stop() error {
	if err := p.child.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	kill := time.AfterFunc(time.Minute, func() { _ = p.child.Process.Kill() })
	defer kill.Stop()
	if err := p.child.Wait(); err != nil {
		return fmt.Errorf("the provider did not end well: %w: %s", err, p.stderr.String())
	}
	if bytes.Contains(p.stderr.Bytes(), []byte("level=ERROR")) {
		return fmt.Errorf("the provider reported errors: %s", p.stderr.String())
	}
	return nil
}
