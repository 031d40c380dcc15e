package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"scripta/cmd/scripta/bench"
)

const benchUsage = `usage: scripta bench log  [--dir DIR] [--seconds N] [--writers 1,64,1024] [--rounds N] [--cpuprofile FILE]
       scripta bench mail [--dir DIR] [--messages N] [--connections N] [--size BYTES] [--mailboxes N] [--rounds N] [--cpuprofile FILE]

Measures the register, or a whole provider, against limits of the same machine
measured in the same run, and prints tables. Everything is written into a folder
below DIR, on the disk to be measured, and removed in the end.

`

func runBench(args []string, stdout, stderr io.Writer) int {
	what := ""
	if len(args) > 0 {
		what = args[0]
	}
	f := flag.NewFlagSet("bench "+what, flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { fmt.Fprint(stderr, benchUsage); f.PrintDefaults() }
	dir := f.String("dir", ".", "folder on the disk to be measured")
	rounds := f.Int("rounds", 1, "do all of it so often and print medians")
	profile := f.String("cpuprofile", "", "write a CPU profile of what is measured to this file")
	var run func(ctx context.Context) error
	switch what {
	case "log":
		seconds := f.Float64("seconds", 5, "how long each number of writers appends, twice")
		writers := f.String("writers", "1,64,1024", "numbers of writers")
		run = func(ctx context.Context) error {
			o := bench.LogOptions{Dir: *dir, Length: time.Duration(*seconds * float64(time.Second)), Rounds: *rounds}
			var err error
			if o.Writers, err = numbers(*writers); err != nil {
				return fmt.Errorf("--writers: %w", err)
			}
			return bench.Profile(*profile, func() error { return bench.Log(ctx, o, stdout) })
		}
	case "mail":
		messages := f.Int("messages", 2000, "messages to certify, each to one recipient")
		connections := f.Int("connections", 20, "SMTPS connections, kept open, one sender each")
		size := f.Int("size", 10240, "bytes of a message")
		mailboxes := f.Int("mailboxes", 500, "mailboxes of the provider")
		run = func(ctx context.Context) error {
			binary, err := os.Executable()
			if err != nil {
				return err
			}
			return bench.Mail(ctx, bench.MailOptions{Dir: *dir, Binary: binary, Messages: *messages, Connections: *connections, Size: *size,
				Mailboxes: *mailboxes, Rounds: *rounds, Profile: *profile}, stdout)
		}
	case bench.ProviderCommand: // run by bench mail: serve, with a profile
		run = func(context.Context) error {
			return bench.Profile(*profile, func() error {
				if code := runServe([]string{"--dir", *dir, "--log-level", "warn"}, stdout, stderr); code != 0 {
					return fmt.Errorf("serve ended with %d", code)
				}
				return nil
			})
		}
	default:
		f.Usage()
		if what == "-h" || what == "--help" {
			return 0
		}
		return 2
	}
	if code, ok := parse(f, args[1:], stderr, dir); !ok {
		return code
	}
	if *rounds < 1 {
		fmt.Fprintf(stderr, "scripta bench: --rounds %d is too few\n", *rounds)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintf(stderr, "scripta bench %s: %v\n", what, err)
		return 1
	}
	return 0
}

// numbers reads a list such as "1,64".
func numbers(s string) ([]int, error) {
	var all []int
	for part := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 1 || n > 1<<16 {
			return nil, fmt.Errorf("%q is no number of writers", part)
		}
		all = append(all, n)
	}
	return all, nil
}
