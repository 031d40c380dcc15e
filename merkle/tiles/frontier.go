package tiles

// Frontier is what one needs of a tree to let it grow: the roots of the complete
// subtrees that cover its leaves, largest first. A tree of n leaves has as many
// as n has one bits. The zero value is the empty tree.
type Frontier struct {
	// Size is the number of leaves.
	Size uint64
	// Hashes are the subtrees' roots, from the left.
	Hashes []Hash
}

// Append adds a leaf by its hash. It changes Hashes in place.
func (f *Frontier) Append(leaf Hash) {
	for s := f.Size; s&1 == 1; s >>= 1 {
		last := len(f.Hashes) - 1
		leaf = NodeHash(f.Hashes[last], leaf)
		f.Hashes = f.Hashes[:last]
	}
	f.Hashes = append(f.Hashes, leaf)
	f.Size++
}

// Root is the root of the tree (RFC 6962 §2.1).
func (f *Frontier) Root() Hash {
	if len(f.Hashes) == 0 {
		return EmptyRoot()
	}
	i := len(f.Hashes) - 1
	root := f.Hashes[i]
	for i--; i >= 0; i-- {
		root = NodeHash(f.Hashes[i], root)
	}
	return root
}
