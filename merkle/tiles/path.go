package tiles

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	// Width is the number of hashes in a full tile and of entries in a full
	// bundle.
	Width = 256
	// HashSize is the length in bytes of a hash (SHA-256).
	HashSize = 32
	// TileSize is the length in bytes of a full tile.
	TileSize = Width * HashSize
	// Levels is the number of tile levels that a tree of fewer than 2^64 leaves
	// can have.
	Levels = 8
	// MaxPathLevel is the highest tile level that a path may name
	// (c2sp.org/tlog-tiles); no tree has tiles from Levels on.
	MaxPathLevel = 63
)

// Entries stands as a Tile's Level for a bundle of entries.
const Entries = -1

// ErrPath says that a path is not the one canonical name of a tile or bundle.
var ErrPath = errors.New("tiles: not the path of a tile or of an entry bundle")

// Tile names a tile of hashes, or a bundle of entries when Level is Entries.
type Tile struct {
	// Level is the tile level, or Entries.
	Level int
	// Index counts the tiles of the level from the left, from 0.
	Index uint64
	// Width is the number of hashes or entries, 1 to 256; fewer than 256 name a
	// partial tile.
	Width int
}

// Path returns the path below the log's prefix, "tile/<L>/<N>[.p/<W>]" or
// "tile/entries/<N>[.p/<W>]" with N in groups of three digits, as
// "x001/x234/067" for 1234067 (c2sp.org/tlog-tiles).
func (t Tile) Path() string {
	b := make([]byte, 0, 64)
	b = append(b, "tile/"...)
	if t.Level == Entries {
		b = append(b, "entries"...)
	} else {
		b = strconv.AppendInt(b, int64(t.Level), 10)
	}
	b = append(b, '/')
	if t.Index >= 1000 {
		b = appendGroups(b, t.Index/1000)
	}
	b = appendGroup(b, t.Index%1000)
	if t.Width != Width {
		b = append(b, ".p/"...)
		b = strconv.AppendInt(b, int64(t.Width), 10)
	}
	return string(b)
}

func appendGroups(b []byte, n uint64) []byte {
	if n >= 1000 {
		b = appendGroups(b, n/1000)
	}
	return append(appendGroup(append(b, 'x'), n%1000), '/')
}

func appendGroup(b []byte, n uint64) []byte {
	return append(b, '0'+byte(n/100), '0'+byte(n/10%10), '0'+byte(n%10))
}

// String is Path.
func (t Tile) String() string { return t.Path() }

// ParsePath reads a path as Path writes it, without a leading slash. It accepts
// no other spelling, so that a file has one name; everything else is ErrPath.
func ParsePath(path string) (Tile, error) {
	fail := func() (Tile, error) { return Tile{}, fmt.Errorf("%w: %.100q", ErrPath, path) }
	rest, ok := strings.CutPrefix(path, "tile/")
	if !ok {
		return fail()
	}
	level, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return fail()
	}
	t := Tile{Level: Entries, Width: Width}
	if level != "entries" {
		n, ok := decimal(level, MaxPathLevel)
		if !ok {
			return fail()
		}
		t.Level = int(n)
	}
	index, width, partial := strings.Cut(rest, ".p/")
	if partial {
		n, ok := decimal(width, Width-1)
		if !ok || n == 0 {
			return fail()
		}
		t.Width = int(n)
	}
	if t.Index, ok = parseIndex(index); !ok {
		return fail()
	}
	return t, nil
}

// decimal reads an unsigned number of at most limit without leading zeros.
func decimal(s string, limit uint64) (uint64, bool) {
	if s == "" || len(s) > 1 && s[0] == '0' || s[0] == '+' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n <= limit
}

// parseIndex reads groups of three digits, all but the last after an x.
func parseIndex(s string) (n uint64, ok bool) {
	for first := true; ; first = false {
		group, rest, more := strings.Cut(s, "/")
		if more {
			if group, ok = strings.CutPrefix(group, "x"); !ok || first && group == "000" {
				return 0, false
			}
		}
		if len(group) != 3 {
			return 0, false
		}
		var v uint64
		for _, c := range []byte(group) {
			if c < '0' || c > '9' {
				return 0, false
			}
			v = v*10 + uint64(c-'0')
		}
		const most = ^uint64(0)
		if n > (most-v)/1000 {
			return 0, false
		}
		n = n*1000 + v
		if !more {
			return n, true
		}
		s = rest
	}
}

// Partial returns which tile of a level (or bundle, for Entries) is unfinished
// in a tree of the given size, and how many hashes it has: 0 to 255. With 0
// there is no such tile yet.
func Partial(size uint64, level int) (index uint64, width int) {
	n := hashesAt(size, level)
	return n / Width, int(n % Width)
}

// In reports whether a tree of the given size determines the tile: whether it
// has all of its hashes. A partial tile stays determined when the tree grows.
func (t Tile) In(size uint64) bool {
	if t.Level < Entries || t.Width < 1 || t.Width > Width {
		return false
	}
	index, width := Partial(size, t.Level)
	return t.Index < index || t.Index == index && t.Width <= width
}

// hashesAt is the number of complete hashes at a tile level.
func hashesAt(size uint64, level int) uint64 {
	if level <= 0 {
		return size
	}
	return size >> (8 * uint(level)) // 0 from level 8 on
}
