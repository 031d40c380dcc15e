package badgerfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const (
	walHead = 20 // uint64 number of the key ‖ initialisation vector

	inTransaction  = 1 << 6 // an entry of a transaction
	endTransaction = 1 << 7 // the entry that ends one; its value is the version

	// page is the unit in which a mapped file reaches the disk.
	page = 4096

	maxKey   = 1 << 16
	maxEntry = 64 << 20

	// What is searched for behind damage is of transactions, does not expire, and
	// has a key like ours: most offsets are ruled out without a checksum.
	metaNeverSet = 0x30
	maxOurKey    = 127
)

// likely tells whether an entry of ours may begin at b.
func likely(b []byte) bool {
	return b[0] >= inTransaction && b[0]&metaNeverSet == 0 && b[1] == 0 && b[2] <= maxOurKey
}

func crcOf(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

func checkWALs(dir string) error {
	names, err := numbered(dir, ".mem")
	if err != nil {
		return err
	}
	var errs []error
	for i, name := range names {
		errs = append(errs, CheckWAL(name, i == len(names)-1))
	}
	return errors.Join(errs...)
}

// CheckWAL checks a write-ahead log of a database that was synced at each commit,
// has one commit at a time, and gives versions without gaps. The error is a
// DamageError unless all of it is intact, or ends in what an interrupted last
// write explains; only the newest file can end so.
//
// A crash leaves the beginning of a last transaction, and a power cut any of its
// pages, the others as zeros. So it is damage if intact entries of another
// transaction stand behind the first that is not; or entries of the same one, and
// no page in between is zero; or if the entry would be intact with one bit
// changed. What remains (an entry that is more damaged, with nothing behind it)
// passes for an interrupted write.
func CheckWAL(name string, newest bool) error {
	b, err := readData(name)
	if err != nil {
		return fmt.Errorf("couldn't read the write-ahead log: %w", err)
	}
	at, ok := checkWAL(b, newest)
	if !ok {
		return &DamageError{File: name, Offset: int64(at), Reason: "an entry that was on the disk is not intact"}
	}
	return nil
}

// readData reads a file up to the last byte that was ever written: the rest is a
// hole.
func readData(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	end := int64(0)
	for {
		data, err := unix.Seek(int(f.Fd()), end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // a hole up to the end
		}
		if err == nil {
			end, err = unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
		}
		if err != nil {
			end = st.Size() // the file system does not tell
			break
		}
	}
	b := make([]byte, min(end, st.Size()))
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, int64(len(b))), b); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b, "\x00"), nil
}

// entry is
//
//	meta ‖ user meta ‖ uvarint key length ‖ uvarint value length ‖ uvarint expiry ‖ key ‖ value ‖ uint32 CRC-32C
//
// where the key ends with the version's complement, uint64.
type entry struct {
	meta    byte
	version uint64
	value   []byte
	size    int
}

// header returns where key, value and checksum of the entry at b begin.
func header(b []byte) (key, value, sum int, ok bool) {
	at := 2
	var lengths [3]uint64
	for i := range lengths {
		if at >= len(b) {
			return 0, 0, 0, false
		}
		v, n := binary.Uvarint(b[at:])
		if n <= 0 {
			return 0, 0, 0, false
		}
		lengths[i], at = v, at+n
	}
	if lengths[0] < 8 || lengths[0] > maxKey || lengths[1] > maxEntry {
		return 0, 0, 0, false
	}
	key = at
	value = key + int(lengths[0])
	sum = value + int(lengths[1])
	return key, value, sum, sum+4 <= len(b)
}

// parseEntry reads the entry at b, whose zeros at the end may have been cut off.
func parseEntry(b []byte) (e entry, ok bool) {
	key, value, sum, ok := header(b)
	if !ok || crcOf(b[:sum]) != binary.BigEndian.Uint32(b[sum:]) {
		return e, false
	}
	return entry{b[0], ^binary.BigEndian.Uint64(b[value-8:]), b[value:sum], sum + 4}, key > 0
}

