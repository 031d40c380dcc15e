package mta

import (
	"testing"
	"time"

	"scripta/mta/spool"
)

func TestHowLongLettersAreTried(t *testing.T) {
	t.Parallel()
	begun := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	envelope := &passage{Begun: begun, Places: []int{0}, job: &spool.Job{}}
	if until := envelope.letter(24 * time.Hour).Until; !until.Equal(begun.Add(24 * time.Hour)) {
		t.Errorf("an envelope is tried until %v", until)
	}
	receipt := &passage{Begun: begun, job: &spool.Job{}}
	if until := receipt.letter(24 * time.Hour).Until; !until.Equal(begun.Add(5 * 24 * time.Hour)) {
		t.Errorf("a receipt is tried until %v", until)
	}
}
