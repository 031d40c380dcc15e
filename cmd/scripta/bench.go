package main

import (
	"context"
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

const benchText = `
Measures against limits of the same machine measured in the same run, and prints
tables. Everything is written into a folder below DIR, on the disk to be
measured, and removed in the end.

`

const benchLogUsage = `usage: scripta bench log [--dir DIR] [--seconds N] [--writers 1,64,1024] [--rounds N] [--peer PROGRAM] [--cpuprofile FILE]
       scripta bench log --fill RECORDS [--dir DIR] [--cpuprofile FILE]
` + benchText

const benchMailUsage = `usage: scripta bench mail [--dir DIR] [--messages N] [--connections N] [--size BYTES] [--mailboxes N] [--rounds N] [--postfix PROGRAM] [--cpuprofile FILE]
` + benchText

func benchCommands() []command {
	return []command{
		{name: "log", about: "measure the register", run: runBenchLog},
		{name: "mail", about: "measure a whole provider", run: runBenchMail},
		{name: bench.ProviderCommand, run: runBenchProvider, hidden: true},
	}
}

// benchFlags are those of every measure.
type benchFlags struct {
	*flags
	dir, profile *string
	rounds       *int
}

func newBenchFlags(name, usage string, stdout, stderr io.Writer) *benchFlags {
	f := newFlags(name, usage, stdout, stderr)
	return &benchFlags{f, f.String("dir", ".", "`DIR` on the disk to be measured"), f.String("cpuprofile", "", "write a CPU profile of what is measured to `FILE`"),
		f.Int("rounds", 1, "do all of it `N` times and print medians")}
}

// measure runs a measure until it ends or is interrupted.
func (f *benchFlags) measure(args []string, run func(ctx context.Context) error) int {
	if code, ok := f.parse(args, f.dir); !ok {
		return code
	}
	if *f.rounds < 1 {
		return f.wrong("--rounds %d is too few", *f.rounds)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		return f.failed(err)
	}
	return 0
}

func runBenchLog(args []string, stdout, stderr io.Writer) int {
	f := newBenchFlags("bench log", benchLogUsage, stdout, stderr)
	seconds := f.Float64("seconds", 5, "how long each number of writers appends, twice: `N` seconds")
	writers := f.String("writers", "1,64,1024", "`NUMBERS` of writers")
	peer := f.String("peer", "", "run `PROGRAM` (bin/bench-tessera, see make bench) in turn with the register")
	fill := f.Int("fill", 0, "put `RECORDS` into a register, open it again and ask for proofs, instead")
	return f.measure(args, func(ctx context.Context) error {
		if *fill > 0 {
			return bench.Profile(*f.profile, func() error { return bench.Fill(ctx, *f.dir, *fill, stdout) })
		}
		o := bench.LogOptions{Dir: *f.dir, Length: time.Duration(*seconds * float64(time.Second)), Rounds: *f.rounds, Peer: *peer}
		var err error
		if o.Writers, err = numbers(*writers); err != nil {
			return fmt.Errorf("--writers: %w", err)
		}
		return bench.Profile(*f.profile, func() error { return bench.Log(ctx, o, stdout) })
	})
}

func runBenchMail(args []string, stdout, stderr io.Writer) int {
	f := newBenchFlags("bench mail", benchMailUsage, stdout, stderr)
	messages := f.Int("messages", 2000, "certify `N` messages, each to one recipient")
	connections := f.Int("connections", 20, "`N` SMTPS connections, kept open, one sender each")
	size := f.Int("size", 10240, "`BYTES` of a message")
	mailboxes := f.Int("mailboxes", 500, "`N` mailboxes of the provider")
	postfix := f.String("postfix", "/usr/sbin/postfix", "`PROGRAM` of Postfix, measured in the same run if it is there and this is root: an instance of its own that accepts to discard; empty = not")
	return f.measure(args, func(ctx context.Context) error {
		binary, err := os.Executable()
		if err != nil {
			return err
		}
		return bench.Mail(ctx, bench.MailOptions{Dir: *f.dir, Binary: binary, Messages: *messages, Connections: *connections, Size: *size,
			Mailboxes: *mailboxes, Rounds: *f.rounds, Profile: *f.profile, Postfix: *postfix}, stdout)
	})
}

// runBenchProvider is run by bench mail: serve, with a profile.
func runBenchProvider(args []string, stdout, stderr io.Writer) int {
	f := newBenchFlags("bench "+bench.ProviderCommand, "", stdout, stderr)
	return f.measure(args, func(context.Context) error {
		return bench.Profile(*f.profile, func() error {
			if code := runServe([]string{"--dir", *f.dir, "--log-level", "warn"}, stdout, stderr); code != 0 {
				return fmt.Errorf("serve ended with %d", code)
			}
			return nil
		})
	})
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
