package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"scripta/internal/config"
	"scripta/internal/keys"
)

const logVerifyUsage = `usage: scripta log verify --dir DIR

Recomputes the whole log of a stopped provider: every leaf, every tile, the root
and the published checkpoint, and opens every sealed record against its leaf.

`

func logCommands() []command {
	return []command{{name: "verify", about: "recompute the whole log of a stopped provider", run: runLogVerify}}
}

func runLogVerify(args []string, stdout, stderr io.Writer) int {
	f := newFlags("log verify", logVerifyUsage, stdout, stderr)
	dir := f.folder()
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	ctx := context.Background()
	a, err := openApp(ctx, config.Dir(*dir), commandLogger(stderr))
	if err == nil {
		err = a.verifyLog(ctx, stdout)
		err = errors.Join(err, a.close())
	}
	if err != nil {
		return f.failed(err)
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
