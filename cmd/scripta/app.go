package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/mod/sumdb/note"

	"scripta/archive"
	"scripta/internal/cms"
	"scripta/internal/config"
	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/merkle/witness"
	"scripta/mta/mailbox"
	"scripta/mta/pec"
	"scripta/mta/providers"
	"scripta/mta/rates"
	"scripta/register"
	"scripta/register/calendar"
	"scripta/register/evidence"
	"scripta/register/extract"
	"scripta/register/record"
	"scripta/register/rollback"
	"scripta/register/stamps"
	"scripta/tsa"
	"scripta/tsa/clock"
)

// app is a provider's folder, opened: everything that commands and the daemon
// share. Only one process can have a folder open.
type app struct {
	dir   config.Dir
	cfg   config.Config
	log   *slog.Logger
	adopt bool // take over a log that another node still has

	months    *keys.Months
	clock     *clock.Clock
	merkle    *merkle.Log
	frozen    []*frozenLog // given up before, the oldest first
	holds     *register.Holds
	register  *register.Register
	signer    *cms.Signer
	composer  *pec.Composer
	publisher *providers.Publisher // of our own record
	mirror    *providers.Mirror    // the index of providers
	roots     *x509.CertPool
	accounts  *mailbox.Accounts
	boxes     *mailbox.Store
	rates     *rates.Limiter
	keeping   sync.Mutex // held while the counts of the limits are written down
	stamps    *stamps.Store
	stamper   *stamps.Stamper
	authority *tsa.Authority    // nil without the embedded one
	serving   atomic.Bool       // the embedded authority is listening
	witnesses *witness.Gatherer // nil if none is configured
	extractor *extract.Extractor
	closer    *archive.Closer

	// changing is held for the whole of a change of accounts: what was checked
	// still holds when it is recorded and done.
	changing sync.Mutex

	closers []func() error // in the order of opening
}

// runningError says that another process has the folder open.
type runningError struct {
	dir config.Dir
	pid int // 0: unknown
}

func (e *runningError) Error() string {
	who := ""
	if e.pid != 0 {
		who = fmt.Sprintf(" (PID %d)", e.pid)
	}
	return fmt.Sprintf("another scripta process%s has %s open: scripta status --dir %[2]s shows it; stop it first", who, e.dir)
}

// lockFolder keeps every other process out of a folder.
func lockFolder(dir config.Dir) (unlock func(), err error) {
	unlock, err = durable.Lock(dir.Lock())
	if errors.Is(err, durable.ErrLocked) {
		return nil, &runningError{dir, durable.Holder(dir.Lock())}
	}
	return unlock, err
}

// openApp opens a folder. Close it.
func openApp(ctx context.Context, dir config.Dir, log *slog.Logger) (*app, error) {
	a := &app{dir: dir, log: log}
	if err := a.open(ctx); err != nil {
		return nil, err
	}
	return a, nil
}

// open opens everything, or nothing.
func (a *app) open(ctx context.Context) error { return a.openSteps(ctx, a.everything()...) }

// everything is what a daemon opens, in order.
func (a *app) everything() []func(context.Context) error {
	return []func(context.Context) error{a.checkPlainFiles, a.openKeys, a.openClock, a.openRegister, a.openIndex, a.openMail, a.openWitnesses, a.openStamps, a.openArchive}
}

// openSteps takes the folder's lock and takes all steps, or none.
func (a *app) openSteps(ctx context.Context, steps ...func(context.Context) error) (err error) {
	if a.cfg, err = loadFolder(a.dir); err != nil {
		return err
	}
	unlock, err := lockFolder(a.dir)
	if err != nil {
		return err
	}
	a.onClose(func() error { unlock(); return nil })
	return a.take(ctx, steps...)
}

// take takes all steps, or none, in a folder that is locked.
func (a *app) take(ctx context.Context, steps ...func(context.Context) error) error {
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return errors.Join(err, a.close())
		}
	}
	return nil
}

// loadFolder reads the configuration of a provider's folder.
func loadFolder(dir config.Dir) (config.Config, error) {
	if _, err := os.Stat(dir.Config()); errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return config.Config{}, fmt.Errorf("%s is no provider's folder: it holds no scripta.toml; scripta init makes one", dir)
	}
	cfg, err := config.Load(dir.Config())
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%s belongs to another user: run this as the user that the provider runs as", dir.Config())
	}
	return cfg, err
}

func (a *app) onClose(f func() error) { a.closers = append(a.closers, f) }

