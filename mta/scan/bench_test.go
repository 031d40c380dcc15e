package scan_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"scripta/mta/scan/clamdtest"
)

// What a message costs that nothing is found in: one connection, 10 KB, a database of
// one signature.
func BenchmarkScan(b *testing.B) {
	s := open(clamdtest.Start(b).Address, 30*time.Second)
	content := mail(strings.Repeat("innocuo\r\n", 1100), true, false)
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		if f, err := s.Scan(context.Background(), strings.NewReader(content)); f != nil || err != nil {
			b.Fatal(f, err)
		}
	}
}
