package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Goals of the mail path (docs/performance.md).
const (
	goalOfCeiling  = 0.8
	goalMessages   = 200 // a second, with Go's own RSA
	goalAcceptance = time.Second
)

// MailOptions say how the mail path is measured.
type MailOptions struct {
	Dir         string // as for LogOptions
	Binary      string // the scripta program
	Messages    int
	Connections int
	Size        int // of a message, bytes
	Mailboxes   int
	Rounds      int
	Profile     string // of the provider, for the last round; "": none
	Postfix     string // the program of Postfix, to be measured if it can be; "": not
}

// mailRound is what one round measured.
type mailRound struct {
	sign1, sign2 float64 // RSA-2048 signatures a second: one worker, one for each core
	syncs        syncRates
	took         time.Duration // from the first MAIL to the last delivery receipt in its mailbox
	accepting    time.Duration // from the first MAIL to the last 250
	answered     latencies     // from MAIL to 250
	acceptance   latencies     // from 250 to the acceptance receipt in the sender's mailbox
	delivery     latencies     // from 250 to the delivery receipt there
	cpu          usage
	memory       memory
	postfix      *postfixRound // nil: not measured
}

// ceiling is how many messages a second this machine can sign for.
func (r *mailRound) ceiling() float64 { return r.sign2 / signaturesPerMessage }

// Mail measures a provider that certifies messages between its own mailboxes,
// with the load beside it on the same processors, and writes tables to out.
func Mail(ctx context.Context, o MailOptions, out io.Writer) (err error) {
	if o.Messages < 1 || o.Connections < 1 || o.Mailboxes <= o.Connections {
		return errors.New("there must be messages, connections, and more mailboxes than connections")
	}
	dir, err := os.MkdirTemp(o.Dir, "scripta-bench-mail-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := describe(out, dir); err != nil {
		return err
	}
	var (
		rounds []*mailRound
		absent error // why Postfix is not measured
	)
	for i := range o.Rounds {
		profile := ""
		if i == o.Rounds-1 {
			profile = o.Profile
		}
		r, err := measureMail(ctx, filepath.Join(dir, strconv.Itoa(i)), profile, o)
		if err != nil {
			return err
		}
		if o.Postfix != "" && absent == nil {
			if r.postfix, err = withPostfix(ctx, filepath.Join(dir, strconv.Itoa(i), "postfix"), o); errors.Is(err, errNoPostfix) {
				absent, err = err, nil
			}
			if err != nil {
				return err
			}
		}
		rounds = append(rounds, r)
	}
	if err := printMail(out, o, rounds); err != nil {
		return err
	}
	if absent != nil {
		_, err = fmt.Fprintf(out, "Postfix, accepting to discard: %v.\n", absent)
		return err
	}
	return printPostfix(out, o, rounds)
}

// limitTime is how long each limit of the machine is measured, before the mail
// and after it.
const limitTime = time.Second

// measureMail runs one provider for one round.
func measureMail(ctx context.Context, dir, profile string, o MailOptions) (*mailRound, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	p, err := initProvider(ctx, o.Binary, dir, o.Mailboxes)
	if err != nil {
		return nil, err
	}
	r := new(mailRound)
	if r.syncs, err = measureSyncs(dir, limitTime); err != nil {
		return nil, err
	}
	if err := r.signing(); err != nil {
		return nil, err
	}
	if err := p.start(o.Binary, profile); err != nil {
		return nil, err
	}
	err = r.load(ctx, p, o)
	if err = errors.Join(err, p.stop()); err != nil {
		return nil, err
	}
	// The mean of before and after: the machine may have become slower.
	if err := r.signing(); err != nil {
		return nil, err
	}
	r.sign1, r.sign2 = r.sign1/2, r.sign2/2
	return r, nil
}

// withPostfix measures Postfix in a new folder.
func withPostfix(ctx context.Context, dir string, o MailOptions) (*postfixRound, error) {
	if err := os.Mkdir(dir, 0o711); err != nil {
		return nil, err
	}
	return measurePostfix(ctx, dir, o)
}

// signing adds the machine's signing rates to what is there.
func (r *mailRound) signing() error {
	one, err := signRate(1, limitTime)
	if err != nil {
		return err
	}
	all, err := signRate(runtime.NumCPU(), limitTime)
	r.sign1, r.sign2 = r.sign1+one, r.sign2+all
	return err
}

