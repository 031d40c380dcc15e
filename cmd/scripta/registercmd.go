package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"scripta/internal/config"
	"scripta/register"
)

const reindexUsage = `usage: scripta register reindex --dir DIR

Makes the index of a stopped provider anew, from the log and the stored receipts
alone, beside the old one, and then puts it in its place. Interrupted, it leaves
the old one in use; given again at once, it goes on where it was.

`

func registerCommands() []command {
	return []command{{name: "reindex", about: "make the index of a stopped provider anew from the log", run: runReindex}}
}

func runReindex(args []string, stdout, stderr io.Writer) int {
	f := newFlags("register reindex", reindexUsage, stdout, stderr)
	dir := f.folder()
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	var o register.Options
	a := &app{dir: config.Dir(*dir), log: commandLogger(stderr)}
	err := a.openSteps(ctx, a.checkPlainFiles, a.openKeys, func(ctx context.Context) (err error) {
		o, err = a.openLog(ctx)
		return err
	})
	var size uint64
	if err == nil {
		size = a.merkle.Size()
		p := newProgress(stderr)
		err = register.Reindex(ctx, o, func(done, total uint64) { p.show("records", done, total) })
		p.clear()
		err = errors.Join(err, a.close())
	}
	if err != nil {
		return f.failed(err)
	}
	fmt.Fprintf(stdout, "ok: the index has all %d records\n", size)
	return 0
}