// close closes everything, the last opened first.
func (a *app) close() error {
	var err error
	for i := len(a.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, a.closers[i]())
	}
	a.closers = nil
	return err
}

// databaseReserve is how many bytes must be free on the disk to open or close the
// databases: they write through mapped files, and a full disk would kill the
// process there.
const databaseReserve = 64 << 20

// errDiskFull says that there is less than databaseReserve.
var errDiskFull = fmt.Errorf("the disk is full: free at least %d MiB", databaseReserve>>20)

func (a *app) roomForDatabases() error {
	free, err := a.freeBytes()
	if err == nil && free < databaseReserve {
		err = errDiskFull
	}
	return err
}

// onCloseDatabase is onClose for a database. On a full disk it is left as it is:
// what was acknowledged is safe, and the next start puts the rest in order, as
// after a crash.
func (a *app) onCloseDatabase(name string, f func() error) {
	a.onClose(func() error {
		if err := a.roomForDatabases(); err != nil {
			a.log.Warn("a database was not closed: the next start puts it in order", "database", name, "err", err)
			return nil
		}
		return f()
	})
}

func (a *app) openKeys(context.Context) (err error) {
	if a.months, err = keys.OpenMonths(durable.OS, a.dir.Months(), a.dir.MasterKey()); err != nil {
		return err
	}
	key, chain, err := keys.LoadPair(a.dir.PECKey(), a.dir.PECCertificate())
	if err != nil {
		return err
	}
	if a.signer, err = cms.NewSigner(key, chain[0], chain[1:]...); err != nil {
		return err
	}
	roots, err := keys.LoadCertificates(a.dir.PublicCA())
	if err != nil {
		return err
	}
	a.roots = pool(roots)
	a.composer = &pec.Composer{Signer: a.signer, Location: calendar.Rome(),
		Provider: pec.Provider{Name: a.cfg.Provider, Domain: a.cfg.Domain, ServiceAddress: a.cfg.ServiceAddress()}}
	return nil
}

func pool(certs []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

func (a *app) openClock(context.Context) (err error) {
	policy := clock.Refuse
	if a.cfg.Clock.Policy == config.ClockMark {
		policy = clock.Mark
	}
	a.clock, err = clock.New(clock.Config{Servers: a.cfg.Clock.Servers, Policy: policy, Warn: a.cfg.Clock.WarnOffset.Duration,
		Limit: a.cfg.Clock.MaxOffset.Duration, Interval: a.cfg.Clock.PollInterval.Duration, OnMeasure: a.measured})
	return err
}

// now reads the clock for what the provider does by itself.
func (a *app) now() (time.Time, error) {
	r, err := a.clock.Now()
	return r.Time, err
}

// measured records a measure of the clock (DM 2/11/2005 art. 9).
func (a *app) measured(m clock.Measure) {
	if a.register == nil {
		return
	}
	rec := &record.Record{Kind: record.ClockMeasured, Time: time.Now().UTC().Truncate(time.Millisecond),
		Outcome: record.Outcome{Code: m.State.String(), Text: m.Reason}, Detail: record.SortDetail([]record.Pair{{Name: "bound", Value: m.Bound.String()}})}
	if err := a.event(context.Background(), rec); err != nil {
		a.log.Error("a measure of the clock could not be recorded", "err", err)
	}
}

// event appends a record of the service itself.
func (a *app) event(ctx context.Context, rec *record.Record) error {
	var tx [16]byte
	rand.Read(tx[:])
	_, err := a.register.Append(ctx, register.Entry{ID: record.MakeID(tx, 0, 0), Record: rec})
	return err
}

func (a *app) openRegister(ctx context.Context) error {
	o, err := a.openLog(ctx)
	if err != nil {
		return err
	}
	if a.register, err = register.Open(ctx, o); err != nil {
		return err
	}
	a.onCloseDatabase("register", a.register.Close)
	if err := a.commitRollback(ctx); err != nil {
		return err
	}
	return a.recordAdoption(ctx)
}

// openLog opens the log and says how to open the register over it.
func (a *app) openLog(ctx context.Context) (o register.Options, err error) {
	if err := a.roomForDatabases(); err != nil {
		return o, err
	}
	if err := rollback.Check(a.dir, a.cfg.Log.ID); err != nil {
		return o, err
	}
	signer, verifier, err := a.logKeys()
	if err != nil {
		return o, err
	}
	cluster, err := a.cluster()
	if err != nil {
		return o, err
	}
	a.merkle, err = merkle.Open(ctx, merkle.Options{Dir: a.dir.Log(), Origin: a.cfg.Origin(), Signer: signer, Verifier: verifier,
		Logger: a.log, MinFree: uint64(a.cfg.Mail.MinFreeBytes) / 2, Cluster: cluster})
	if err != nil {
		return o, err
	}
	a.onCloseDatabase("log", a.merkle.Close)
	if a.holds, err = register.OpenHolds(durable.OS, a.dir.Holds(), a.months); err != nil {
		return o, err
	}
	if err := a.openFrozen(ctx); err != nil {
		return o, err
	}
	var past []*register.Past
	for _, f := range a.frozen {
		past = append(past, f.past)
	}
	samples, err := a.samples()
	return register.Options{Dir: a.dir.Receipts(), FS: durable.OS, Origin: a.cfg.Origin(), Log: a.merkle,
		Months: a.months, Holds: a.holds, Past: past, Samples: samples, Logger: a.log}, err
}

func (a *app) logKeys() (note.Signer, note.Verifier, error) {
	signer, err := keys.LoadNoteSigner(a.dir.LogKey())
	if err != nil {
		return nil, nil, err
	}
	verifier, err := loadLogKey(a.dir.PublicLogKey())
	if err == nil && verifier.Name() != a.cfg.Origin() {
		err = fmt.Errorf("scripta.toml says that the log is %s, but this folder's is %s: somebody changed domain or log.id; write them back", a.cfg.Origin(), verifier.Name())
	}
	return signer, verifier, err
}

// loadLogKeys reads the verifier keys of a provider's logs (C2SP vkeys), one a
// line: those of frozen logs, and last the one that is written now.
func loadLogKeys(name string) ([]note.Verifier, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the log's public key: %w", err)
	}
	var all []note.Verifier
	for line := range strings.Lines(strings.TrimSpace(string(b)) + "\n") {
		v, err := note.NewVerifier(strings.TrimSpace(line))
		if err != nil {
			return nil, fmt.Errorf("couldn't read the log's public key %s: %w", name, err)
		}
		all = append(all, v)
	}
	return all, nil
}

