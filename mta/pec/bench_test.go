package pec

import (
	"io"
	"strings"
	"testing"
	"time"
)

// fixedSigner signs with a blob of the size of a real signature, so that the benchmark is of all but the signing.
type fixedSigner []byte

func (s fixedSigner) Sign([32]byte, time.Time) ([]byte, error) { return s, nil }

func benchmarkEnvelope(b *testing.B, size int) (*Composer, Issue, *Original, Facts, Included) {
	b.Helper()
	c := testComposer(b)
	c.Signer = make(fixedSigner, 3500)
	text := testOriginal + strings.Repeat(strings.Repeat("0123456789", 7)+"\r\n", size/72)
	o := readOriginal(b, text)
	at := testTransaction().Issue(1, 0)
	f := testFacts(c, o, at)
	in, err := o.Included(strings.NewReader(text), f.EnvelopeID)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(in.Size)
	b.ReportAllocs()
	return c, at, o, f, in
}

func BenchmarkTransportEnvelope10KB(b *testing.B) {
	c, at, o, f, in := benchmarkEnvelope(b, 10<<10)
	for b.Loop() {
		if _, err := c.TransportEnvelope(at, f, o.Inherited(), in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAcceptance(b *testing.B) {
	c, at, _, f, _ := benchmarkEnvelope(b, 10<<10)
	for b.Loop() {
		if _, err := c.Acceptance(at, f); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadOriginal10KB(b *testing.B) {
	_, _, o, _, in := benchmarkEnvelope(b, 10<<10)
	for b.Loop() {
		if _, err := ReadOriginal(io.NewSectionReader(in.Bytes, 0, in.Size), Limits{}); err != nil {
			b.Fatal(err, o)
		}
	}
}

func BenchmarkReadSigned10KB(b *testing.B) {
	c, at, o, f, in := benchmarkEnvelope(b, 10<<10)
	m, err := c.TransportEnvelope(at, f, o.Inherited(), in)
	if err != nil {
		b.Fatal(err)
	}
	message, err := io.ReadAll(m.Reader(in.Bytes))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if s, err := ReadSigned(strings.NewReader(string(message)), Limits{}); err != nil || s.Fault != nil {
			b.Fatal(err, s.Fault)
		}
	}
}
