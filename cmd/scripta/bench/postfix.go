package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// errNoPostfix says why Postfix is not measured here; the rest is.
var errNoPostfix = errors.New("not measured")

// postfix is a mail server that accepts, keeps safe on the disk and discards: what
// accepting mail costs without certifying it. It is an instance of its own, in a
// folder of its own, on a port of the loopback interface.
type postfix struct {
	dir     string
	address string
	program string
	child   *exec.Cmd
	output  bytes.Buffer
}

// postfixRound is what it did with the same messages over as many connections, in
// clear and without passwords, which it need not check.
type postfixRound struct {
	version   string
	accepting time.Duration // from the first MAIL to the last 250
	took      time.Duration // until its queue was empty
	answered  latencies     // from MAIL to 250
	others    float64       // cores busy with programs that are not the load; Postfix's own among them
}

// measurePostfix runs Postfix for one round in an empty folder below dir, or
// returns errNoPostfix.
func measurePostfix(ctx context.Context, dir string, o MailOptions) (r *postfixRound, err error) {
	p, err := newPostfix(ctx, dir, o.Postfix)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := p.start(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoPostfix, err)
	}
	clients := make([]*client, 0, o.Connections)
	defer func() {
		for _, c := range clients {
			_ = c.close()
		}
	}()
	for i := range o.Connections {
		c, err := dialPlain(p.address, address(i))
		if err != nil {
			return nil, err
		}
		clients = append(clients, c)
	}
	if err := send(ctx, o, clients, 0, 2*o.Connections, nil); err != nil { // warms up
		return nil, err
	}
	if err := p.empty(ctx); err != nil {
		return nil, err
	}
	r = &postfixRound{version: p.version(ctx)}
	before, err := measure(os.Getpid())
	if err != nil {
		return nil, err
	}
	start := time.Now()
	all := make([][]sent, o.Connections)
	if err := send(ctx, o, clients, 2*o.Connections, o.Messages, all); err != nil {
		return nil, err
	}
	r.accepting = time.Since(start)
	if err := p.empty(ctx); err != nil {
		return nil, err
	}
	r.took = time.Since(start)
	now, err := measure(os.Getpid())
	if err != nil {
		return nil, err
	}
	r.others = now.since(before).others(r.took)
	for _, s := range slices.Concat(all...) {
		r.answered = append(r.answered, s.took)
	}
	slices.Sort(r.answered)
	return r, nil
}

// newPostfix writes a configuration, or returns errNoPostfix.
func newPostfix(ctx context.Context, dir, program string) (*postfix, error) {
	p := &postfix{dir: dir}
	var err error
	if p.program, err = exec.LookPath(program); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoPostfix, err)
	}
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("%w: only root starts it", errNoPostfix)
	}
	if p.address, err = freeAddress(); err != nil {
		return nil, err
	}
	// Its own user passes through the folders above.
	for d := dir; strings.Contains(d, "scripta-bench-"); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o711); err != nil {
			return nil, err
		}
	}
	for _, sub := range []string{"etc", "spool", "data"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	if out, err := exec.CommandContext(ctx, "chown", "postfix", filepath.Join(dir, "data")).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: there is no user postfix: %s", errNoPostfix, out)
	}
	write := func(name, text string) {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, "etc", name), []byte(text), 0o644))
	}
	write("main.cf", fmt.Sprintf(postfixMain, dir))
	write("master.cf", fmt.Sprintf(postfixMaster, p.address))
	return p, err
}

// postfixMain is Postfix as it comes, but for where it is and that it accepts
// everything from this host and discards it.
const postfixMain = `compatibility_level = 3.6
config_directory = %[1]s/etc
queue_directory = %[1]s/spool
data_directory = %[1]s/data
maillog_file = %[1]s/maillog
maillog_file_prefixes = %[1]s
myhostname = peer.bench.example
mydestination =
inet_interfaces = 127.0.0.1
mynetworks = 127.0.0.0/8
default_transport = discard:
relay_transport = discard:
local_transport = discard:
alias_maps =
alias_database =
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
`