// loadLogKey reads the key of the log that is written now.
func loadLogKey(name string) (note.Verifier, error) {
	all, err := loadLogKeys(name)
	if err != nil {
		return nil, err
	}
	return all[len(all)-1], nil
}

// samples are synthetic messages of this provider, for the dictionary by which
// receipts are compressed: the texts, the MIME tree and the certificates that
// every one of them has.
func (a *app) samples() ([][]byte, error) {
	at := pec.Transaction{Time: time.Unix(0, 0)}
	f := pec.Facts{Sender: "mittente@" + a.cfg.Domain, Recipients: []pec.Recipient{{Address: "destinatario@" + a.cfg.Domain, Certified: true}},
		Subject: "oggetto", OriginalID: "<originale@" + a.cfg.Domain + ">"}
	envelope := at.Issue(1, 0)
	f.EnvelopeID = envelope.MessageID(a.composer.Provider)
	text := pec.Included{Bytes: strings.NewReader("Subject: x\r\n\r\nx\r\n"), Size: 17, Encoding: pec.SevenBit}
	var all [][]byte
	for _, make := range []func() (*pec.Message, error){
		func() (*pec.Message, error) {
			return a.composer.TakeCharge(at.Issue(2, 0), f, a.cfg.ServiceAddress(), []string{f.Recipients[0].Address})
		},
		func() (*pec.Message, error) { return a.composer.TransportEnvelope(envelope, f, pec.Inherited{}, text) },
		func() (*pec.Message, error) { return a.composer.Acceptance(at.Issue(3, 0), f) },
		func() (*pec.Message, error) {
			return a.composer.Delivery(at.Issue(4, 0), f, f.Recipients[0].Address, pec.Complete, &text)
		},
	} {
		m, err := make()
		if err != nil {
			return nil, fmt.Errorf("couldn't make a sample message: %w", err)
		}
		all = append(all, m.Prefix, m.Suffix)
	}
	return all, nil
}

