package tiles

import (
	"bytes"
	"errors"
	"testing"
)

func TestBundle(t *testing.T) {
	t.Parallel()
	entries := [][]byte{{}, []byte("a"), bytes.Repeat([]byte{7}, MaxEntrySize)}
	var b []byte
	for _, e := range entries {
		var err error
		if b, err = AppendEntry(b, e); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ParseBundle(b, len(entries))
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range entries {
		if !bytes.Equal(got[i], e) {
			t.Errorf("entry %d differs", i)
		}
	}
	if _, err := AppendEntry(nil, make([]byte, MaxEntrySize+1)); !errors.Is(err, ErrEntrySize) {
		t.Errorf("too long an entry: %v", err)
	}
	for name, c := range map[string]struct {
		bundle []byte
		width  int
	}{
		"none":          {nil, 1},
		"width 0":       {nil, 0},
		"width 257":     {b, 257},
		"too few":       {b, 4},
		"too many":      {b, 2},
		"half a length": {[]byte{0}, 1},
		"cut off":       {b[:len(b)-1], 3},
		"trailing":      {append(bytes.Clone(b), 0), 3},
	} {
		if got, err := ParseBundle(c.bundle, c.width); !errors.Is(err, ErrBundle) {
			t.Errorf("%s: %d entries, %v", name, len(got), err)
		}
	}
}

func FuzzParseBundle(f *testing.F) {
	f.Add([]byte{0, 1, 'a', 0, 0}, 2)
	f.Add([]byte{0xff, 0xff}, 1)
	f.Fuzz(func(t *testing.T, b []byte, width int) {
		entries, err := ParseBundle(b, width)
		if err != nil {
			return
		}
		var again []byte
		for _, e := range entries {
			if again, err = AppendEntry(again, e); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(again, b) || len(entries) != width {
			t.Errorf("%x of width %d is written as %x", b, width, again)
		}
	})
}
