package badgerfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/klauspost/compress/snappy"
)

// database makes a database of some synced commits, as the log's are, and returns
// its folder. If it is not closed in order, its last commits are in its
// write-ahead log.
func database(t testing.TB, inOrder bool, compression ...options.CompressionType) string {
	t.Helper()
	dir := t.TempDir()
	db, err := badger.OpenManaged(badger.DefaultOptions(dir).WithSyncWrites(true).WithDetectConflicts(false).WithCompression(append(compression, options.None)[0]).
		WithBlockCacheSize(int64(len(compression)) << 20).WithValueThreshold(1 << 20).WithValueLogFileSize(1 << 20).WithMemTableSize(8 << 20).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for version := uint64(1); version <= 12; version++ {
		txn := db.NewTransactionAt(version-1, true)
		for i := range 4 {
			value := make([]byte, 60+rnd.IntN(200))
			for k := range value {
				value[k] = byte(rnd.Uint32())
			}
			if err := txn.Set(fmt.Appendf(nil, "e%04d.%d", version, i), value); err != nil {
				t.Fatal(err)
			}
		}
		if err := txn.CommitAt(version, nil); err != nil {
			t.Fatal(err)
		}
	}
	if inOrder {
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	crashed := t.TempDir()
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return crashed
}

func one(t testing.TB, dir, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(names) != 1 {
		t.Fatalf("%s: %q, %v", pattern, names, err)
	}
	return names[0]
}

// wantDamage checks that every single changed bit of a file is found, from a byte
// on, and told with the file's name.
func wantDamage(t *testing.T, content []byte, from int, check func(b []byte) error) {
	t.Helper()
	if err := check(content); err != nil {
		t.Fatalf("unchanged: %v", err)
	}
	b := bytes.Clone(content)
	for bit := from * 8; bit < len(b)*8; bit++ {
		b[bit/8] ^= 1 << (bit % 8)
		var damage *DamageError
		if err := check(b); !errors.As(err, &damage) || damage.File != "name" || !errors.Is(err, ErrDamaged) {
			t.Errorf("bit %d of byte %d of %d: %v", bit%8, bit/8, len(b), err)
			return
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEveryBitOfATable(t *testing.T) {
	t.Parallel()
	content := read(t, one(t, database(t, true), "*.sst"))
	wantDamage(t, content, 0, func(b []byte) error { return Table{Name: "name"}.check(bytes.NewReader(b), int64(len(b)), true, nil) })
}

// A changed bit of a compressed block may leave what it expands to as it is.
func TestEveryBitOfACompressedTable(t *testing.T) {
	t.Parallel()
	content := read(t, one(t, database(t, true, options.Snappy), "*.sst"))
	whole := &table{f: bytes.NewReader(content), name: "name", size: int64(len(content))}
	if _, err := whole.index(); err != nil {
		t.Fatal(err)
	}
	var o fb.BlockOffset
	if fb.GetRootAsTableIndex(must(whole.index()), 0).Offsets(&o, 0); int64(o.Len()) > whole.start {
		t.Fatal("no first block")
	}
	plain := must(snappy.Decode(nil, content[:o.Len()]))
	harmless := 0
	wantDamage(t, content, 0, func(b []byte) error {
		err := Table{"name", options.Snappy}.check(bytes.NewReader(b), int64(len(b)), true, nil)
		if err == nil && !bytes.Equal(b, content) && bytes.Equal(must(snappy.Decode(nil, b[:o.Len()])), plain) {
			harmless++
			return &DamageError{File: "name"}
		}
		return err
	})
	if harmless > len(content)/100 {
		t.Errorf("%d bits of %d bytes change nothing", harmless, len(content))
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestEveryBitOfTheManifest(t *testing.T) {
	t.Parallel()
	content := read(t, one(t, database(t, true), "MANIFEST"))
	wantDamage(t, content, 0, func(b []byte) error {
		_, err := parseManifest("name", b)
		return err
	})
}

// Check tells of every file, and by its name.
func TestCheck(t *testing.T) {
	t.Parallel()
	dir := database(t, true)
	if err := Check(dir, Options{WAL: true}); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"KEYREGISTRY", "000001.vlog"} {
		name := filepath.Join(dir, file)
		whole := read(t, name)
		for _, at := range []int{0, 7, 16, 27} {
			if at >= len(whole) {
				continue
			}
			b := bytes.Clone(whole)
			b[at] ^= 8
			if err := os.WriteFile(name, b, 0o600); err != nil {
				t.Fatal(err)
			}
			harmless := file == "KEYREGISTRY" == (at < 8) || at > 7 && at < registryVector
			var damage *DamageError
			if err := Check(dir, Options{}); harmless != (err == nil) || err != nil && (!errors.As(err, &damage) || damage.File != name) {
				t.Errorf("byte %d of %s: %v", at, file, err)
			}
		}
		if err := os.WriteFile(name, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Check(t.TempDir(), Options{WAL: true}); err != nil {
		t.Errorf("no database: %v", err)
	}
	name := one(t, dir, "*.sst")
	whole := read(t, name)
	damaged := bytes.Clone(whole)
	damaged[100] ^= 1
	if err := os.WriteFile(name, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	var damage *DamageError
	if err := Check(dir, Options{}); !errors.As(err, &damage) || damage.File != name || damage.Offset != 0 {
		t.Errorf("%v", err)
	}
	if err := Check(dir, Options{Most: 1}); err != nil {
		t.Errorf("only the end was to be read: %v", err)
	}
	if err := os.WriteFile(name, append(damaged, 0), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(dir, Options{Most: 1}); !errors.As(err, &damage) {
		t.Errorf("a longer end: %v", err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := Check(dir, Options{}); !errors.As(err, &damage) || damage.File != name {
		t.Errorf("%v", err)
	}
}

func TestEveryBitOfAWriteAheadLog(t *testing.T) {
	t.Parallel()
	dir := database(t, false)
	name := one(t, dir, "*.mem")
	content, err := readData(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(content) < 4000 {
		t.Fatalf("%d bytes", len(content))
	}
	check := func(b []byte) error {
		if at, ok := checkWAL(bytes.Clone(b), true); !ok {
			return &DamageError{File: "name", Offset: int64(at)}
		}
		return nil
	}
	wantDamage(t, content, walHead, check)
	// Badger would have cut the log off there: what the check is for.
	b := bytes.Clone(content)
	b[len(b)/2] ^= 1
	if _, ok := checkWAL(bytes.Clone(b), true); ok {
		t.Error("not seen")
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := badger.OpenManaged(badger.DefaultOptions(dir).WithSyncWrites(true).WithMemTableSize(8 << 20).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if v := db.MaxVersion(); v == 0 || v >= 12 {
		t.Errorf("Badger keeps %d of 12 commits: is the check still needed?", v)
	}
}

// A write that a crash or a power cut interrupted is none.
func TestInterruptedWrite(t *testing.T) {
	t.Parallel()
	dir := database(t, false)
	content, err := readData(one(t, dir, "*.mem"))
	if err != nil {
		t.Fatal(err)
	}
	var ends []int // of transactions
	for at := walHead; at < len(content); {
		e, ok := parseEntry(append(bytes.Clone(content[at:]), make([]byte, 8)...))
		if !ok {
			t.Fatalf("no entry at %d", at)
		}
		at += e.size
		if e.meta&endTransaction != 0 {
			ends = append(ends, at)
		}
	}
	before := ends[len(ends)-2]
	for cut := before; cut < len(content); cut++ {
		// Half of an entry is none, unless one bit is what lacks.
		if at, ok := checkWAL(content[:cut:cut], true); !ok && cut < len(content)-5 {
			t.Errorf("cut at %d: damage at %d", cut, at)
		}
		if _, ok := checkWAL(content[:cut:cut], false); ok && cut > before {
			t.Errorf("cut at %d: an older log that ends so is intact", cut)
		}
	}
	// A last transaction over several pages, of which some are zeros.
	big := bytes.Clone(content[:before])
	big = appendEntries(big, 13, 40, 300)
	if at, ok := checkWAL(big, true); !ok {
		t.Fatalf("whole: damage at %d", at)
	}
	for first := before/page + 1; (first+1)*page < len(big); first++ {
		torn := bytes.Clone(big)
		clear(torn[first*page : (first+1)*page])
		if at, ok := checkWAL(torn, true); !ok {
			t.Errorf("without page %d: damage at %d", first, at)
		}
		// The same hole before another transaction is damage.
		if _, ok := checkWAL(appendEntries(torn, 14, 2, 50), true); ok {
			t.Errorf("without page %d, before another transaction: intact", first)
		}
	}
}

// TestSettle holds that what an interrupted write left is cut off before another log
// stands behind it: with one, it would be damage.
func TestSettle(t *testing.T) {
	t.Parallel()
	dir := database(t, false)
	name := one(t, dir, "*.mem")
	whole, err := readData(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := Settle(dir); err != nil {
		t.Fatal(err)
	}
	if b, err := readData(name); err != nil || !bytes.Equal(b, whole) {
		t.Fatalf("an intact log was changed: %v", err)
	}
	torn := appendEntries(bytes.Clone(whole), 13, 40, 300)
	clear(torn[len(whole)/page*page+page:][:page])
	for _, left := range [][]byte{torn, torn[:len(whole)+700]} {
		if err := os.WriteFile(name, append(bytes.Clone(left), make([]byte, 10*page)...), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := CheckWAL(name, true); err != nil {
			t.Fatal(err)
		}
		if err := CheckWAL(name, false); err == nil {
			t.Fatal("there is nothing to settle")
		}
		if err := Settle(dir); err != nil {
			t.Fatal(err)
		}
		if err := CheckWAL(name, false); err != nil {
			t.Errorf("after settling: %v", err)
		}
	}
	db, err := badger.OpenManaged(badger.DefaultOptions(dir).WithSyncWrites(true).WithMemTableSize(8 << 20).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if v := db.MaxVersion(); v != 12 {
		t.Errorf("Badger keeps %d of 12 commits", v)
	}
	if err := Settle(t.TempDir()); err != nil {
		t.Error(err)
	}
}

// appendEntries appends a transaction of n entries.
func appendEntries(b []byte, version uint64, n, size int) []byte {
	for i := range n + 1 {
		meta, key, value := byte(inTransaction), fmt.Appendf(nil, "e%04d", i), bytes.Repeat([]byte{byte(i + 1)}, size)
		if i == n {
			meta, key, value = endTransaction, []byte("!badger!txn"), fmt.Append(nil, version)
		}
		b = appendEntry(b, meta, key, version, value)
	}
	return b
}

func TestAppendEntriesIsBadgers(t *testing.T) {
	t.Parallel()
	dir := database(t, false)
	name := one(t, dir, "*.mem")
	content, err := readData(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, appendEntries(append(content, 0)[:len(content)], 13, 3, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := badger.OpenManaged(badger.DefaultOptions(dir).WithSyncWrites(true).WithMemTableSize(8 << 20).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if v := db.MaxVersion(); v != 13 {
		t.Errorf("Badger reads up to version %d", v)
	}
}

func FuzzCheckWAL(f *testing.F) {
	dir := database(f, false)
	content, err := readData(one(f, dir, "*.mem"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content, true)
	f.Add(content[:1000], false)
	f.Fuzz(func(t *testing.T, b []byte, newest bool) {
		if at, _ := checkWAL(bytes.Clone(b), newest); at < 0 || at > len(b)+8 {
			t.Errorf("damage at %d of %d", at, len(b))
		}
	})
}

func FuzzManifest(f *testing.F) {
	content, err := os.ReadFile(one(f, database(f, true), "MANIFEST"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = parseManifest("MANIFEST", b) })
}

func FuzzTable(f *testing.F) {
	content, err := os.ReadFile(one(f, database(f, true), "*.sst"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		name := filepath.Join(dir, "000001.sst")
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if (Table{Name: name}).Check(true, nil) == nil && !bytes.Equal(b, content) {
			t.Skip("another table")
		}
	})
}

func appendEntry(b []byte, meta byte, key []byte, version uint64, value []byte) []byte {
	at := len(b)
	b = append(b, meta, 0)
	b = binary.AppendUvarint(b, uint64(len(key)+8))
	b = binary.AppendUvarint(b, uint64(len(value)))
	b = append(b, 0)
	b = binary.BigEndian.AppendUint64(append(b, key...), ^version)
	b = append(b, value...)
	return binary.BigEndian.AppendUint32(b, crcOf(b[at:]))
}
