package tiles

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxEntrySize is the length in bytes of the longest entry that a bundle can
// hold.
const MaxEntrySize = 1<<16 - 1

var (
	// ErrEntrySize says that an entry is too long for a bundle.
	ErrEntrySize = fmt.Errorf("tiles: entry longer than %d bytes", MaxEntrySize)
	// ErrBundle says that an entry bundle is malformed.
	ErrBundle = errors.New("tiles: malformed entry bundle")
)

// AppendEntry appends an entry to a bundle: its length as a big-endian uint16,
// then its bytes. The error is ErrEntrySize.
func AppendEntry(bundle, entry []byte) ([]byte, error) {
	if len(entry) > MaxEntrySize {
		return nil, fmt.Errorf("%w: %d", ErrEntrySize, len(entry))
	}
	bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(entry)))
	return append(bundle, entry...), nil
}

// ParseBundle returns the entries of a bundle of the given width, 1 to 256. They
// share the bundle's memory. A bundle with more or fewer entries, or with bytes
// after the last, is ErrBundle.
func ParseBundle(bundle []byte, width int) ([][]byte, error) {
	if width < 1 || width > Width {
		return nil, fmt.Errorf("%w: width %d", ErrBundle, width)
	}
	entries := make([][]byte, 0, width)
	for rest := bundle; len(rest) > 0; {
		if len(entries) == width {
			return nil, fmt.Errorf("%w: %d bytes after entry %d", ErrBundle, len(rest), width)
		}
		if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
			return nil, fmt.Errorf("%w: entry %d is cut off", ErrBundle, len(entries))
		}
		end := 2 + int(binary.BigEndian.Uint16(rest))
		entries = append(entries, rest[2:end:end])
		rest = rest[end:]
	}
	if len(entries) < width {
		return nil, fmt.Errorf("%w: %d entries, not %d", ErrBundle, len(entries), width)
	}
	return entries, nil
}
