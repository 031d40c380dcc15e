package bench

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/merkle/checkpoint"
	"scripta/register"
)

const logOrigin = "bench.example/scripta/0001"

// testRegister is a register with its log in a folder of its own, opened as the
// daemon opens it, checkpoints published each second.
type testRegister struct {
	*register.Register
	log    *merkle.Log
	stop   context.CancelFunc
	ended  chan struct{}
	folder string
}

// newLogKey makes a key for checkpoints.
func newLogKey() (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return key, err
}

func createRegister(ctx context.Context, dir string, key ed25519.PrivateKey) (*testRegister, error) {
	if _, err := keys.CreateMonths(durable.OS, filepath.Join(dir, "months"), filepath.Join(dir, "master")); err != nil {
		return nil, err
	}
	return openRegister(ctx, dir, key)
}

func openRegister(ctx context.Context, dir string, key ed25519.PrivateKey) (*testRegister, error) {
	months, err := keys.OpenMonths(durable.OS, filepath.Join(dir, "months"), filepath.Join(dir, "master"))
	if err != nil {
		return nil, err
	}
	signer, verifier, err := checkpoint.NewSigner(logOrigin, key)
	if err != nil {
		return nil, err
	}
	logger := slog.New(slog.DiscardHandler)
	t := &testRegister{folder: dir, ended: make(chan struct{})}
	t.log, err = merkle.Open(ctx, merkle.Options{Dir: filepath.Join(dir, "log"), Origin: logOrigin, Signer: signer, Verifier: verifier, Logger: logger})
	if err != nil {
		return nil, err
	}
	t.Register, err = register.Open(ctx, register.Options{Dir: filepath.Join(dir, "register"), FS: durable.OS, Origin: logOrigin, Log: t.log,
		Months: months, Logger: logger})
	if err != nil {
		return nil, errors.Join(err, t.log.Close())
	}
	if err := t.Begin(time.Now()); err != nil {
		return nil, errors.Join(err, t.Register.Close(), t.log.Close())
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	t.stop = stop
	go func() {
		defer close(t.ended)
		_ = t.log.Run(run, time.Second) // what fails here fails the appends too
	}()
	return t, nil
}

func (t *testRegister) close() error {
	t.stop()
	<-t.ended
	return errors.Join(t.Register.Close(), t.log.Close())
}
