package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/mod/sumdb/note"

	"scripta/api"
	"scripta/internal/durable"
	"scripta/merkle/witness"
)

const witnessInitUsage = `usage: scripta witness init --dir DIR --name NAME

Makes the folder of a witness for other providers' logs, with its key, and prints
the public key: the operators of the logs write it into witness.peers. Their logs'
public keys (log.vkey) go into DIR/logs, one a line.

`

const witnessServeUsage = `usage: scripta witness serve --dir DIR [--listen ADDRESS:PORT] [--tls-cert FILE --tls-key FILE]

Cosigns the checkpoints of the logs that DIR/logs names (c2sp.org/tlog-witness),
until SIGTERM. Never bring an older copy of DIR back: it says what was cosigned.

`

func witnessCommands() []command {
	return []command{
		{name: "init", about: "make a witness's folder and its key", run: runWitnessInit},
		{name: "serve", about: "cosign the logs that the folder names", run: runWitnessServe},
	}
}

// witnessDir is the folder of a witness.
type witnessDir string

func (d witnessDir) key() string   { return filepath.Join(string(d), "witness.key") }
func (d witnessDir) vkey() string  { return filepath.Join(string(d), "witness.vkey") }
func (d witnessDir) logs() string  { return filepath.Join(string(d), "logs") }
func (d witnessDir) state() string { return filepath.Join(string(d), "state") }

func runWitnessInit(args []string, stdout, stderr io.Writer) int {
	f := newFlags("witness init", witnessInitUsage, stdout, stderr)
	dir := f.String("dir", "", "`DIR` to make")
	name := f.String("name", "", "`NAME` of the witness: a URL of yours without https://, such as witness.example/1; it is public and for ever")
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	if *name == "" {
		return f.wrong("--name is missing")
	}
	vkey, err := initWitness(witnessDir(*dir), *name)
	if err != nil {
		return f.failed(err)
	}
	fmt.Fprintln(stdout, vkey)
	return 0
}

// initWitness makes a key where there is none: a new one would forget what the
// old one cosigned.
func initWitness(dir witnessDir, name string) (vkey string, err error) {
	if _, err := os.Lstat(dir.key()); err == nil {
		return "", fmt.Errorf("%s is there already", dir.key())
	}
	skey, vkey, err := witness.GenerateKey(rand.Reader, name)
	if err != nil {
		return "", err
	}
	if err := durable.MkdirAll(durable.OS, filepath.Clean(string(dir)), 0o700); err != nil {
		return "", err
	}
	const logs = "# The logs that this witness cosigns: the public key of each (log.vkey), one a line.\n"
	for _, file := range []struct {
		name, text string
		mode       os.FileMode
	}{{dir.logs(), logs, 0o644}, {dir.vkey(), vkey + "\n", 0o644}, {dir.key(), skey + "\n", 0o600}} {
		if err := durable.WriteFile(durable.OS, file.name, []byte(file.text), file.mode); err != nil {
			return "", err
		}
	}
	return vkey, nil
}

func runWitnessServe(args []string, stdout, stderr io.Writer) int {
	f := newFlags("witness serve", witnessServeUsage, stdout, stderr)
	dir := f.String("dir", "", "`DIR` that scripta witness init made")
	var o witnessOptions
	f.StringVar(&o.listen, "listen", "127.0.0.1:8180", "`ADDRESS` and port")
	f.StringVar(&o.cert, "tls-cert", "", "PEM `FILE` with the TLS certificate and its intermediates; without it HTTP is served, for a proxy")
	f.StringVar(&o.key, "tls-key", "", "PEM `FILE` with its key")
	f.Float64Var(&o.perAddress, "requests", 0, "`NUMBER` of requests a second that one address may make; 0: 20. Behind a proxy all have one")
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serveWitness(ctx, witnessDir(*dir), o, stdout, stderr); err != nil {
		return f.failed(err)
	}
	return 0
}

// witnessOptions are the flags of witness serve.
type witnessOptions struct {
	listen, cert, key string
	perAddress        float64
}

func serveWitness(ctx context.Context, dir witnessDir, o witnessOptions, stdout, stderr io.Writer) error {
	b, err := os.ReadFile(dir.key())
	if err != nil {
		return fmt.Errorf("couldn't read the witness's key (scripta witness init makes it): %w", err)
	}
	signer, err := witness.NewSigner(strings.TrimSpace(string(b)))
	if err != nil {
		return fmt.Errorf("%s: %w", dir.key(), err)
	}
	logs, err := watchedLogs(dir.logs())
	if err != nil {
		return err
	}
	var tlsConfig *tls.Config
	if o.cert != "" || o.key != "" {
		cert, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return fmt.Errorf("couldn't load the TLS certificate (--tls-cert and --tls-key): %w", err)
		}
		tlsConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	log, err := newLogger(stderr, "info", false)
	if err != nil {
		return err
	}
	s, err := witness.OpenServer(witness.ServerOptions{Dir: dir.state(), Signer: signer, Logs: logs, PerAddress: o.perAddress, Logger: log})
	if errors.Is(err, durable.ErrLocked) {
		return fmt.Errorf("another witness runs in %s: %w", dir, err)
	} else if err != nil {
		return err
	}
	defer s.Close()
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	server, scheme := api.NewServer(s, tlsConfig, log), "http"
	serve := func() error { return server.Serve(l) }
	if tlsConfig != nil {
		scheme, serve = "https", func() error { return server.ServeTLS(l, "", "") }
	}
	ended := make(chan error, 1)
	go func() { ended <- serve() }()
	fmt.Fprintf(stdout, "ready witness=%s://%s name=%s logs=%d\n", scheme, l.Addr(), signer.Verifier().Name(), len(logs))
	select {
	case err = <-ended:
	case <-ctx.Done():
		drain, cancel := context.WithTimeout(context.Background(), drainTime)
		defer cancel()
		err = server.Shutdown(drain)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// watchedLogs reads the public keys of the logs that a witness cosigns.
func watchedLogs(file string) ([]note.Verifier, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("couldn't read which logs are witnessed: %w", err)
	}
	var logs []note.Verifier
	for i, line := range strings.Split(string(b), "\n") {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "#")
		if line == "" {
			continue
		}
		v, err := note.NewVerifier(strings.TrimSpace(line))
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: not the public key of a log (its public/log.vkey): %w", file, i+1, err)
		}
		logs = append(logs, v)
	}
	if len(logs) == 0 {
		return nil, fmt.Errorf("%s names no log: write the public key (public/log.vkey) of each log that is to be cosigned, one a line", file)
	}
	return logs, nil
}
