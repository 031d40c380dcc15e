//go:build linux

package powerfs

import (
	"maps"
	"math/rand/v2"
	"syscall"
	"time"
)

const pageSize = 4096

type page [pageSize]byte

// inode is a file or a folder, as programs see it and as a cut would leave it.
type inode struct {
	ino  uint64
	mode uint32 // with the type; a change of it counts as durable at once
	made time.Time

	names, keptNames map[string]*inode // of a folder

	size, keptSize   int64 // of a file
	pages, keptPages map[int64]*page
	dirty            map[int64]bool // pages that differ from the kept ones
}

func (i *inode) isDir() bool { return i.mode&syscall.S_IFMT == syscall.S_IFDIR }

// read copies what is at off and returns how much it was.
func (i *inode) read(dest []byte, off int64) int {
	if off >= i.size {
		return 0
	}
	dest = dest[:min(int64(len(dest)), i.size-off)]
	for done := 0; done < len(dest); {
		n, at := (off+int64(done))/pageSize, (off+int64(done))%pageSize
		part := dest[done:min(len(dest), done+pageSize-int(at))]
		if p := i.pages[n]; p != nil {
			copy(part, p[at:])
		} else {
			clear(part)
		}
		done += len(part)
	}
	return len(dest)
}

func (i *inode) write(data []byte, off int64) {
	i.size = max(i.size, off+int64(len(data)))
	for len(data) > 0 {
		n, at := off/pageSize, off%pageSize
		part := data[:min(len(data), pageSize-int(at))]
		p := i.own(n)
		copy(p[at:], part)
		data, off = data[len(part):], off+int64(len(part))
	}
}

// own returns a page that may be changed, and notes that it is.
func (i *inode) own(n int64) *page {
	p := i.pages[n]
	switch {
	case p == nil:
		p = new(page)
	case p == i.keptPages[n]:
		copied := *p
		p = &copied
	}
	i.pages[n], i.dirty[n] = p, true
	return p
}

func (i *inode) truncate(size int64) {
	for n := range i.pages {
		if n*pageSize >= size {
			delete(i.pages, n)
			i.dirty[n] = true
		}
	}
	if at := size % pageSize; at != 0 && size < i.size && i.pages[size/pageSize] != nil {
		clear(i.own(size / pageSize)[at:])
	}
	i.size = size
}

// keep makes the contents durable.
func (i *inode) keep() {
	for n := range i.dirty {
		i.keepPage(n)
	}
	clear(i.dirty)
	i.keptSize = i.size
}

func (i *inode) keepPage(n int64) {
	if p := i.pages[n]; p != nil {
		i.keptPages[n] = p
	} else {
		delete(i.keptPages, n)
	}
}

// lose makes what is kept, and a share of what is not, all that there is, here
// and in everything below.
func (i *inode) lose(share float64, random *rand.Rand, seen map[*inode]bool) {
	if seen[i] {
		return
	}
	seen[i] = true
	if i.isDir() {
		i.names = maps.Clone(i.keptNames)
		for _, child := range i.names {
			child.lose(share, random, seen)
		}
		return
	}
	survives := func() bool { return share == 1 || share > 0 && random.Float64() < share }
	for n := range i.dirty {
		if survives() {
			i.keepPage(n)
		}
	}
	if survives() {
		i.keptSize = i.size
	}
	for n := range i.keptPages { // a page beyond the size that was kept is gone
		if n*pageSize >= i.keptSize {
			delete(i.keptPages, n)
		}
	}
	if at := i.keptSize % pageSize; at != 0 {
		if p := i.keptPages[i.keptSize/pageSize]; p != nil {
			cut := *p
			clear(cut[at:])
			i.keptPages[i.keptSize/pageSize] = &cut
		}
	}
	i.size, i.pages = i.keptSize, maps.Clone(i.keptPages)
	clear(i.dirty)
}
