package badgerlog

import (
	"container/list"
	"sync"

	"scripta/merkle/tiles"
)

// tileID names a full tile of a tree.
type tileID struct {
	tree  int64
	level int
	index uint64
}

// tileCache keeps the full tiles that were used last, with the nodes above their
// hashes, so that a proof computes few hashes anew.
type tileCache struct {
	most int

	mu     sync.Mutex // guards what follows
	recent list.List  // of *cachedTile, the last used in front
	at     map[tileID]*list.Element
}

type cachedTile struct {
	id   tileID
	tile *tiles.Full
}

func newTileCache(most int) *tileCache {
	return &tileCache{most: most, at: map[tileID]*list.Element{}}
}

func (c *tileCache) get(id tileID) *tiles.Full {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.at[id]
	if e == nil {
		return nil
	}
	c.recent.MoveToFront(e)
	return e.Value.(*cachedTile).tile
}

func (c *tileCache) put(id tileID, tile *tiles.Full) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at[id] != nil {
		return
	}
	c.at[id] = c.recent.PushFront(&cachedTile{id, tile})
	if c.recent.Len() > c.most {
		delete(c.at, c.recent.Remove(c.recent.Back()).(*cachedTile).id)
	}
}
