package tiles

import (
	"errors"
	"math"
	"strings"
	"testing"
)

func TestPath(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		tile Tile
		path string
	}{
		{Tile{0, 0, 256}, "tile/0/000"},
		{Tile{0, 999, 256}, "tile/0/999"},
		{Tile{0, 1000, 256}, "tile/0/x001/000"},
		{Tile{2, 1234067, 256}, "tile/2/x001/x234/067"}, // the example of c2sp.org/tlog-tiles
		{Tile{2, 1234067, 1}, "tile/2/x001/x234/067.p/1"},
		{Tile{63, 1000000, 255}, "tile/63/x001/x000/000.p/255"},
		{Tile{Entries, 0, 7}, "tile/entries/000.p/7"},
		{Tile{Entries, 273000, 256}, "tile/entries/x273/000"},
		{Tile{7, math.MaxUint64, 256}, "tile/7/x018/x446/x744/x073/x709/x551/615"},
	} {
		if got := c.tile.Path(); got != c.path {
			t.Errorf("%+v: path %q, want %q", c.tile, got, c.path)
		}
		if got, err := ParsePath(c.path); err != nil || got != c.tile {
			t.Errorf("%q: parsed as %+v, %v", c.path, got, err)
		}
	}
}

func TestParsePathRefuses(t *testing.T) {
	t.Parallel()
	for _, p := range []string{
		"", "tile", "tile/", "tile/0", "tile/0/", "/tile/0/000", "checkpoint",
		"tile/00/000", "tile/64/000", "tile/-1/000", "tile/+1/000", "tile/0x1/000", "tile/Entries/000",
		"tile/0/0", "tile/0/00", "tile/0/0000", "tile/0/1000", "tile/0/00a", "tile/0/x00", "tile/0/x000",
		"tile/0/x000/001", "tile/0/000/001", "tile/0/x001/x234", "tile/0/x001/", "tile/0/001/x234/067",
		"tile/0/000.p", "tile/0/000.p/", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/1/2", "tile/0/000.p/1.p/1",
		"tile/0/x018/x446/x744/x073/x709/x551/616", "tile/0/x001/x000/x000/x000/x000/x000/x000/000",
		"tile/0/000?x", "tile/0/000/", "tile/0//000", "tile/0/../000", "tile/0/000\n",
	} {
		if got, err := ParsePath(p); !errors.Is(err, ErrPath) {
			t.Errorf("%q: %+v, %v; want ErrPath", p, got, err)
		}
	}
}

func TestPartialAndIn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		size  uint64
		level int
		index uint64
		width int
	}{
		{0, 0, 0, 0}, {1, 0, 0, 1}, {255, 0, 0, 255}, {256, 0, 1, 0}, {257, 0, 1, 1},
		{256, 1, 0, 1}, {65535, 1, 0, 255}, {65536, 1, 1, 0}, {65536, 2, 0, 1},
		{70000, Entries, 273, 112}, {70000, 1, 1, 17}, {70000, 2, 0, 1}, {70000, 3, 0, 0},
		{math.MaxUint64, 7, 0, 255}, {math.MaxUint64, 8, 0, 0}, {math.MaxUint64, 63, 0, 0},
	} {
		index, width := Partial(c.size, c.level)
		if index != c.index || width != c.width {
			t.Errorf("Partial(%d, %d) = %d, %d; want %d, %d", c.size, c.level, index, width, c.index, c.width)
		}
		for w, want := range map[int]bool{0: false, width: width > 0, width + 1: false, 256: false, 257: false} {
			if got := (Tile{c.level, c.index, w}).In(c.size); got != want {
				t.Errorf("tile %d/%d of width %d in a tree of %d: %v", c.level, c.index, w, c.size, got)
			}
		}
		if c.index > 0 {
			for _, w := range []int{1, 255, 256} {
				if !(Tile{c.level, c.index - 1, w}).In(c.size) {
					t.Errorf("full tile %d/%d of width %d not in a tree of %d", c.level, c.index-1, w, c.size)
				}
			}
		}
		if (Tile{c.level, c.index + 1, 1}).In(c.size) {
			t.Errorf("tile %d/%d in a tree of %d", c.level, c.index+1, c.size)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"tile/0/000", "tile/entries/x001/234.p/5", "tile/7/x018/x446/x744/x073/x709/x551/615", "tile/0/x0/..p/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tile, err := ParsePath(s)
		if err != nil {
			return
		}
		if got := tile.Path(); got != s {
			t.Errorf("%q parsed as %+v, whose path is %q", s, tile, got)
		}
		if strings.ContainsAny(s, "?\\%") {
			t.Errorf("%q was accepted", s)
		}
	})
}
