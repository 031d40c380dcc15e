package bench

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// signaturesPerMessage is how many RSA signatures a message between two
// mailboxes of one provider takes: acceptance, envelope, take-charge, delivery.
const signaturesPerMessage = 4

// signRate is how many RSA-2048 signatures this machine makes a second.
func signRate(workers int, long time.Duration) (float64, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return 0, err
	}
	o, err := closedLoop(workers, long, func(worker int) func() error {
		digest := sha256.Sum256([]byte{byte(worker)})
		return func() error {
			_, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
			return err
		}
	})
	return o.rate(), err
}

// syncRates are what the disk takes a second.
type syncRates struct {
	appends1, appends20 float64 // 200 bytes to the end of a file of one's own, fdatasync
	files20             float64 // new files of 10 KiB: write, fsync, rename, fsync of the folder; 20 workers
}

func measureSyncs(dir string, long time.Duration) (r syncRates, err error) {
	for _, c := range []struct {
		workers int
		files   bool
		rate    *float64
	}{{1, false, &r.appends1}, {20, false, &r.appends20}, {20, true, &r.files20}} {
		o, err := syncLoop(dir, c.workers, c.files, long)
		if err != nil {
			return r, err
		}
		*c.rate = o.rate()
	}
	return r, nil
}

func syncLoop(parent string, workers int, newFiles bool, long time.Duration) (o outcome, err error) {
	dir, err := os.MkdirTemp(parent, "sync-")
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	files := make([]*os.File, workers)
	for i := range files {
		own := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(own, 0o700); err != nil {
			return o, err
		}
		if files[i], err = os.Create(filepath.Join(own, "appended")); err != nil {
			return o, err
		}
		defer files[i].Close()
	}
	return closedLoop(workers, long, func(worker int) func() error {
		if newFiles {
			n, own, data := 0, filepath.Dir(files[worker].Name()), make([]byte, 10<<10)
			return func() error {
				n++
				return syncedFile(own, fmt.Sprint(n), data)
			}
		}
		data := make([]byte, 200)
		return func() error {
			if _, err := files[worker].Write(data); err != nil {
				return err
			}
			return unix.Fdatasync(int(files[worker].Fd()))
		}
	})
}

// syncedFile writes a file as a mailbox gets one.
func syncedFile(dir, name string, data []byte) error {
	tmp := filepath.Join(dir, "tmp."+name)
	f, err := os.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
