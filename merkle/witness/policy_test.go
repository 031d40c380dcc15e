package witness

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"scripta/merkle/checkpoint"
)

func TestPolicy(t *testing.T) {
	t.Parallel()
	var keys []string
	var members []Member
	for i := range 3 {
		k := vkeyOf(newSigner(t, fmt.Sprintf("w.example/%d", i)))
		m, err := NewMember(k, "https://w.example/"+string(rune('0'+i)))
		if err != nil {
			t.Fatal(err)
		}
		keys, members = append(keys, k), append(members, m)
	}
	for quorum := range 4 {
		p := &Policy{members, quorum}
		got, err := ParsePolicy([]byte(p.Text()))
		if err != nil || got.Quorum != quorum || quorum > 0 && got.Text() != p.Text() {
			t.Errorf("quorum %d is read as %+v, %v", quorum, got, err)
		}
	}
	w := func(name string, i int) string { return "witness " + name + " " + keys[i] + "\n" }
	two := w("a", 0) + w("b", 1) + " # c\n"
	for text, quorum := range map[string]int{
		two + "quorum a":                                   1,
		two + "group g any a b\nquorum g\n":                1,
		two + "group g all a b # both\nquorum g":           2,
		"log x+00000000+AA\n" + two + "quorum none\n":      0,
		w("a", 0) + "group g 1 a\r\n\tquorum   g":          1,
		two + "group g 1 a\ngroup h 2 a b\nquorum h":       2,
		"witness a " + keys[0] + " http://x/y\nquorum a\n": 1,
	} {
		if p, err := ParsePolicy([]byte(text)); err != nil || p.Quorum != quorum {
			t.Errorf("%q: %+v, %v", text, p, err)
		}
	}
	same := strings.Replace(keys[0], "w.example/0", "other", 1) // the key id does not fit
	for _, text := range []string{
		"", "quorum", "quorum a", two, two + "quorum c", two + "quorum a\nquorum b", two + "group g 3 a b\nquorum g", two + "group g 0 a b\nquorum g",
		two + "group g 1 c\nquorum g", two + "group g -1 a\nquorum g", two + w("a", 2) + "quorum a", two + "group a 1 b\nquorum a", "witness none " + keys[0],
		two + "group g 1 a b\ngroup h 1 g\nquorum h", w("a", 0) + w("b", 0) + "group g 2 a b\nquorum g", "witness a " + same + "\nquorum a",
		w("a", 0) + "group g 2 a a\nquorum g", "witness a " + keys[0] + " x\nquorum a", "nonsense", strings.Repeat("#", MaxPolicySize+1),
	} {
		if p, err := ParsePolicy([]byte(text)); !errors.Is(err, ErrPolicy) && !errors.Is(err, ErrKey) {
			t.Errorf("%.200q: %+v, %v", text, p, err)
		}
	}
}

func TestCosignatures(t *testing.T) {
	t.Parallel()
	log, _ := logKey(t, 1)
	a, b := newSigner(t, "w.example/a"), newSigner(t, "w.example/b")
	p := &Policy{Quorum: 2}
	for _, s := range []*Signer{a, b} {
		m, err := NewMember(vkeyOf(s), "")
		if err != nil {
			t.Fatal(err)
		}
		p.Members = append(p.Members, m)
	}
	cp, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: origin, Size: 7}, log)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_700_000_000, 0).UTC()
	line := func(s *Signer, text string) string {
		b, err := s.Line(text, at)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	note := string(cp.Note)
	both := note + line(b, cp.Text()) + line(a, cp.Text())
	all, err := p.Cosignatures([]byte(both))
	if err != nil || len(all) != 2 || all[0] != (Cosignature{"w.example/b", at}) || !p.Satisfied([]byte(both)) {
		t.Errorf("%+v, %v", all, err)
	}
	stranger := newSigner(t, "w.example/c")
	for name, signed := range map[string]string{
		"nobody": note, "one": note + line(a, cp.Text()), "one twice": note + line(a, cp.Text()) + line(a, cp.Text()),
		"a stranger": note + line(a, cp.Text()) + line(stranger, cp.Text()), "of another text": note + line(a, cp.Text()) + line(b, cp.Text()+"x\n"), "no note": "x",
	} {
		if p.Satisfied([]byte(signed)) {
			t.Errorf("%s: counts as a quorum of two", name)
		}
	}
	if _, err := p.Cosignatures([]byte(note + line(b, cp.Text()+"x\n"))); err == nil {
		t.Error("a bad cosignature is no error")
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte("witness a w.example+0011aabb+BA== http://x\ngroup g any a\nquorum g\n"))
	f.Add([]byte((&Policy{}).Text()))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePolicy(b)
		if err != nil {
			return
		}
		if again, err := ParsePolicy([]byte(p.Text())); err != nil || again.Quorum != p.Quorum || p.Quorum > 0 && again.Text() != p.Text() {
			t.Errorf("%q is written as %q: %v", b, p.Text(), err)
		}
	})
}