// checkWAL returns where the damage begins, or true.
func checkWAL(b []byte, newest bool) (at int, ok bool) {
	if len(b) == 0 {
		return 0, true
	}
	// Zeros that end an entry were cut off with the others.
	b = append(b, make([]byte, 8)...)
	if len(b) < walHead || binary.BigEndian.Uint64(b) != 0 {
		return 0, len(bytes.TrimRight(b, "\x00")) == 0
	}
	at, end, last, open := intact(b)
	rest := bytes.TrimRight(b[at:], "\x00")
	if !newest {
		return at, len(rest) == 0 && end == at
	}
	if len(rest) == 0 || interrupted(b, at, last, open) {
		return at, true
	}
	return at, false
}

// intact returns where the first entry begins that is not intact, or of another
// transaction than the unfinished one before it; where the last whole transaction
// ends; and the versions of that one and of the unfinished one, 0: none.
func intact(b []byte) (at, end int, last, open uint64) {
	at, end = walHead, walHead
	for at < len(b) {
		e, ok := parseEntry(b[at:])
		if !ok || open != 0 && e.version != open {
			break
		}
		at += e.size
		switch {
		case e.meta&endTransaction != 0:
			last, open, end = e.version, 0, at
		case e.meta&inTransaction != 0:
			open = e.version
		default:
			last, end = e.version, at
		}
	}
	return at, end, last, open
}

// Settle cuts off, durably, what an interrupted write left at the end of the newest
// write-ahead log of a database that Check has passed. Badger does so too when it
// opens it, and begins another log, but syncs neither: a power cut soon after
// could bring the remains back, and they would now be damage, because another
// log stands behind them.
func Settle(dir string) error {
	names, err := numbered(dir, ".mem")
	if err != nil || len(names) == 0 {
		return err
	}
	name := names[len(names)-1]
	b, err := readData(name)
	if err != nil {
		return fmt.Errorf("couldn't read the write-ahead log: %w", err)
	}
	if len(b) <= walHead {
		return nil
	}
	// Zeros that end an entry were cut off with the others.
	_, end, _, _ := intact(append(b, make([]byte, 8)...))
	if end >= len(b) {
		return nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err == nil {
		if err = f.Truncate(int64(end)); err == nil {
			err = f.Sync()
		}
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("couldn't cut off an interrupted write: %w", err)
	}
	return nil
}

// interrupted tells whether an unfinished last write explains that no intact entry
// begins at bad.
func interrupted(b []byte, bad int, last, open uint64) bool {
	expect := open
	if expect == 0 && last != 0 {
		expect = last + 1
	}
	gap := bad
	for y := bad + 1; y+2 < len(b); {
		var e entry
		ok := likely(b[y:])
		if ok {
			e, ok = parseEntry(b[y:])
		}
		if !ok {
			y++
			continue
		}
		if expect == 0 {
			expect = e.version
		}
		if e.version != expect || gap < y && !lostPage(b[gap:y], gap) {
			return false
		}
		y += e.size
		gap = y
	}
	return !oneBitOff(b[bad:])
}

// lostPage tells whether gap, which begins at offset start of the file, holds
// zeros from its start, or from the start of a page, to the end of that page.
func lostPage(gap []byte, start int) bool {
	for at := 0; ; {
		next := at + page - (start+at)%page
		if next > len(gap) {
			return false
		}
		if next-at >= 8 && len(bytes.TrimRight(gap[at:next], "\x00")) == 0 {
			return true
		}
		at = next
	}
}

// oneBitOff tells whether the entry at b would be intact with one bit changed.
func oneBitOff(b []byte) bool {
	// In its header, whose bits move all the rest.
	head := min(len(b), 32)
	c := bytes.Clone(b)
	for bit := range head * 8 {
		c[bit/8] ^= 1 << (bit % 8)
		_, ok := parseEntry(c)
		c[bit/8] ^= 1 << (bit % 8)
		if ok {
			return true
		}
	}
	// Behind it: a changed bit changes the sum in a way that only depends on how
	// far from the end it is.
	key, _, sum, ok := header(b)
	if !ok {
		return false
	}
	off := crcOf(b[:sum]) ^ binary.BigEndian.Uint32(b[sum:])
	if off&(off-1) == 0 {
		return true // a bit of the sum itself
	}
	var change [8]uint32
	for bit := range change {
		change[bit] = castagnoli[1<<bit]
	}
	for range sum - key {
		for bit, v := range change {
			if v == off {
				return true
			}
			change[bit] = castagnoli[v&0xff] ^ v>>8
		}
	}
	return false
}
