package stamps

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"scripta/merkle/checkpoint"
	"scripta/register"
	"scripta/register/record"
	"scripta/tsa"
)

// Asker asks a time-stamp authority (tsa.Client).
type Asker interface {
	Stamp(ctx context.Context, digest [32]byte, nonce *big.Int) (*tsa.Response, error)
}

// Authority is one configured time-stamp authority.
type Authority struct {
	Name             string // in records: its URL
	Client           Asker
	RequireQualified bool
}

// Options say what a stamper is made of.
type Options struct {
	Store       *Store
	Register    *register.Register
	Authorities []Authority // asked in turn until one grants
	Ceiling     int         // requests in a UTC day at most
	Now         func() (time.Time, error)
	Logger      *slog.Logger
}

// Stamper asks for time stamps over the log's latest checkpoint.
type Stamper struct {
	o Options

	Granted, Failed atomic.Uint64 // requests; may be read at any time

	trouble atomic.Pointer[Trouble]

	mu   sync.Mutex // one request at a time; guards what follows
	day  string
	used int    // requests of the day
	own  uint64 // records appended by the stamper since the last stamp
}

// NewStamper makes a stamper.
func NewStamper(o Options) *Stamper { return &Stamper{o: o} }

var (
	// ErrCeiling says that no more stamps may be asked for today.
	ErrCeiling = errors.New("stamps: the day's ceiling of time stamps is reached (tsa.daily_ceiling)")
	// ErrNoAuthority says that no authority is configured.
	ErrNoAuthority = errors.New("stamps: no time-stamp authority is configured")
)

// Latest stamps the latest checkpoint, publishing one first if the log grew, and
// returns its stamp. When nothing but the stamper's own records came since the
// last stamp, it returns that one and asks nobody.
func (s *Stamper) Latest(ctx context.Context) (*Stamp, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.latest(ctx)
	switch before := s.trouble.Load(); {
	case err == nil:
		s.trouble.Store(nil)
	case before != nil:
		s.trouble.Store(&Trouble{before.Since, err})
	default:
		s.trouble.Store(&Trouble{time.Now(), err})
	}
	return st, err
}

// Trouble is why the latest checkpoint is not stamped.
type Trouble struct {
	Since time.Time // of the first failure after the last success, on the machine's clock
	Err   error     // of the last one
}

// Trouble returns nil after a success and before the first try. It does not wait
// for a request under way.
func (s *Stamper) Trouble() *Trouble { return s.trouble.Load() }

// latest is Latest, whose lock it needs.
func (s *Stamper) latest(ctx context.Context) (*Stamp, error) {
	log := s.o.Register.Log()
	last, stamped := s.o.Store.Last()
	if stamped && log.Size() <= last+s.own {
		return s.o.Store.Get(last)
	}
	cp, err := log.Publish(ctx)
	if err != nil {
		return nil, err
	}
	if len(s.o.Authorities) == 0 {
		return nil, ErrNoAuthority
	}
	err = nil
	for _, a := range s.o.Authorities {
		st, aerr := s.ask(ctx, a, cp)
		if aerr == nil {
			return st, nil
		}
		s.o.Logger.Warn("a time-stamp authority did not grant a stamp", "authority", a.Name, "err", aerr)
		err = errors.Join(err, aerr)
	}
	return nil, err
}

// ask asks one authority. A request is paid for once it was sent: the attempt is
// recorded whatever comes of it.
func (s *Stamper) ask(ctx context.Context, a Authority, cp *checkpoint.Signed) (*Stamp, error) {
	now, err := s.o.Now()
	if err != nil {
		return nil, err
	}
	if day := now.UTC().Format(time.DateOnly); day != s.day {
		s.day, s.used = day, 0
	}
	if s.used >= s.o.Ceiling {
		return nil, ErrCeiling
	}
	s.used++
	nonce, err := tsa.NewNonce()
	if err != nil {
		return nil, err
	}
	var st *Stamp
	reply, err := a.Client.Stamp(ctx, sha256.Sum256(cp.Stamped()), nonce)
	if err == nil {
		st, err = s.o.Store.Verify(cp, reply.Reply, tsa.Check{Nonce: nonce, RequireQualified: a.RequireQualified})
	}
	if err == nil {
		err = s.o.Store.Put(st, reply.Request)
	}
	rec := &record.Record{Kind: record.CheckpointStamped, Time: now, Outcome: record.Outcome{Code: "granted"}}
	detail := []record.Pair{{Name: "authority", Value: a.Name}, {Name: "root", Value: hex.EncodeToString(cp.Root[:])}, {Name: "size", Value: strconv.FormatUint(cp.Size, 10)}}
	if err != nil {
		s.Failed.Add(1)
		rec.Outcome = record.Outcome{Code: "failed", Text: err.Error()}
	} else {
		s.Granted.Add(1)
		sum := sha256.Sum256(st.Token.DER)
		rec.Digest = sum[:]
		detail = append(detail, record.Pair{Name: "serial", Value: st.Token.Serial.Text(16)}, record.Pair{Name: "time", Value: st.Token.Time.Format(time.RFC3339Nano)},
			record.Pair{Name: "qualified", Value: strconv.FormatBool(st.Token.Qualified)})
	}
	rec.Detail = record.SortDetail(detail)
	var tx [16]byte
	rand.Read(tx[:])
	if _, aerr := s.o.Register.Append(ctx, register.Entry{ID: record.MakeID(tx, 0, 0), Record: rec}); aerr != nil {
		return st, errors.Join(err, fmt.Errorf("couldn't record the time stamp: %w", aerr))
	}
	if err == nil {
		s.own = 0
	}
	s.own++
	return st, err
}

// Run stamps every interval until ctx ends, and once more then (within grace).
func (s *Stamper) Run(ctx context.Context, interval, grace time.Duration) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if _, err := s.Latest(ctx); err != nil && ctx.Err() == nil {
				s.o.Logger.Error("the latest checkpoint could not be stamped", "err", err)
			}
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
			defer cancel()
			if _, err := s.Latest(ctx); err != nil {
				s.o.Logger.Error("the last checkpoint could not be stamped", "err", err)
			}
			return
		}
	}
}
