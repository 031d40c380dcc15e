package main

import (
	"strings"
	"testing"
	"time"

	"scripta/internal/cms"
	"scripta/internal/keys"
)

func TestSigningRole(t *testing.T) {
	t.Parallel()
	for ago, want := range map[time.Duration]string{0: "until", (3*365 - 7) * 24 * time.Hour: "warn", 4 * 365 * 24 * time.Hour: "ended"} {
		q := must[*keys.Quickstart](t)(keys.NewQuickstart(keys.QuickstartConfig{Domain: testDomain, Provider: "P", LogID: "x", Now: time.Now().Add(-ago)}))
		d := &daemon{app: &app{signer: must[*cms.Signer](t)(cms.NewSigner(q.PEC.Key, q.PEC.Certificate))}}
		detail, err := d.signingRole()
		ok := map[string]bool{"until": err == nil && strings.HasPrefix(detail, "until "), "warn": err != nil && isWarning(err), "ended": err != nil && !isWarning(err)}
		if !ok[want] {
			t.Errorf("made %v ago: %q %v", ago, detail, err)
		}
	}
}
