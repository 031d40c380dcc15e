package main

import (
	"path/filepath"
	"testing"

	"scripta/internal/durable/powerfs"
)

// When the power fails, every byte and every name that was not synced may be
// gone, or not: databases, journals and mailboxes alike. What was answered 250
// is there all the same, once.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	disk := powerfs.New(t.TempDir())
	if err := disk.Mount(); err != nil {
		missing(t, "%v", err)
	}
	// Registered before the provider's clean-up, so that it comes after it.
	t.Cleanup(func() {
		if err := disk.Unmount(); err != nil {
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
		disk.Cut()
		storm.p.daemon.kill()
		if err := disk.Restore(loss, storm.rand); err != nil {
			t.Fatal(err)
		}
	}
	// What init made is durable when it has ended.
	disk.Cut()
	if err := disk.Restore(powerfs.LoseAll, nil); err != nil {
		t.Fatal(err)
	}
	storm.weather()
	t.Logf("cuts that lost all, some, none: %d, %d, %d; %d syncs", cuts[powerfs.LoseAll], cuts[powerfs.LoseSome], cuts[powerfs.LoseNone], disk.Syncs())
}
