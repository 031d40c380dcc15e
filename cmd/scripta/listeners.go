package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"

	"scripta/api"
)

// listeners are the open ports of a daemon.
type listeners struct {
	log *slog.Logger
	all []*listening
}

type listening struct {
	name  string
	l     net.Listener
	serve func(net.Listener) error
	http  *http.Server // nil for SMTP, whose server has its own shutdown
}

// add opens a port for an SMTP server or an HTTP handler.
func (ls *listeners) add(name, address string, serve func(net.Listener) error, h http.Handler, t *tls.Config) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("couldn't listen for %s (is another program on the port? see listen.* in scripta.toml): %w", name, err)
	}
	x := &listening{name: name, l: l, serve: serve}
	if h != nil {
		x.http = api.NewServer(h, t.Clone(), ls.log) // it adds its protocols to its own copy
		x.serve = x.http.Serve
		if t != nil {
			x.serve = func(l net.Listener) error { return x.http.ServeTLS(l, "", "") }
		}
	}
	ls.all = append(ls.all, x)
	return nil
}

// control opens the control socket, which only the owner may use. A socket left
// by a process that died is replaced: the folder's lock says that it is dead.
func (ls *listeners) control(name string, h http.Handler) error {
	const longest = 107 // unix(7): 108 bytes with the NUL
	if len(name) > longest {
		return fmt.Errorf("the control socket's path %s has %d bytes, and a socket's may have %d: give a shorter --dir, such as a relative one", name, len(name), longest)
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("couldn't replace the old control socket: %w", err)
	}
	l, err := net.Listen("unix", name)
	if err != nil {
		return fmt.Errorf("couldn't open the control socket: %w", err)
	}
	if err := os.Chmod(name, 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	s := api.NewServer(h, nil, ls.log)
	s.WriteTimeout = 0 // an extract may take long
	ls.all = append(ls.all, &listening{name: "control socket", l: l, serve: s.Serve, http: s})
	return nil
}

// serve serves all in the background; ended hears of one that ended by itself.
func (ls *listeners) serve(ended func(name string, err error)) {
	for _, x := range ls.all {
		go func() {
			if err := x.serve(x.l); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				ended(x.name, err)
			}
		}()
	}
}

// shutdown lets HTTP requests under way finish.
func (ls *listeners) shutdown(ctx context.Context) {
	for _, x := range ls.all {
		if x.http != nil {
			_ = x.http.Shutdown(ctx)
		}
	}
}

// close closes ports that were never served.
func (ls *listeners) close() {
	for _, x := range ls.all {
		_ = x.l.Close()
	}
}