// sent is what a connection knows of a message.
type sent struct {
	id   string
	took time.Duration
	at   time.Time // of the 250
}

// load sends the messages and waits for the receipts.
func (r *mailRound) load(ctx context.Context, p *provider, o MailOptions) error {
	clients := make([]*client, 0, o.Connections)
	defer func() {
		for _, c := range clients {
			_ = c.close()
		}
	}()
	for i := range o.Connections {
		c, err := dial(p, address(i))
		if err != nil {
			return err
		}
		clients = append(clients, c)
	}
	if err := send(ctx, o, clients, 0, 2*o.Connections, nil); err != nil { // warms up
		return err
	}
	if err := p.await(ctx, o.Connections, 4*o.Connections); err != nil {
		return err
	}
	before, err := measure(p.child.Process.Pid)
	if err != nil {
		return err
	}
	start := time.Now()
	all := make([][]sent, o.Connections)
	if err := send(ctx, o, clients, 2*o.Connections, o.Messages, all); err != nil {
		return err
	}
	r.accepting = time.Since(start)
	if err := p.await(ctx, o.Connections, 4*o.Connections+2*o.Messages); err != nil {
		return err
	}
	now, err := measure(p.child.Process.Pid)
	if err != nil {
		return err
	}
	r.cpu = now.since(before)
	if r.memory, err = memoryOf(p.child.Process.Pid); err != nil {
		return err
	}
	return r.collect(p, start, all)
}

