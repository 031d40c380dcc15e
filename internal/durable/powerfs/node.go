//go:build linux

package powerfs

import (
	"context"
	"maps"
	"slices"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// node answers the kernel's calls about an inode. Every call is one step under
// the disk's mutex, so that a cut comes before or after it.
type node struct {
	fs.Inode
	disk  *disk
	inode *inode
}

var (
	_ fs.NodeLookuper  = (*node)(nil)
	_ fs.NodeReaddirer = (*node)(nil)
	_ fs.NodeCreater   = (*node)(nil)
	_ fs.NodeMkdirer   = (*node)(nil)
	_ fs.NodeMknoder   = (*node)(nil)
	_ fs.NodeLinker    = (*node)(nil)
	_ fs.NodeUnlinker  = (*node)(nil)
	_ fs.NodeRmdirer   = (*node)(nil)
	_ fs.NodeRenamer   = (*node)(nil)
	_ fs.NodeOpener    = (*node)(nil)
	_ fs.NodeReader    = (*node)(nil)
	_ fs.NodeWriter    = (*node)(nil)
	_ fs.NodeFsyncer   = (*node)(nil)
	_ fs.NodeGetattrer = (*node)(nil)
	_ fs.NodeSetattrer = (*node)(nil)
	_ fs.NodeStatfser  = (*node)(nil)
)

// do runs a step, unless the power is off.
func (n *node) do(step func() syscall.Errno) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	if n.disk.off {
		return syscall.EIO
	}
	return step()
}

func (n *node) child(ctx context.Context, i *inode, out *fuse.EntryOut) *fs.Inode {
	i.attributes(&out.Attr)
	return n.NewInode(ctx, &node{disk: n.disk, inode: i}, fs.StableAttr{Mode: i.mode & syscall.S_IFMT, Ino: i.ino})
}

func (i *inode) attributes(out *fuse.Attr) {
	out.Ino, out.Mode, out.Nlink, out.Blksize = i.ino, i.mode, 1, pageSize
	out.Size = uint64(i.size)
	out.Blocks = uint64(len(i.pages)) * pageSize / 512
	out.SetTimes(&i.made, &i.made, &i.made)
}

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (child *fs.Inode, e syscall.Errno) {
	e = n.do(func() syscall.Errno {
		i := n.inode.names[name]
		if i == nil {
			return syscall.ENOENT
		}
		child = n.child(ctx, i, out)
		return 0
	})
	return child, e
}

func (n *node) Readdir(context.Context) (s fs.DirStream, e syscall.Errno) {
	e = n.do(func() syscall.Errno {
		var all []fuse.DirEntry
		for _, name := range slices.Sorted(maps.Keys(n.inode.names)) {
			i := n.inode.names[name]
			all = append(all, fuse.DirEntry{Name: name, Ino: i.ino, Mode: i.mode & syscall.S_IFMT})
		}
		s = fs.NewListDirStream(all)
		return 0
	})
	return s, e
}

// add puts a new inode under a name.
func (n *node) add(name string, i *inode) syscall.Errno {
	folder := n.inode
	if folder.names[name] != nil {
		return syscall.EEXIST
	}
	folder.names[name] = i
	n.disk.change(i, func() { folder.keptNames[name] = i }, folder)
	return 0
}

