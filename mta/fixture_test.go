package mta

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"scripta/internal/cms"
	"scripta/internal/cms/cmstest"
	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/merkle/checkpoint"
	"scripta/mta/mailbox"
	"scripta/mta/pec"
	"scripta/mta/providers"
	"scripta/mta/relay"
	"scripta/mta/spool"
	"scripta/register"
	"scripta/register/calendar"
	"scripta/register/record"
	"scripta/tsa/clock"
)

const (
	domain = "pec.example"
	origin = domain + "/scripta/0001"
)

// world is what outlives a process: a folder, keys, certificates.
type world struct {
	t      *testing.T
	dir    string // the log's database, which is on the real disk
	fault  string // root of the file system under test
	data   string // the folder in it that everything else lies in
	logKey ed25519.PrivateKey
	signer *cms.Signer
	roots  *x509.CertPool

	scanner       VirusScanner // nil: none
	passUnscanned bool
	clock         *testClock
	relay         *testRelay // of the last process

	foreign  []*foreign // other providers of the index
	odd      bool       // the test puts into the register what no provider does: it is not audited
	incoming Incoming
}

func newWorld(t *testing.T) *world {
	t.Helper()
	_, logKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	w := &world{t: t, clock: &testClock{at: time.Now().Truncate(time.Second)}, dir: dir, fault: filepath.Join(dir, "data"), data: filepath.Join(dir, "data", "root"), logKey: logKey}
	ca, key := cmstest.New(t), cmstest.ECDSA(t)
	cert := ca.Issue(t, key.Public(), func(c *x509.Certificate) {
		c.EmailAddresses = []string{"posta-certificata@" + domain}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
	})
	if w.signer, err = cms.NewSigner(key, cert, ca.Intermediate); err != nil {
		t.Fatal(err)
	}
	w.roots = ca.Roots
	if err := os.MkdirAll(w.data, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.CreateMonths(durable.OS, filepath.Join(dir, "months"), filepath.Join(dir, "master")); err != nil {
		t.Fatal(err)
	}
	boxes := w.openBoxes(durable.OS)
	for _, b := range []string{"mario", "lucia", "posta-certificata"} {
		if err := boxes.Create(b+"@"+domain, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := boxes.Create("piena@"+domain, 100); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) openBoxes(fsys durable.FS) *mailbox.Store {
	w.t.Helper()
	boxes, err := mailbox.Open(filepath.Join(w.data, "mail"), mailbox.Options{Host: domain, FS: fsys})
	if err != nil {
		w.t.Fatal(err)
	}
	return boxes
}

// testClock ticks a second with every reading.
type testClock struct {
	mu sync.Mutex
	at time.Time
}

func (c *testClock) Now() (clock.Reading, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(time.Second)
	return clock.Reading{Time: c.at, State: clock.Synced}, nil
}

// advance moves the clock.
func (c *testClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// testRelay keeps letters, which a test answers.
type testRelay struct {
	mu      sync.Mutex
	letters map[relay.ID]*relay.Letter
}

func (q *testRelay) Add(letters ...*relay.Letter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range letters {
		if q.letters[l.ID] == nil {
			q.letters[l.ID] = l
		}
	}
}

// process is one life of the provider.
type process struct {
	*Pipeline
	world *world
	log   *merkle.Log
	spool *spool.Spool
}

// begin opens everything over a file system. An error may be the fault that the
// test injected.
func (w *world) begin(fsys durable.FS) (p *process, err error) {
	quiet := slog.New(slog.DiscardHandler)
	months, err := keys.OpenMonths(durable.OS, filepath.Join(w.dir, "months"), filepath.Join(w.dir, "master"))
	if err != nil {
		return nil, err
	}
	signer, verifier, err := checkpoint.NewSigner(origin, w.logKey)
	if err != nil {
		return nil, err
	}
	p = &process{world: w}
	p.log, err = merkle.Open(context.Background(), merkle.Options{Dir: filepath.Join(w.dir, "log"), Origin: origin, Signer: signer, Verifier: verifier, Logger: quiet, MinFree: 1 << 20})
	if err != nil {
		return nil, err
	}
	reg, err := register.Open(context.Background(), register.Options{Dir: filepath.Join(w.data, "receipts"), FS: fsys, Origin: origin, Log: p.log, Months: months,
		Samples: [][]byte{[]byte("Content-Type: multipart/signed")}, Logger: quiet})
	if err != nil {
		return nil, errors.Join(err, p.log.Close())
	}
	closeAll := func() error { return errors.Join(reg.Close(), p.log.Close()) }
	sp, jobs, err := spool.Open(fsys, filepath.Join(w.data, "spool"), reg.BlobKeys())
	if err != nil {
		return nil, errors.Join(err, closeAll())
	}
	p.spool = sp
	w.relay = &testRelay{letters: map[relay.ID]*relay.Letter{}}
	index := w.index(&providers.Provider{Name: "Esempio", Domains: []string{domain}, ServiceAddress: "posta-certificata@" + domain,
		Certificates: []*x509.Certificate{w.signer.Certificate()}},
		&providers.Provider{Name: "Altro", Domains: []string{"altro.example", "terzo.example"}, ServiceAddress: "posta-certificata@altro.example"})
	p.Pipeline, err = Open(context.Background(), Options{Register: reg, Spool: sp, Jobs: jobs, Boxes: w.openBoxes(fsys),
		Index:    func() *providers.Index { return index },
		Composer: &pec.Composer{Provider: pec.Provider{Name: "Esempio", Domain: domain, ServiceAddress: "posta-certificata@" + domain}, Signer: w.signer, Location: calendar.Rome()},
		Roots:    w.roots, Clock: w.clock, KeepOriginals: true, Relay: w.relay,
		Scanner: w.scanner, PassUnscanned: w.passUnscanned, Incoming: w.incoming,
		Limits: Limits{Recipients: 5, BytesTimesRecipients: 1 << 20}, FreeBytes: func() (int64, error) { return 1 << 40, nil }, Logger: quiet})
	if err != nil {
		return nil, errors.Join(err, closeAll())
	}
	return p, nil
}

// end closes a process; after an injected crash closing fails, too.
func (p *process) end() error {
	p.Close()
	p.audit()
	return errors.Join(p.spool.Close(), p.register.Close(), p.log.Close())
}

// drain runs every waiting job in this goroutine and returns the first error.
func (p *process) drain() error {
	p.goOn()
	for {
		select {
		case t := <-p.tasks:
			err := p.run(context.Background(), t, slog.New(slog.DiscardHandler))
			if errors.Is(err, errWaiting) {
				p.rest(t)
			} else if err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// send hands a message in as the Access Point does.
func (p *process) send(id, header string, recipients ...string) (*submission, error) {
	msg := fmt.Sprintf("Message-ID: <%s@client>\r\nFrom: mario@%s\r\n%s\r\nCiao.\r\n", id, domain, header)
	return p.handIn(context.Background(), strings.NewReader(msg), "mario@"+domain, recipients, "mario@"+domain, record.Peer{}, func(err error) error { return err })
}

// mailboxOf returns the messages of a mailbox by kind of PEC message.
func (w *world) mailboxOf(name string) map[pec.Kind]int {
	w.t.Helper()
	got := map[pec.Kind]int{}
	files, err := filepath.Glob(filepath.Join(w.data, "mail", domain, name, "new", "*"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range files {
		r, err := os.Open(f)
		if err != nil {
			w.t.Fatal(err)
		}
		s, err := pec.ReadSigned(r, pec.DefaultLimits())
		if err != nil || s.Fault != nil {
			w.t.Fatalf("%s: %v %v", f, err, s.Fault)
		}
		got[s.Kind]++
		if err := r.Close(); err != nil {
			w.t.Fatal(err)
		}
	}
	return got
}

// records returns how many records of each kind are about a message.
func (p *process) records(t *testing.T, id string) map[record.Kind]int {
	t.Helper()
	got := map[record.Kind]int{}
	err := p.register.Search(t.Context(), register.Query{Identifier: id + "@client"}, time.Now().Add(time.Hour), func(f *register.Found) bool {
		got[f.Record.Kind]++
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}
