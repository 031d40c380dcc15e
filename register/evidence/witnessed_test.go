package evidence

import (
	"crypto/ed25519"
	"crypto/rand"
	"testing"
	"time"

	"scripta/merkle/checkpoint"
	"scripta/merkle/witness"
)

func TestWitnessed(t *testing.T) {
	t.Parallel()
	signer, log, err := checkpoint.NewSigner("log.example/scripta/1", ed25519.NewKeyFromSeed(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	sign := func(size uint64, root byte) *checkpoint.Signed {
		cp, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: log.Name(), Size: size, Root: [32]byte{root}}, signer)
		if err != nil {
			t.Fatal(err)
		}
		return cp
	}
	two := &witness.Policy{Quorum: 2}
	line := func(name string) func(cp *checkpoint.Signed) string {
		skey, vkey, err := witness.GenerateKey(rand.Reader, name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := witness.NewSigner(skey)
		if err != nil {
			t.Fatal(err)
		}
		if name != "stranger.example" {
			m, err := witness.NewMember(vkey, "")
			if err != nil {
				t.Fatal(err)
			}
			two.Members = append(two.Members, m)
		}
		return func(cp *checkpoint.Signed) string {
			b, err := s.Line(cp.Text(), time.Unix(1_700_000_000, 0))
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
	}
	a, b, stranger := line("a.example"), line("b.example"), line("stranger.example")
	cp, fork, later := sign(7, 1), sign(7, 2), sign(9, 1)
	own := string(cp.Note)
	for name, c := range map[string]struct {
		note    string // "" for none
		covered uint64
		policy  *witness.Policy
		ok      bool
	}{
		"both":                        {own + a(cp) + b(cp), 7, two, true},
		"both, and a stranger":        {own + stranger(cp) + b(cp) + a(cp), 7, two, true},
		"one of one":                  {own + a(cp), 7, &witness.Policy{Members: two.Members, Quorum: 1}, true},
		"nobody is wanted":            {own + a(cp), 8, nil, true},
		"nobody is wanted, nor there": {"", 8, nil, true},
		"none must":                   {"", 8, &witness.Policy{Members: two.Members}, true},
		"no cosignatures":             {"", 7, two, false},
		"one":                         {own + a(cp), 7, two, false},
		"one twice":                   {own + a(cp) + a(cp), 7, two, false},
		"one, and a stranger":         {own + a(cp) + stranger(cp), 7, two, false},
		"a record beyond":             {own + a(cp) + b(cp), 8, two, false},
		"cosignatures of a fork":      {own + a(fork) + b(fork), 7, two, false},
		"a fork's note":               {string(fork.Note) + a(fork) + b(fork), 7, two, false},
		"a later note":                {string(later.Note) + a(later) + b(later), 7, two, false},
		"a note without the log's":    {cp.Text() + "\n" + a(cp) + b(cp), 7, two, false},
		"the wrong note, though nobody is wanted": {string(fork.Note) + a(fork), 7, nil, false},
		"no note": {"x", 7, nil, false},
	} {
		v := &verifier{trust: Trust{Log: log, Witnesses: c.policy}, report: &Report{}, files: map[string]*File{}, used: map[string]bool{}, covered: c.covered}
		if c.note != "" {
			f := NewFile("checkpoints/000000000007.cosigned", []byte(c.note))
			v.files[f.Name] = &f
		}
		v.checkCosigned(cp)
		v.checkWitnesses()
		v.checkUnused()
		if v.report.OK() != c.ok {
			t.Errorf("%s: %s %+v", name, v.report.Verdict(), v.report.Checks)
		}
	}
}
