package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"scripta/internal/config"
	"scripta/mta/relay"
)

const queueListUsage = `usage: scripta queue list --dir DIR [--destination NAME | --all] [--max N]

Lists the destinations that messages wait for, and why: a provider of certified
e-mail by its name, an ordinary domain by itself. With --destination or --all it
lists the messages.

`

const queueShowUsage = `usage: scripta queue show --dir DIR ID

Tells everything about a message that waits: to whom, how often it was tried, what
the other server said last, when it is tried again, when it is given up.

`

const queueRetryUsage = `usage: scripta queue retry --dir DIR (ID | --destination NAME | --all)

Tries now what waits for its next attempt. What is held stays held.

`

const queueHoldUsage = `usage: scripta queue hold --dir DIR (ID | --destination NAME | --all)

Keeps a message, everything for a destination, or all messages to other servers
from being sent, until they are released; also after a restart. The limit is not
held: after 24 hours a message is given up and its sender told, held or not.

`

const queueReleaseUsage = `usage: scripta queue release --dir DIR (ID | --destination NAME | --all)

Lets what was held be sent. --all ends every hold; a message that is held by itself
stays so when its destination is released.

`

func queueCommands() []command {
	return []command{
		{name: "list", about: "list what waits to be sent to other servers", run: runQueueList},
		{name: "show", about: "tell everything about one message that waits", run: runQueueShow},
		{name: "retry", about: "try now", run: func(args []string, stdout, stderr io.Writer) int {
			return runQueueChange(relay.RetryLetters, queueRetryUsage, "due now", args, stdout, stderr)
		}},
		{name: "hold", about: "keep messages from being sent", run: func(args []string, stdout, stderr io.Writer) int {
			return runQueueChange(relay.HoldLetters, queueHoldUsage, "held", args, stdout, stderr)
		}},
		{name: "release", about: "let them be sent again", run: func(args []string, stdout, stderr io.Writer) int {
			return runQueueChange(relay.ReleaseLetters, queueReleaseUsage, "released", args, stdout, stderr)
		}},
	}
}

// queueFlags are those of a command about the queue.
type queueFlags struct {
	*flags
	dir, destination *string
	all              *bool
}

func newQueueFlags(name, usage string, stdout, stderr io.Writer) *queueFlags {
	f := newFlags("queue "+name, usage, stdout, stderr)
	return &queueFlags{f, f.folder(), f.String("destination", "", "everything for the destination `NAME`"), f.Bool("all", false, "everything")}
}

// selection parses a command line that names one message, a destination or all.
func (f *queueFlags) selection(args []string) (s relay.Selection, code int, ok bool) {
	rest, code, ok := f.parseWith(args)
	if !ok {
		return s, code, false
	}
	s = relay.Selection{Destination: *f.destination, All: *f.all}
	if len(rest) > 0 {
		s.ID = rest[0]
	}
	switch err := s.Check(); {
	case *f.dir == "":
		return s, f.wrong("--dir is missing"), false
	case len(rest) > 1:
		return s, f.wrong("one message at a time: %q is too much", rest[1]), false
	case err != nil:
		return s, f.wrong("%s", strings.TrimPrefix(err.Error(), "relay: ")), false
	}
	return s, 0, true
}

// withQueue calls do with the running provider's queue.
func (f *queueFlags) withQueue(do func(context.Context, *controlClient) error) (code int) {
	if _, err := loadFolder(config.Dir(*f.dir)); err != nil {
		return f.failed(err)
	}
	ctx := context.Background()
	c := &controlClient{dir: config.Dir(*f.dir)}
	if !c.running(ctx) {
		return f.failed(fmt.Errorf("%w: what waits is sent, and shown, while scripta serve runs", errStopped))
	}
	if err := do(ctx, c); err != nil {
		return f.failed(err)
	}
	return 0
}

