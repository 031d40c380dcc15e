package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"scripta/internal/config"
	"scripta/internal/durable"
	"scripta/internal/logins"
	"scripta/mta"
	"scripta/mta/relay"
	"scripta/mta/scan"
	"scripta/mta/smtpd"
	"scripta/mta/spool"
	"scripta/register/record"
)

const serveUsage = `usage: scripta serve --dir DIR [--log-level debug|info|warn|error] [--log-json] [--adopt]

Runs every role of the provider until SIGTERM or SIGINT, then finishes what is
under way and exits 0. Prints a line that begins with "ready" when everything
listens, and at the end how many messages wait for the next start.

`

// drainTime bounds how long a stopping daemon waits for messages under way.
const drainTime = 30 * time.Second

func runServe(args []string, stdout, stderr io.Writer) int {
	f := newFlags("serve", serveUsage, stdout, stderr)
	dir := f.folder()
	level := f.String("log-level", "info", "least `LEVEL` that is logged to standard error: debug, info, warn or error")
	asJSON := f.Bool("log-json", false, "log in JSON")
	adopt := f.Bool("adopt", false, "take over a log of the cluster that another node still has; that node stops writing")
	if code, ok := f.parse(args, dir); !ok {
		return code
	}
	log, err := newLogger(stderr, *level, *asJSON)
	if err != nil {
		return f.wrong("%v", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{dir: config.Dir(*dir), log: log, adopt: *adopt}
	if err := a.open(ctx); err != nil {
		return f.failed(err)
	}
	d := &daemon{app: a}
	err = d.serve(ctx, func(line string) { fmt.Fprintln(stdout, line) })
	if err = errors.Join(err, a.close()); err != nil {
		return f.failed(err)
	}
	fmt.Fprintf(stdout, "stopped: %d jobs wait\n", d.waiting)
	return 0
}

// daemon runs the roles of an opened folder.
type daemon struct {
	*app
	pipeline *mta.Pipeline
	access   *mta.AccessPoint
	logins   *logins.Limiter
	scanner  *scan.Scanner // nil: no message is scanned for viruses
	rspamd   *scan.Rspamd  // nil: ordinary mail is not scored
	smtp     *smtpd.Server
	incoming *mta.IncomingPoint
	smtpIn   *smtpd.Server // of other mail servers
	web      *web
	queue    *relay.Queue // of messages to other servers

	scrub      *scrubber
	lost       int // stored messages whose records the log does not have
	spoolClose func() error

	waiting int // messages accepted and not finished, when serve has ended
}

// serve runs until ctx ends. The order of stopping is the reverse of the flow:
// no new messages, then the jobs under way, then the last checkpoint, stamped.
func (d *daemon) serve(ctx context.Context, ready func(string)) error {
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	if err := d.recordFounders(ctx); err != nil {
		return err
	}
	if err := d.event(ctx, &record.Record{Kind: record.Started, Time: time.Now().UTC().Truncate(time.Millisecond), Detail: scanDetail(d.cfg.Scan)}); err != nil {
		return err
	}
	d.openScanner()
	if err := d.openPipeline(ctx); err != nil {
		return err
	}
	d.firstIndex(ctx)
	d.scrub = openScrubber(d.app)
	if err := d.openWeb(); err != nil {
		return err
	}
	addresses := d.cfg.Listen.Addresses()
	listeners := &listeners{log: d.log}
	if err := d.listen(listeners, addresses); err != nil {
		listeners.close()
		return err
	}
	var background sync.WaitGroup
	background.Go(func() { d.clock.Run(run) })
	background.Go(func() { _ = d.merkle.Run(run, d.cfg.Log.CheckpointInterval.Duration) })
	if d.witnesses != nil {
		background.Go(func() { d.witnesses.Run(run) })
	}
	if d.cfg.Archive.Automatic {
		background.Go(func() { d.closer.Run(run) })
	}
	background.Go(func() { d.web.requests.Run(run) })
	background.Go(func() { d.scrub.run(run) })
	background.Go(func() { d.keepRates(run) })
	if d.scanner != nil {
		background.Go(func() { d.scanner.Run(run) })
	}
	background.Go(func() { d.mirror.Run(run, d.cfg.Index.Refresh.Duration) })
	d.pipeline.Start(workers)
	relaying, stopRelay := context.WithCancel(run)
	defer stopRelay()
	var relayed sync.WaitGroup
	relayed.Go(func() { d.queue.Run(relaying, relayDrain) })
	stopped := make(chan error, 1)
	listeners.serve(func(name string, err error) {
		select {
		case stopped <- fmt.Errorf("%s stopped: %w", name, err):
		default:
		}
	})
	d.serving.Store(d.authority != nil && addresses.TSA != "")
	stamping, stopStamping := context.WithCancel(run)
	var stamped sync.WaitGroup
	stamped.Go(func() { d.stamper.Run(stamping, d.cfg.TSA.Interval.Duration, drainTime) })
	ready(fmt.Sprintf("ready smtps=%s submission=%s incoming=%s https=%s tsa=%s metrics=%s log=%s", addresses.Submissions, addresses.Submission, addresses.Incoming,
		addresses.HTTPS, addresses.TSA, addresses.Metrics, d.cfg.Origin()))

	var err error
	select {
	case <-ctx.Done():
		d.log.Info("stopping")
	case <-d.register.Stopped():
		err = d.register.Health()
		d.log.Error("stopping: start again, and what was acknowledged goes on", "err", err)
	case err = <-stopped:
		d.log.Error("stopping", "err", err)
	}
	drain, cancelDrain := context.WithTimeout(context.Background(), drainTime)
	defer cancelDrain()
	stopRelay()
	if serr := errors.Join(d.smtp.Shutdown(drain, d.access.Busy), d.smtpIn.Shutdown(drain, d.incoming.Busy)); serr != nil {
		d.log.Warn("messages under way were cut off; their senders got no 250", "err", serr)
	}
	relayed.Wait() // what other servers answered is recorded before the pipeline stops
	d.pipeline.Close()
	d.waiting = d.pipeline.Backlog().Waiting
	err = errors.Join(err, d.event(drain, &record.Record{Kind: record.Stopped, Time: time.Now().UTC().Truncate(time.Millisecond)}))
	stopStamping()
	stamped.Wait()
	d.serving.Store(false)
	d.cosignLast(drain)
	cancel()
	listeners.shutdown(drain)
	background.Wait()
	return errors.Join(err, d.spoolClose())
}

// workers run the pipeline's jobs. More than the processors, because a job
// waits for the disk most of its time and concurrency shares each sync.
const workers = 32

func (d *daemon) openPipeline(ctx context.Context) error {
	keys := d.register.BlobKeys()
	sp, jobs, err := spool.Open(durable.OS, d.dir.Spool(), keys)
	if err != nil {
		return err
	}
	d.spoolClose = sp.Close
	if err := d.checkNewest(ctx, jobs); err != nil {
		return errors.Join(err, sp.Close())
	}
	if err := d.openRelay(); err != nil {
		return errors.Join(err, sp.Close())
	}
	incoming, err := d.incomingOptions()
	if err != nil {
		return errors.Join(err, sp.Close())
	}
	d.pipeline, err = mta.Open(ctx, mta.Options{Register: d.register, Spool: sp, Jobs: jobs, Boxes: d.boxes, Closed: d.accounts.Closed, Index: d.mirror.Index, Composer: d.composer,
		Roots: d.roots, Clock: d.clock, KeepOriginals: d.cfg.Receipts.KeepOriginals, FreeBytes: d.freeBytes, Hold: d.hold, Rates: d.rates, SuspendSending: d.suspendSending, Scanner: d.virusScanner(), PassUnscanned: d.cfg.Scan.OnFailure == config.ScanPass, Logger: d.log,
		Incoming: incoming, Relay: d.queue, RelayFor: d.cfg.Relay.Limit.Duration, Ordinary: d.cfg.Relay.Ordinary,
		Limits: mta.Limits{Recipients: d.cfg.Mail.MaxRecipients, BytesTimesRecipients: d.cfg.Mail.MaxBytesTimesRecipients, MinFreeBytes: d.cfg.Mail.MinFreeBytes}})
	if err != nil {
		return errors.Join(err, sp.Close())
	}
	d.logins = logins.New()
	d.access = mta.NewAccessPoint(d.pipeline, d.accounts, d.logins, d.cfg.Mail.MaxConnectionsPerAccount, d.log)
	return nil
}

// tlsConfig is of every service.
func (d *daemon) tlsConfig() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(d.dir.TLSCertificate(), d.dir.TLSKey())
	if err != nil {
		return nil, fmt.Errorf("couldn't load the TLS certificate: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

// listen opens every listener; nothing is served yet.
func (d *daemon) listen(l *listeners, at config.Addresses) error {
	tlsConfig, err := d.tlsConfig()
	if err != nil {
		return err
	}
	m := d.cfg.Mail
	d.smtp = smtpd.NewServer(smtpd.Config{Domain: d.cfg.Domain, Backend: d.access, TLS: tlsConfig, MaxMessageBytes: m.MaxMessageBytes,
		MaxRecipients: m.SMTPMaxRecipients, Connections: m.MaxConnections, PerAddress: m.MaxConnectionsPerAddress,
		Idle: m.IdleTimeout.Duration, Total: m.TotalTimeout.Duration, Logger: d.log})
	d.openIncoming(tlsConfig)
	if err := l.control(d.dir.Control(), d.controlHandler()); err != nil {
		return err
	}
	for _, s := range []struct {
		name, address string
		serve         func(net.Listener) error
		handler       http.Handler
		tls           *tls.Config
	}{
		{name: "submission over TLS", address: at.Submissions, serve: d.smtp.ServeTLS},
		{name: "submission with STARTTLS", address: at.Submission, serve: d.smtp.ServeStartTLS},
		{name: "mail from other providers", address: at.Incoming, serve: d.smtpIn.ServeOpportunistic},
		{name: "HTTPS", address: at.HTTPS, handler: d.web.public, tls: tlsConfig},
		{name: "metrics", address: at.Metrics, handler: d.web.metrics},
		{name: "time-stamp authority", address: at.TSA, handler: d.tsaHandler()},
	} {
		if s.address == "" || (s.serve == nil && s.handler == nil) {
			continue
		}
		if err := l.add(s.name, s.address, s.serve, s.handler, s.tls); err != nil {
			return err
		}
	}
	return nil
}

func (d *daemon) tsaHandler() http.Handler {
	if d.authority == nil {
		return nil
	}
	return d.authority
}