// send sends n messages, numbered from first on, over all connections, each its
// next one when the last was answered.
func send(ctx context.Context, o MailOptions, clients []*client, first, n int, all [][]sent) error {
	letters, next := newLetters(o.Size), atomic.Int64{}
	errs := make([]error, len(clients))
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			for k := int(next.Add(1)) - 1; k < n && ctx.Err() == nil; k = int(next.Add(1)) - 1 {
				// Senders get receipts only; the others get the messages.
				to := address(len(clients) + k*7919%(o.Mailboxes-len(clients)))
				letter := letters.letter(first+k, c.from, to)
				began := time.Now()
				at, err := c.send(to, letter)
				if err != nil {
					errs[i] = fmt.Errorf("couldn't send message %d: %w", first+k, err)
					return
				}
				if all != nil {
					all[i] = append(all[i], sent{letterID(first + k), at.Sub(began), at})
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

// patience is how long the next receipt may take to come.
const patience = time.Minute

// await returns when the senders have so many receipts.
func (p *provider) await(ctx context.Context, senders, want int) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	last, since := -1, time.Now()
	for {
		n, err := p.countReceipts(senders)
		switch {
		case err != nil || n == want:
			return err
		case n > want:
			return fmt.Errorf("there are %d receipts instead of %d", n, want)
		case n != last:
			last, since = n, time.Now()
		case time.Since(since) > patience:
			return fmt.Errorf("%d receipts of %d came: %s", n, want, p.stderr.String())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// collect compares the 250s with the receipts' times.
func (r *mailRound) collect(p *provider, start time.Time, all [][]sent) error {
	a, err := p.receipts(len(all))
	if err != nil {
		return err
	}
	for _, s := range slices.Concat(all...) {
		accepted, ok1 := a.acceptance[s.id]
		delivered, ok2 := a.delivery[s.id]
		if !ok1 || !ok2 {
			return fmt.Errorf("message %s has no acceptance, or no delivery receipt", s.id)
		}
		r.answered = append(r.answered, s.took)
		r.acceptance = append(r.acceptance, accepted.Sub(s.at))
		r.delivery = append(r.delivery, delivered.Sub(s.at))
		r.took = max(r.took, delivered.Sub(start))
	}
	for _, l := range []latencies{r.answered, r.acceptance, r.delivery} {
		slices.Sort(l)
	}
	return nil
}

func printMail(out io.Writer, o MailOptions, rounds []*mailRound) error {
	fmt.Fprintf(out, "Certified messages of %d bytes to one recipient, %d messages over %d connections (SMTPS, authenticated, kept; closed loop), %d mailboxes, medians of %d rounds.\n"+
		"The load runs on the same processors.\n\n", o.Size, o.Messages, o.Connections, o.Mailboxes, o.Rounds)
	col := func(f func(r *mailRound) float64) float64 {
		all := make([]float64, len(rounds))
		for i, r := range rounds {
			all[i] = f(r)
		}
		return median(all)
	}
	number := func(format string, f func(r *mailRound) float64) string { return fmt.Sprintf(format, col(f)) }
	quantiles := func(f func(r *mailRound) latencies) string {
		at := func(q float64) string {
			return ms(time.Duration(col(func(r *mailRound) float64 { return float64(f(r).at(q)) })))
		}
		return at(0.5) + " / " + at(0.99)
	}
	messages := float64(o.Messages)
	rate := func(r *mailRound) float64 { return messages / r.took.Seconds() }
	ratio := func(r *mailRound) float64 { return rate(r) / r.ceiling() }
	perMessage := func(d func(u usage) time.Duration) func(*mailRound) float64 {
		return func(r *mailRound) float64 { return d(r.cpu).Seconds() * 1000 / messages }
	}
	user, sys := perMessage(func(u usage) time.Duration { return u.user }), perMessage(func(u usage) time.Duration { return u.sys })
	p99 := time.Duration(col(func(r *mailRound) float64 { return float64(r.acceptance.at(0.99)) }))

	t := table{head: []string{"limits of the machine, same run", ""}}
	t.add("RSA-2048 signatures/s (crypto/rsa), 1 worker", number("%.0f", func(r *mailRound) float64 { return r.sign1 }))
	t.add(fmt.Sprintf("the same, %d workers", runtime.NumCPU()), number("%.0f", func(r *mailRound) float64 { return r.sign2 }))
	t.add(fmt.Sprintf("ceiling: messages/s, %d signatures each", signaturesPerMessage), number("%.0f", (*mailRound).ceiling))
	t.add("append 200 B + fdatasync, a file each, 1 worker / 20, /s", number("%.0f", func(r *mailRound) float64 { return r.syncs.appends1 })+" / "+
		number("%.0f", func(r *mailRound) float64 { return r.syncs.appends20 }))
	t.add("new file of 10 KiB, fsync, rename, fsync of the folder, 20 workers, /s", number("%.0f", func(r *mailRound) float64 { return r.syncs.files20 }))
	if err := t.write(out); err != nil {
		return err
	}
	t = table{head: []string{"provider", "", "goal"}}
	t.add("certified messages/s", number("%.0f", rate), goal(col(rate) >= goalMessages, fmt.Sprintf("≥ %d", goalMessages)))
	t.add("ratio to the ceiling", number("%.2f", ratio), goal(col(ratio) >= goalOfCeiling, fmt.Sprintf("≥ %.1f", goalOfCeiling)))
	t.add("answered 250, messages/s", number("%.0f", func(r *mailRound) float64 { return messages / r.accepting.Seconds() }), "")
	t.add("from MAIL to 250, p50 / p99 ms", quantiles(func(r *mailRound) latencies { return r.answered }), "")
	t.add("from 250 to the acceptance in the mailbox, p50 / p99 ms", quantiles(func(r *mailRound) latencies { return r.acceptance }),
		goal(p99 < goalAcceptance, "p99 < 1 s"))
	t.add("from 250 to the delivery receipt in the mailbox, p50 / p99 ms", quantiles(func(r *mailRound) latencies { return r.delivery }), "")
	t.add("CPU of the provider, ms/message, user + sys", number("%.2f", user)+" + "+number("%.2f", sys), "")
	t.add("of these, signing", number("%.2f", func(r *mailRound) float64 { return signaturesPerMessage * 1000 / r.sign1 }), "")
	t.add("CPU of the load, ms/message", number("%.2f", func(r *mailRound) float64 {
		return (r.cpu.ours - r.cpu.user - r.cpu.sys).Seconds() * 1000 / messages
	}), "")
	t.add("cores busy with other programs and the kernel's threads / idle", number("%.2f", func(r *mailRound) float64 { return r.cpu.others(r.took) })+" / "+
		number("%.2f", func(r *mailRound) float64 { return r.cpu.idle.Seconds() / r.took.Seconds() }), "")
	t.add("RSS of the provider, MiB: now (anonymous), peak", number("%.0f", func(r *mailRound) float64 { return float64(r.memory.resident >> 20) })+" ("+
		number("%.0f", func(r *mailRound) float64 { return float64(r.memory.anonymous >> 20) })+"), "+
		number("%.0f", func(r *mailRound) float64 { return float64(r.memory.peak >> 20) }), "")
	return t.write(out)
}