func runQueueList(args []string, stdout, stderr io.Writer) int {
	f := newQueueFlags("list", queueListUsage, stdout, stderr)
	most := f.Int("max", 200, "list at most `N`")
	rest, code, ok := f.parseWith(args)
	switch {
	case !ok:
		return code
	case len(rest) > 0:
		return f.wrong("%q is no flag; scripta queue show tells of one message", rest[0])
	case *f.dir == "":
		return f.wrong("--dir is missing")
	case *most < 1:
		return f.wrong("--max: at least 1")
	}
	s := relay.Selection{Destination: *f.destination, All: *f.all}
	if s == (relay.Selection{}) {
		return f.withQueue(func(ctx context.Context, c *controlClient) error {
			o, err := c.Queue(ctx, *most)
			if err != nil {
				return err
			}
			return printQueue(stdout, o, time.Now())
		})
	}
	if err := s.Check(); err != nil {
		return f.wrong("--destination or --all, not both")
	}
	return f.withQueue(func(ctx context.Context, c *controlClient) error {
		list, err := c.Letters(ctx, s, *most)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		for _, l := range list {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", l.ID, l.Destination, l.State, until(l.Next, time.Now()), recipients(l.Recipients), l.Last)
		}
		return w.Flush()
	})
}

func printQueue(stdout io.Writer, o relay.Overview, now time.Time) error {
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, d := range o.Destinations {
		kind, state := "ordinary", "waiting"
		if d.Certified {
			kind = "certified"
		}
		switch {
		case d.Held:
			state = "held"
		case d.Failures > 0:
			state = fmt.Sprintf("unreachable, %d times", d.Failures)
		case d.Sending > 0:
			state = fmt.Sprintf("sending %d", d.Sending)
		case d.HeldOnes == d.Letters:
			state = "held"
		}
		fmt.Fprintf(w, "%s\t%s\t%d messages\t%s\t%s\tsince %s\t%s\n", d.Destination, kind, d.Letters, state, until(d.Next, now), d.Oldest.Local().Format(time.DateTime), d.Last)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if o.More > 0 {
		fmt.Fprintf(stdout, "and %d more destinations\n", o.More)
	}
	if len(o.Held) > 0 {
		fmt.Fprintf(stdout, "held: %s\n", strings.ReplaceAll(strings.Join(o.Held, ", "), relay.Everything, "everything"))
	}
	_, err := fmt.Fprintf(stdout, "%d messages wait\n", o.Letters)
	return err
}

// until tells when a next attempt is.
func until(next, now time.Time) string {
	switch d := next.Sub(now).Round(time.Second); {
	case next.IsZero():
		return "-"
	case d <= 0:
		return "now"
	default:
		return "in " + d.String()
	}
}

func recipients(list []string) string {
	if len(list) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:3], ","), len(list)-3)
	}
	return strings.Join(list, ",")
}

func runQueueShow(args []string, stdout, stderr io.Writer) int {
	f := newQueueFlags("show", queueShowUsage, stdout, stderr)
	s, code, ok := f.selection(args)
	if !ok {
		return code
	}
	if s.ID == "" {
		return f.wrong("it shows one message: give its ID")
	}
	return f.withQueue(func(ctx context.Context, c *controlClient) error {
		list, err := c.Letters(ctx, s, 1)
		if err != nil {
			return err
		}
		for _, l := range list {
			printLetter(stdout, l, time.Now())
		}
		return nil
	})
}

func printLetter(w io.Writer, l relay.LetterState, now time.Time) {
	kind := "an ordinary domain"
	if l.Certified {
		kind = "a provider of certified e-mail: TLS always"
	}
	from := l.From
	if from == "" {
		from = "<>"
	}
	last := l.Last
	if last == "" {
		last = "none"
	}
	for _, line := range [][2]string{{"message", l.ID}, {"destination", l.Destination + ", " + kind}, {"from", from}, {"to", strings.Join(l.Recipients, "\n             ")},
		{"size", fmt.Sprintf("%d bytes", l.Size)}, {"state", l.State}, {"attempts", fmt.Sprint(l.Tries)}, {"last answer", last}, {"next attempt", until(l.Next, now)},
		{"handed in", l.Begun.Local().Format(time.DateTime)}, {"given up", until(l.Until, now)}} {
		fmt.Fprintf(w, "%-12s %s\n", line[0], line[1])
	}
}

func runQueueChange(action relay.Action, usage, done string, args []string, stdout, stderr io.Writer) int {
	f := newQueueFlags(string(action), usage, stdout, stderr)
	s, code, ok := f.selection(args)
	if !ok {
		return code
	}
	return f.withQueue(func(ctx context.Context, c *controlClient) error {
		n, err := c.ChangeQueue(ctx, action, s)
		if err == nil {
			fmt.Fprintf(stdout, "%d messages are %s\n", n, done)
		}
		return err
	})
}