const postfixMaster = `%s inet n - n - 100 smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
discard unix - - n - - discard
error unix - - n - - error
retry unix - - n - - error
showq unix n - n - - showq
flush unix n - n 1000? 0 flush
tlsmgr unix - - n 1000? 1 tlsmgr
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`

func (p *postfix) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.program, append([]string{"-c", filepath.Join(p.dir, "etc")}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// start makes the queue's folders, runs Postfix and returns when it greets.
func (p *postfix) start(ctx context.Context) error {
	if out, err := p.command(ctx, "check").CombinedOutput(); err != nil {
		return fmt.Errorf("couldn't prepare Postfix: %w: %s", err, out)
	}
	p.child = p.command(ctx, "start-fg")
	p.child.Stdout, p.child.Stderr = &p.output, &p.output
	if err := p.child.Start(); err != nil {
		return fmt.Errorf("couldn't start Postfix: %w", err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; {
		c, err := dialPlain(p.address, "")
		if err == nil {
			return c.close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it does not answer: %w (may its user postfix pass through the folders above %s?)", err, p.dir)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stop ends Postfix and all of its processes.
func (p *postfix) stop() error {
	if p.child == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := p.command(ctx, "stop").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("couldn't stop Postfix: %w: %s", err, out)
		_ = p.child.Process.Signal(syscall.SIGTERM)
	}
	_ = p.child.Wait() // it tells of the signal by which stop ended it
	return err
}

// empty returns when nothing is in the queue.
func (p *postfix) empty(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; {
		n, err := p.queued()
		if err != nil || n == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d messages stay in Postfix's queue", n)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// queued counts the files of the queue.
func (p *postfix) queued() (n int, err error) {
	for _, queue := range []string{"maildrop", "incoming", "active", "deferred", "hold", "corrupt"} {
		err := filepath.WalkDir(filepath.Join(p.dir, "spool", queue), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				n++
			}
			if errors.Is(err, fs.ErrNotExist) { // it has just been removed
				err = nil
			}
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}

// version is what Postfix says it is, or "".
func (p *postfix) version(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, filepath.Join(filepath.Dir(p.program), "postconf"), "-c", filepath.Join(p.dir, "etc"), "-h", "mail_version").Output()
	if err != nil {
		return ""
	}
	return " " + strings.TrimSpace(string(out))
}

// printPostfix compares the provider with Postfix, round by round.
func printPostfix(out io.Writer, o MailOptions, rounds []*mailRound) error {
	rounds = slices.DeleteFunc(slices.Clone(rounds), func(r *mailRound) bool { return r.postfix == nil })
	if len(rounds) == 0 {
		return nil
	}
	col := func(format string, f func(r *mailRound) float64) string {
		all := make([]float64, len(rounds))
		for i, r := range rounds {
			all[i] = f(r)
		}
		return fmt.Sprintf(format, median(all))
	}
	messages := float64(o.Messages)
	quantile := func(q float64) func(*mailRound) float64 {
		return func(r *mailRound) float64 { return r.postfix.answered.at(q).Seconds() * 1000 }
	}
	t := table{head: []string{"Postfix" + rounds[0].postfix.version + " accepting to discard, same run, same load in clear and without passwords", ""}}
	t.add("answered 250, messages/s", col("%.0f", func(r *mailRound) float64 { return messages / r.postfix.accepting.Seconds() }))
	t.add("until its queue was empty, messages/s", col("%.0f", func(r *mailRound) float64 { return messages / r.postfix.took.Seconds() }))
	t.add("from MAIL to 250, p50 / p99 ms", col("%.1f", quantile(0.5))+" / "+col("%.1f", quantile(0.99)))
	t.add("ratio: certified messages/s here to messages/s there, until both are done", col("%.2f", func(r *mailRound) float64 { return r.postfix.took.Seconds() / r.took.Seconds() }))
	t.add("cores busy with it and with other programs", col("%.2f", func(r *mailRound) float64 { return r.postfix.others }))
	return t.write(out)
}