func (a *app) openStamps(context.Context) error {
	roots, err := keys.LoadCertificates(a.dir.PublicTSACA())
	if err != nil {
		return err
	}
	if a.stamps, err = stamps.Open(durable.OS, a.dir.Stamps(), a.merkle.Verifier(), pool(roots)); err != nil {
		return err
	}
	authority, err := a.timeStampAuthority()
	if err != nil {
		return err
	}
	a.stamper = stamps.NewStamper(stamps.Options{Store: a.stamps, Register: a.register, Authorities: []stamps.Authority{authority},
		Ceiling: a.cfg.TSA.DailyCeiling, Now: a.now, Logger: a.log})
	past, err := a.openPastStamps(pool(roots))
	if err != nil {
		return err
	}
	certs, err := a.publicCertificates()
	if err != nil {
		return err
	}
	a.extractor = extract.New(extract.Options{Register: a.register, Stamps: a.stamps, PastStamps: past, Signer: a.signer, Provider: a.cfg.Provider,
		Certificates: certs, Logger: a.log, Cosigned: a.cosigned(), Stamp: func(ctx context.Context) error {
			_, err := a.stamper.Latest(ctx)
			return err
		}})
	return nil
}

// timeStampAuthority is the one that stamps are asked from. The embedded one is
// asked in process, so that it also answers commands while nothing is served.
func (a *app) timeStampAuthority() (stamps.Authority, error) {
	if a.cfg.TSA.Embedded {
		key, chain, err := keys.LoadPair(a.dir.TSUKey(), a.dir.TSUCertificate())
		if err != nil {
			return stamps.Authority{}, err
		}
		a.authority, err = tsa.NewAuthority(tsa.AuthorityConfig{Key: key, Certificate: chain[0], Chain: chain[1:], Policy: quickstartPolicy, Now: a.now, Log: a.log})
		if err != nil {
			return stamps.Authority{}, err
		}
	}
	client := &tsa.Client{URL: a.cfg.TSAEndpoint(), User: a.cfg.TSA.User}
	if a.cfg.TSA.PasswordFile != "" {
		b, err := os.ReadFile(a.dir.Path(a.cfg.TSA.PasswordFile))
		if err != nil {
			return stamps.Authority{}, fmt.Errorf("couldn't read the time-stamp authority's password: %w", err)
		}
		client.Password = strings.TrimRight(string(b), "\r\n")
	}
	if a.cfg.TSA.URL == "" && a.authority != nil {
		return stamps.Authority{Name: "embedded, not qualified", Client: embedded{a.authority, client, &a.serving}, RequireQualified: a.cfg.TSA.RequireQualified}, nil
	}
	return stamps.Authority{Name: client.URL, Client: client, RequireQualified: a.cfg.TSA.RequireQualified}, nil
}

// quickstartPolicy is the policy of the embedded authority: below the arc that
// IANA keeps for examples (RFC 5612), so that nobody takes it for a real one.
var quickstartPolicy = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 1}

// embedded asks the embedded authority: over HTTP while the daemon serves it,
// and in this process when a command runs alone. The bytes are the same.
type embedded struct {
	authority *tsa.Authority
	client    *tsa.Client
	serving   *atomic.Bool
}

// Stamp implements stamps.Asker.
func (e embedded) Stamp(ctx context.Context, digest [32]byte, nonce *big.Int) (*tsa.Response, error) {
	if e.serving.Load() {
		return e.client.Stamp(ctx, digest, nonce)
	}
	alone := &tsa.Client{URL: "http://localhost/", HTTP: &http.Client{Transport: e}}
	return alone.Stamp(ctx, digest, nonce)
}

// RoundTrip implements [http.RoundTripper].
func (e embedded) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	e.authority.ServeHTTP(w, r)
	return w.Result(), nil
}

// publicCertificates are what evidence files carry along.
func (a *app) publicCertificates() ([]evidence.File, error) {
	var files []evidence.File
	for _, f := range []struct{ name, path string }{
		{"log.vkey", a.dir.PublicLogKey()}, {"ca.pem", a.dir.PublicCA()}, {"tsa-ca.pem", a.dir.PublicTSACA()},
	} {
		b, err := os.ReadFile(f.path)
		if err != nil {
			return nil, fmt.Errorf("couldn't read what is public: %w", err)
		}
		files = append(files, evidence.NewFile("certificates/"+f.name, b))
	}
	return files, nil
}

func (a *app) openMail(context.Context) (err error) {
	if a.accounts, err = mailbox.OpenAccounts(mailbox.AccountsOptions{File: a.dir.Accounts()}); err != nil {
		return err
	}
	if a.boxes, err = mailbox.Open(a.dir.Mail(), mailbox.Options{Host: a.cfg.Domain, Quota: a.accounts.Quota}); err != nil {
		return err
	}
	a.onClose(a.boxes.Close)
	a.openRates()
	return nil
}

// freeBytes is what is left on the disk that the folder lies on.
func (a *app) freeBytes() (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(string(a.dir), &st); err != nil {
		return 0, fmt.Errorf("couldn't ask the disk for its free space: %w", err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}
