package faultfs

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
)

// node is a file or a folder, whatever its names are.
type node struct {
	mode    fs.FileMode
	content []byte           // of a file: as last synced
	live    map[string]*node // of a folder: the names it has
	safe    map[string]*node // of a folder: the names as last synced
}

func newDir(mode fs.FileMode) *node {
	return &node{mode: mode, live: map[string]*node{}, safe: map[string]*node{}}
}

// scan makes the node of a real folder. Everything in it counts as synced.
func scan(dir string) (*node, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	st, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	n := newDir(st.Mode().Perm())
	for _, e := range entries {
		full := filepath.Join(dir, e.Name())
		var child *node
		if e.IsDir() {
			child, err = scan(full)
		} else {
			child, err = scanFile(full)
		}
		if err != nil {
			return nil, err
		}
		n.live[e.Name()] = child
	}
	n.safe = maps.Clone(n.live)
	return n, nil
}

func scanFile(name string) (*node, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(name)
	return &node{mode: st.Mode().Perm(), content: content}, err
}

// restore writes what is durable in the folder n into the real, empty dir.
func (n *node) restore(dir string) error {
	for name, child := range n.safe {
		full := filepath.Join(dir, name)
		if child.safe == nil {
			if err := os.WriteFile(full, child.content, child.mode); err != nil {
				return err
			}
			continue
		}
		if err := os.Mkdir(full, child.mode); err != nil {
			return err
		}
		if err := child.restore(full); err != nil {
			return err
		}
	}
	return nil
}
