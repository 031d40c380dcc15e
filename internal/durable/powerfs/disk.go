//go:build linux

// Package powerfs is a disk for tests whose power can be cut: a FUSE file system
// in memory that any process can use, also through mapped files, and that knows
// what a power cut leaves. It is to real programs what package faultfs is to
// code that takes a durable.FS.
//
// What it promises to keep is what POSIX promises, and no more:
//
//   - the bytes and the size of a file that were there at its last fsync,
//     fdatasync or msync;
//   - the names (new, renamed, removed) that were in a folder at its last fsync;
//   - unless it is strict, the name of a file that was synced, and every change
//     of names before that one: Linux's journaling file systems (ext4, XFS,
//     btrfs) keep them too, and programs have come to rely on it.
//
// Of what was written since, a cut keeps what a real disk may: any of the
// 4096-byte pages of a file in any order, and names up to some change and none
// after it, as the journal of a file system does. [Loss] chooses how much.
//
// A process of its own serves the disk, because one that serves files to itself
// can wait for itself for ever: in a page fault, between fork and exec. A test
// binary that uses the package calls [ServeIfAsked] first of all in its TestMain.
package powerfs

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Loss is how much of what was not synced a cut takes away.
type Loss int

// The losses.
const (
	LoseAll  Loss = iota // the strictest disk that POSIX allows
	LoseSome             // some pages and a suffix of the changes of names, at random
	LoseNone             // a disk that was lucky; like the death of the process alone
)

// disk is the disk itself, in the process that serves it.
type disk struct {
	strict bool
	folder string
	server *fuse.Server

	mu      sync.Mutex // guards what follows
	root    *inode
	next    uint64
	off     bool
	changes []change // of names, that no fsync of a folder has kept yet, in order
}

// change is one change of names: what it makes of the folders that it touches.
type change struct {
	of      *inode
	touches []*inode // folders
	apply   func()
}

func newDisk(folder string, strict bool) *disk {
	d := &disk{folder: folder, strict: strict, next: 1}
	d.root = d.newInode(syscall.S_IFDIR | 0o755)
	return d
}

func (d *disk) mount() error {
	zero := time.Duration(0)
	server, err := fs.Mount(d.folder, &node{disk: d, inode: d.root}, &fs.Options{
		EntryTimeout: &zero, AttrTimeout: &zero, NegativeTimeout: &zero,
		RootStableAttr: &fs.StableAttr{Ino: d.root.ino},
		MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "powerfs", Name: "powerfs", MaxWrite: 1 << 17,
			// What the kernel has cached is true as long as it is mounted.
			ExplicitDataCacheControl: true},
	})
	if err != nil {
		return fmt.Errorf("couldn't mount a FUSE file system at %s: %w", d.folder, err)
	}
	d.server = server
	return nil
}

func (d *disk) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
}

func (d *disk) restore(loss Loss, random *rand.Rand) error {
	if err := d.unmount(); err != nil {
		return err
	}
	d.mu.Lock()
	d.lose(loss, random)
	d.off = false
	d.mu.Unlock()
	return d.mount()
}

func (d *disk) unmount() error {
	if d.server == nil {
		return nil
	}
	if err := syscall.Unmount(d.folder, syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("couldn't unmount %s: %w", d.folder, os.NewSyscallError("umount2", err))
	}
	d.server.Wait()
	d.server = nil
	return nil
}

// lose puts every file and folder into the state that the cut left.
func (d *disk) lose(loss Loss, random *rand.Rand) {
	names := 0
	share := 0.0 // of the pages that survive
	switch loss {
	case LoseNone:
		names, share = len(d.changes), 1
	case LoseSome:
		names, share = random.IntN(len(d.changes)+1), random.Float64()
	}
	for _, c := range d.changes[:names] {
		c.apply()
	}
	d.changes = nil
	d.root.lose(share, random, map[*inode]bool{})
}

// change notes a change of names that was made.
func (d *disk) change(of *inode, apply func(), touches ...*inode) {
	d.changes = append(d.changes, change{of, touches, apply})
}

// keepFile makes the contents of a file durable and, unless the disk is strict,
// its name.
func (d *disk) keepFile(file *inode) {
	file.keep()
	if d.strict {
		return
	}
	for last := len(d.changes) - 1; last >= 0; last-- {
		if d.changes[last].of != file {
			continue
		}
		for _, c := range d.changes[:last+1] {
			c.apply()
		}
		d.changes = append([]change(nil), d.changes[last+1:]...)
		return
	}
}

// keepNames makes the changes durable that touch a folder. A rename between two
// folders is durable in both or in none.
func (d *disk) keepNames(folder *inode) {
	rest := d.changes[:0]
	for _, c := range d.changes {
		mine := false
		for _, f := range c.touches {
			mine = mine || f == folder
		}
		if mine {
			c.apply()
		} else {
			rest = append(rest, c)
		}
	}
	clear(d.changes[len(rest):])
	d.changes = rest
}

func (d *disk) newInode(mode uint32) *inode {
	i := &inode{ino: d.next, mode: mode, made: time.Now()}
	d.next++
	if i.isDir() {
		i.names, i.keptNames = map[string]*inode{}, map[string]*inode{}
	} else {
		i.pages, i.keptPages, i.dirty = map[int64]*page{}, map[int64]*page{}, map[int64]bool{}
	}
	return i
}
