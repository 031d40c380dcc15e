package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"scripta/internal/config"
	"scripta/internal/keys"
)

const logUsage = `usage: scripta log verify --dir DIR

Recomputes the whole log of a stopped provider: every leaf, every tile, the root
and the published checkpoint, and opens every sealed record against its leaf.

`

func runLog(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 || args[0] != "verify" {
		fmt.Fprint(stderr, logUsage)
		return 2
	}
	f := flag.NewFlagSet("log verify", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { fmt.Fprint(stderr, logUsage); f.PrintDefaults() }
	dir := f.String("dir", "", "folder of the provider")
	if code, ok := parse(f, args[1:], stderr, dir); !ok {
		return code
	}
	log, _ := newLogger(stderr, "warn", false)
	ctx := context.Background()
	a, err := openApp(ctx, config.Dir(*dir), log)
	if err == nil {
		err = a.verifyLog(ctx, stdout)
		err = errors.Join(err, a.close())
	}
	if errors.Is(err, errRunning) {
		err = fmt.Errorf("%w: stop it first", err)
	}
	if err != nil {
		fmt.Fprintf(stderr, "scripta log verify: %v\n", err)
		return 1
	}
	return 0
}

// verifyLog recomputes the log and opens every record.
func (a *app) verifyLog(ctx context.Context, out io.Writer) error {
	size := a.merkle.Size()
	if err := a.merkle.Verify(ctx); err != nil {
		return err
	}
	var opened, disposed uint64
	for i := range size {
		switch _, err := a.register.Read(ctx, i); {
		case err == nil:
			opened++
		case errors.Is(err, keys.ErrDisposed):
			disposed++
		default:
			return err
		}
	}
	fmt.Fprintf(out, "ok: %d leaves give the root; %d records opened, %d disposed of\n", size, opened, disposed)
	return nil
}
