package durable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// noSync is the real file system without waiting for it.
type noSync struct{ FS }

type noSyncFile struct{ File }

func (noSyncFile) Sync() error      { return nil }
func (noSync) SyncDir(string) error { return nil }
func (n noSync) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := n.FS.OpenFile(name, flag, perm)
	return noSyncFile{f}, err
}

// write gives the frames of one write.
func write(recs ...[]byte) []byte {
	var buf []byte
	for i, rec := range recs {
		buf = appendFrame(buf, rec, i == 0)
	}
	return buf
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed)}).Read(b)
	return b
}

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func zeroed(b []byte, from, to int) []byte {
	b = bytes.Clone(b)
	clear(b[from:to])
	return b
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 0x40
	return b
}

// TestFrameFormat holds the format, which files on disks have.
func TestFrameFormat(t *testing.T) {
	t.Parallel()
	got := write([]byte("scripta"), []byte{})
	want := []byte("\x80\x00\x00\x07\xdb\xad\x78\xeescripta\x00\x00\x00\x00\x48\x67\x4b\xc7")
	if !bytes.Equal(got, want) {
		t.Errorf("frames %x, want %x", got, want)
	}
	crc := crc32.Checksum([]byte("\x80\x00\x00\x07scripta"), crc32.MakeTable(crc32.Castagnoli))
	if binary.BigEndian.Uint32(got[4:]) != crc {
		t.Errorf("checksum %x, want %08x", got[4:8], crc)
	}
}

// One changed bit is damage wherever it is, in the very last record too.
func TestOpenJournalSeesEveryBit(t *testing.T) {
	t.Parallel()
	good := cat(write([]byte("one"), noise(1, 200)), write(noise(2, 50)), write(noise(3, 90), []byte{}, noise(4, 5)))
	name := filepath.Join(t.TempDir(), "j")
	for bit := range len(good) * 8 {
		b := bytes.Clone(good)
		b[bit/8] ^= 1 << (bit % 8)
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		var corrupt *CorruptError
		if _, err := OpenJournal(noSync{OS}, name, nil); !errors.As(err, &corrupt) {
			t.Fatalf("bit %d of byte %d: %v", bit%8, bit/8, err)
		}
	}
}

func TestOpenJournalTellsTornFromDamaged(t *testing.T) {
	t.Parallel()
	one, two := write([]byte("one")), write([]byte("two"), []byte("three"))
	good := cat(one, two)
	big := write(noise(1, 3000), noise(2, 3000), noise(3, 3000), noise(4, 3000), noise(5, 3000))
	withBig := cat(good, big)
	n := len(good)
	edge := write(noise(1, 4095-headerSize), noise(2, 100), noise(3, 100)) // the second frame begins with a block's last byte
	tests := []struct {
		name    string
		file    []byte
		records int // that survive; -1: *CorruptError
		at      int // its offset
	}{
		{"empty", nil, 0, 0},
		{"whole", good, 3, 0},
		{"partial header", cat(good, one[:5]), 3, 0},
		{"one byte", cat(good, one[:1]), 3, 0},
		{"header alone", cat(good, one[:8]), 3, 0},
		{"partial payload", cat(good, one[:10]), 3, 0},
		{"first write torn", one[:10], 0, 0},
		{"noise", cat(good, noise(9, 5000)), 3, 0},
		{"little noise", cat(good, noise(9, 3)), 3, 0},
		{"much noise", cat(good, noise(9, 3<<20)), 3, 0},
		{"zeros", cat(good, make([]byte, 5000)), 3, 0},
		{"few zeros", cat(good, make([]byte, 3)), 3, 0},
		{"zeros alone", make([]byte, 8192), 0, 0},
		{"large write cut", withBig[:n+7000], 5, 0},
		{"large write, first block lost", zeroed(withBig, n, 4096), 3, 0},
		{"large write, second block lost", zeroed(withBig, 4096, 8192), 4, 0},
		{"large write, second block lost and end cut", zeroed(withBig, 4096, 8192)[:n+10000], 4, 0},
		{"large write, all but the last block lost", zeroed(withBig, n, 12288), 3, 0},

		{"payload damaged, last record", flipped(good, len(good)-1), -1, 22},
		{"payload damaged in two bits, last record", flipped(flipped(good, len(good)-1), len(good)-3), 2, 0}, // cannot be told from a cut write
		{"payload damaged", flipped(good, 9), -1, 0},
		{"checksum damaged", flipped(good, 5), -1, 0},
		{"length damaged to beyond the end", flipped(good, 2), -1, 0},
		{"length damaged to impossible", flipped(good, 0), -1, 0},
		{"damage to an earlier record of the last write", flipped(good, len(one)+9), -1, len(one)},
		{"block lost before the last write", cat(zeroed(withBig, 4096, 8192), one), -1, n + 3008},
		{"zeros between records", cat(one, make([]byte, 100), two), -1, len(one)},
		{"noise between records", cat(one, noise(9, 100000), two), -1, len(one)},
		{"large write, bit flipped", flipped(withBig, n+100), -1, n},
		{"bit flipped, the length's zero byte ends a block", flipped(edge, 4095+20), -1, 4095},
		{"large write, a lost block and a flipped bit", flipped(zeroed(withBig, n, 4096), n+9100), -1, n},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			name := filepath.Join(t.TempDir(), "j")
			if err := os.WriteFile(name, tc.file, 0o600); err != nil {
				t.Fatal(err)
			}
			records := 0
			count := func(int64, []byte) error { records++; return nil }
			j, err := OpenJournal(noSync{OS}, name, count)
			if tc.records < 0 {
				var corrupt *CorruptError
				if !errors.As(err, &corrupt) || corrupt.Offset != int64(tc.at) || corrupt.Name != name {
					t.Fatalf("got %v, want damage at %d", err, tc.at)
				}
				if b, err := os.ReadFile(name); err != nil || !bytes.Equal(b, tc.file) {
					t.Fatalf("the damaged file was changed (%v)", err)
				}
				return
			}
			if err != nil || records != tc.records {
				t.Fatalf("%d records, want %d; %v", records, tc.records, err)
			}
			if j.Torn() != int64(len(tc.file))-j.Size() {
				t.Errorf("torn %d, size %d of %d", j.Torn(), j.Size(), len(tc.file))
			}
			if _, err := j.Append([]byte("next")); err != nil {
				t.Fatal(err)
			}
			_ = j.Close()
			records = 0
			j, err = OpenJournal(noSync{OS}, name, count)
			if err != nil || records != tc.records+1 || j.Torn() != 0 {
				t.Fatalf("after an append: %d records, %v", records, err)
			}
			_ = j.Close()
		})
	}
}