func (n *node) Create(ctx context.Context, name string, _, mode uint32, out *fuse.EntryOut) (child *fs.Inode, h fs.FileHandle, flags uint32, e syscall.Errno) {
	e = n.do(func() syscall.Errno {
		i := n.disk.newInode(syscall.S_IFREG | mode&0o7777)
		if e := n.add(name, i); e != 0 {
			return e
		}
		child = n.child(ctx, i, out)
		return 0
	})
	return child, nil, fuse.FOPEN_KEEP_CACHE, e
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (child *fs.Inode, e syscall.Errno) {
	e = n.do(func() syscall.Errno {
		i := n.disk.newInode(syscall.S_IFDIR | mode&0o7777)
		if e := n.add(name, i); e != 0 {
			return e
		}
		child = n.child(ctx, i, out)
		return 0
	})
	return child, e
}

// Mknod makes a socket, which is what daemons want.
func (n *node) Mknod(ctx context.Context, name string, mode, _ uint32, out *fuse.EntryOut) (child *fs.Inode, e syscall.Errno) {
	e = n.do(func() syscall.Errno {
		i := n.disk.newInode(mode)
		if e := n.add(name, i); e != 0 {
			return e
		}
		child = n.child(ctx, i, out)
		return 0
	})
	return child, e
}

func (n *node) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (child *fs.Inode, e syscall.Errno) {
	e = n.do(func() syscall.Errno {
		i := target.(*node).inode
		if e := n.add(name, i); e != 0 {
			return e
		}
		child = n.child(ctx, i, out)
		return 0
	})
	return child, e
}

func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	return n.do(func() syscall.Errno { return n.remove(name) })
}

func (n *node) Rmdir(_ context.Context, name string) syscall.Errno {
	return n.do(func() syscall.Errno {
		if i := n.inode.names[name]; i != nil && len(i.names) > 0 {
			return syscall.ENOTEMPTY
		}
		return n.remove(name)
	})
}

func (n *node) remove(name string) syscall.Errno {
	folder := n.inode
	i := folder.names[name]
	if i == nil {
		return syscall.ENOENT
	}
	delete(folder.names, name)
	n.disk.change(i, func() { delete(folder.keptNames, name) }, folder)
	return 0
}

const renameNoReplace = 1 // RENAME_NOREPLACE of renameat2(2)

func (n *node) Rename(_ context.Context, name string, newParent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	return n.do(func() syscall.Errno {
		from, to := n.inode, newParent.(*node).inode
		i, old := from.names[name], to.names[newName]
		switch {
		case i == nil:
			return syscall.ENOENT
		case flags&^renameNoReplace != 0:
			return syscall.EINVAL
		case old != nil && flags&renameNoReplace != 0:
			return syscall.EEXIST
		case old != nil && old.isDir() && len(old.names) > 0:
			return syscall.ENOTEMPTY
		}
		delete(from.names, name)
		to.names[newName] = i
		n.disk.change(i, func() {
			if from.keptNames[name] == i {
				delete(from.keptNames, name)
			}
			to.keptNames[newName] = i
		}, from, to)
		return 0
	})
}

func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	e := n.do(func() syscall.Errno {
		if flags&syscall.O_TRUNC != 0 {
			n.inode.truncate(0)
		}
		return 0
	})
	return nil, fuse.FOPEN_KEEP_CACHE, e
}

func (n *node) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (r fuse.ReadResult, e syscall.Errno) {
	e = n.do(func() syscall.Errno {
		r = fuse.ReadResultData(dest[:n.inode.read(dest, off)])
		return 0
	})
	return r, e
}

func (n *node) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	e := n.do(func() syscall.Errno {
		n.inode.write(data, off)
		return 0
	})
	if e != 0 {
		return 0, e
	}
	return uint32(len(data)), 0
}

// Fsync is what everything is about: fsync(2), fdatasync(2) and msync(2) of a
// file, fsync(2) of a folder.
func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	return n.do(func() syscall.Errno {
		if n.inode.isDir() {
			n.disk.keepNames(n.inode)
			return 0
		}
		n.disk.keepFile(n.inode)
		return 0
	})
}

func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return n.do(func() syscall.Errno {
		n.inode.attributes(&out.Attr)
		return 0
	})
}

func (n *node) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return n.do(func() syscall.Errno {
		if mode, ok := in.GetMode(); ok {
			n.inode.mode = n.inode.mode&syscall.S_IFMT | mode&0o7777
		}
		if size, ok := in.GetSize(); ok {
			n.inode.truncate(int64(size))
		}
		n.inode.attributes(&out.Attr)
		return 0
	})
}

// capacity is what the disk says it has, in pages.
const capacity = 16 << 30 / pageSize

func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	out.Bsize, out.Frsize, out.NameLen = pageSize, pageSize, 255
	out.Blocks, out.Bfree, out.Bavail = capacity, capacity, capacity
	return 0
}
