package main

import (
	"errors"
	"path/filepath"
	"testing"

	"scripta/internal/durable/powerfs"
)

// When the power fails, every byte and every name that was not synced may be
// gone, or not: databases, journals and mailboxes alike. What was answered 250
// is there all the same, once.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	disk, err := powerfs.Mount(t.TempDir(), false)
	if err != nil {
		missing(t, "%v", err)
	}
	// Registered before the provider's clean-up, so that it comes after it.
	t.Cleanup(func() {
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
	})
	storm := &killStorm{
		t: t, rand: seeded(t), messages: size(12, 60, 2000), kills: size(2, 10, 300),
		p: newProviderIn(t, filepath.Join(disk.Folder(), "pec"), killAccounts, nil),
	}
	cuts := map[powerfs.Loss]int{}
	storm.strike = func() {
		loss := []powerfs.Loss{powerfs.LoseAll, powerfs.LoseSome, powerfs.LoseSome, powerfs.LoseNone}[storm.rand.IntN(4)]
		cuts[loss]++
		err := disk.Cut()
		storm.p.daemon.kill()
		if err = errors.Join(err, disk.Restore(loss, storm.rand)); err != nil {
			t.Fatal(err)
		}
	}
	// What init made is durable when it has ended.
	if err := errors.Join(disk.Cut(), disk.Restore(powerfs.LoseAll, storm.rand)); err != nil {
		t.Fatal(err)
	}
	storm.weather()
	t.Logf("cuts that lost all, some, none: %d, %d, %d", cuts[powerfs.LoseAll], cuts[powerfs.LoseSome], cuts[powerfs.LoseNone])
}