// The search for frames must not depend on how large the noise is.
func TestSumsAgreeWithPlainChecksums(t *testing.T) {
	t.Parallel()
	text := noise(5, 10*block+77)
	s := newSums(text)
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		from := r.IntN(len(text))
		to := from + r.IntN(len(text)-from)
		frame := appendFrame(nil, text[from:to], from%2 == 0)
		h, ok := parseHeader(frame)
		if !ok || !s.intact(h, from, to) {
			t.Fatalf("[%d:%d] not intact", from, to)
		}
		h.sum ^= 1 << (from % 32)
		if s.intact(h, from, to) {
			t.Fatalf("[%d:%d] intact with another checksum", from, to)
		}
	}
}

// FuzzOpenJournal opens arbitrary bytes: it never panics, it opens what it cut,
// and it takes for torn only what holds no marked frame after the damage.
func FuzzOpenJournal(f *testing.F) {
	one, two := write([]byte("one")), write([]byte("two"), []byte("three"))
	f.Add(cat(one, two), 0, byte(0))
	f.Add(cat(one, two), 3, byte(1))
	f.Add(cat(one, two, make([]byte, 20), one), 30, byte(7))
	f.Add(cat(one, write(noise(1, 4000), noise(2, 200))), 2000, byte(0xff))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, file []byte, at int, mask byte) {
		if at >= 0 && at < len(file) {
			file[at] ^= mask
		}
		name := filepath.Join(dir, fmt.Sprint(os.Getpid()))
		if err := os.WriteFile(name, file, 0o600); err != nil {
			t.Fatal(err)
		}
		end := int64(0)
		j, err := OpenJournal(noSync{OS}, name, func(off int64, rec []byte) error {
			end = off + headerSize + int64(len(rec))
			return nil
		})
		marked := false
		for y := int(end) + 1; y+headerSize <= len(file); {
			h, ok := parseHeader(file[y:])
			rest := file[y+headerSize:]
			if !ok || h.length > int64(len(rest)) || !h.intact(rest[:h.length]) {
				y++
				continue
			}
			marked = marked || h.first
			y += headerSize + int(h.length)
		}
		var corrupt *CorruptError
		switch {
		case errors.As(err, &corrupt):
			if corrupt.Offset != end {
				t.Fatalf("damage at %d, intact until %d", corrupt.Offset, end)
			}
		case err != nil:
			t.Fatal(err)
		default:
			if marked {
				t.Fatal("cut off a frame that was written after the damaged one was on the disk")
			}
			if j.Size() != end {
				t.Fatalf("size %d, intact until %d", j.Size(), end)
			}
			_ = j.Close()
			again, err := OpenJournal(noSync{OS}, name, nil)
			if err != nil || again.Torn() != 0 || again.Size() != end {
				t.Fatalf("opened again: %v", err)
			}
			_ = again.Close()
		}
	})
}

// What lies farther from the end than a write can be is no torn write, unless
// it is zero: a file system may prolong a file by any length.
func TestOpenJournalWithLongTail(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "j")
	good := write([]byte("one"))
	for _, last := range []byte{0, 1} {
		if err := os.WriteFile(name, good, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{last}, int64(len(good))+maxUnsynced); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		j, err := OpenJournal(noSync{OS}, name, nil)
		var corrupt *CorruptError
		if last == 0 {
			if err != nil || j.Size() != int64(len(good)) {
				t.Fatalf("zeros: %v", err)
			}
			_ = j.Close()
		} else if !errors.As(err, &corrupt) {
			t.Fatalf("noise: %v", err)
		}
	}
}

func TestCheckJournal(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "j")
	whole := cat(write([]byte("one"), noise(1, 300)), write(noise(2, 40)))
	if err := os.WriteFile(name, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	read := 0
	if err := CheckJournal(OS, name, func(n int) error { read += n; return nil }); err != nil || read != len(whole) {
		t.Fatalf("%d of %d bytes, %v", read, len(whole), err)
	}
	for _, at := range []int{0, 5, 9, 100, len(whole) - 1} {
		if err := os.WriteFile(name, flipped(whole, at), 0o600); err != nil {
			t.Fatal(err)
		}
		var corrupt *CorruptError
		if err := CheckJournal(OS, name, nil); !errors.As(err, &corrupt) || corrupt.Name != name || corrupt.Offset > int64(at) {
			t.Errorf("byte %d: %v", at, err)
		}
	}
}
