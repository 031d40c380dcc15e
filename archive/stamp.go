package archive

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"scripta/merkle/checkpoint"
	"scripta/register/stamps"
	"scripta/tsa"
)

// Stamp is a time-stamped checkpoint.
type Stamp struct {
	Signed  *checkpoint.Signed
	Request []byte // TimeStampReq, DER; nil: not kept
	Reply   []byte // TimeStampResp over Signed.Stamped(), DER
}

// Stamps is where a closing gets time stamps from.
type Stamps interface {
	// Covering returns a stamped checkpoint of at least size leaves, the
	// smallest there is, and asks an authority only if there is none.
	Covering(ctx context.Context, size uint64) (*Stamp, error)
	// Between returns the stamped checkpoints of more than from and at most to
	// leaves, ascending. With an error come those that could be read.
	Between(from, to uint64) ([]*Stamp, error)
}

// KeptStamps takes stamps from the register's store.
type KeptStamps struct {
	Store *stamps.Store
	// Ask stamps the latest checkpoint (stamps.Stamper.Latest). Nil asks nobody.
	Ask func(context.Context) (*stamps.Stamp, error)
	// Request returns what was asked for the stamp of a size. Nil: not kept.
	Request func(size uint64) ([]byte, error)
}

// Covering implements [Stamps].
func (k KeptStamps) Covering(ctx context.Context, size uint64) (*Stamp, error) {
	var leaf uint64
	if size > 0 {
		leaf = size - 1
	}
	if at, ok := k.Store.Covering(leaf); ok {
		return k.get(at)
	}
	if k.Ask == nil {
		return nil, stamps.ErrNoAuthority
	}
	st, err := k.Ask(ctx)
	if err != nil {
		return nil, err
	}
	return k.whole(st)
}

// Between implements [Stamps].
func (k KeptStamps) Between(from, to uint64) ([]*Stamp, error) {
	var all []*Stamp
	var bad error
	for _, size := range k.Store.Between(from, to) {
		if st, err := k.get(size); err != nil {
			bad = errors.Join(bad, err)
		} else {
			all = append(all, st)
		}
	}
	return all, bad
}

func (k KeptStamps) get(size uint64) (*Stamp, error) {
	st, err := k.Store.Get(size)
	if err != nil {
		return nil, err
	}
	return k.whole(st)
}

func (k KeptStamps) whole(st *stamps.Stamp) (*Stamp, error) {
	out := &Stamp{Signed: st.Signed, Reply: st.Reply}
	if k.Request == nil {
		return out, nil
	}
	var err error
	if out.Request, err = k.Request(st.Signed.Size); errors.Is(err, stamps.ErrNotFound) {
		err = nil
	}
	return out, err
}

// checkStamp verifies a stamp before it goes into a package.
func (c *Closer) checkStamp(st *Stamp) error {
	if _, err := checkpoint.Open(st.Signed.Stamped(), c.o.Trust.Log); err != nil {
		return err
	}
	_, err := tsa.Verify(st.Reply, tsa.Check{Digest: sha256.Sum256(st.Signed.Stamped()), Roots: c.o.Trust.TSA})
	return err
}

// cover finds the checkpoint that a package ends in, and its stamp; the stamp is
// nil when it must stay pending. An authority that failed is not asked again
// during the same call of Close: every attempt may be paid for.
func (c *Closer) cover(ctx context.Context, size uint64, asked *bool) (*checkpoint.Signed, *Stamp, error) {
	if c.o.Stamps != nil && !*asked {
		st, err := c.o.Stamps.Covering(ctx, size)
		if err == nil {
			err = c.checkStamp(st)
		}
		if err == nil && st.Signed.Size < size {
			err = fmt.Errorf("the latest stamp covers %d leaves of %d", st.Signed.Size, size)
		}
		if err == nil {
			return st.Signed, st, nil
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		*asked = true
		c.o.Logger.Warn("a package is made with its time stamp pending; that of a later package will cover it", "err", err)
	}
	cp, err := c.o.Log.Publish(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("couldn't publish the checkpoint of a package: %w", err)
	}
	if cp.Size < size {
		return nil, nil, fmt.Errorf("the published checkpoint has %d leaves of %d", cp.Size, size)
	}
	return cp, nil, nil
}

// within returns the stamps that were made while the interval's records came:
// they date its records more finely than the last one. Those that can't be read
// are left out.
func (c *Closer) within(from, to uint64) []*Stamp {
	if c.o.Stamps == nil {
		return nil
	}
	all, err := c.o.Stamps.Between(from, to)
	good := all[:0]
	for _, st := range all {
		if serr := c.checkStamp(st); serr != nil {
			err = errors.Join(err, serr)
			continue
		}
		good = append(good, st)
	}
	if err != nil {
		c.o.Logger.Warn("a package is made without some of the time stamps within its interval", "err", err)
	}
	return good
}
