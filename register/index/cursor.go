package index

import "sort"

// cursor goes through the leaves under one token in one source.
type cursor interface {
	// seek returns the first leaf at or after leaf; ok is false when there is
	// none. It never goes back.
	seek(leaf uint64) (at uint64, ok bool, err error)
}

// listCursor goes through leaves in memory.
type listCursor []uint64

func (c *listCursor) seek(leaf uint64) (uint64, bool, error) {
	l := *c
	if len(l) == 0 || l[0] >= leaf { // most often: the next one
		return first(l)
	}
	l = l[gallop(l, leaf):]
	*c = l
	return first(l)
}

func first(l []uint64) (uint64, bool, error) {
	if len(l) == 0 {
		return 0, false, nil
	}
	return l[0], true, nil
}

// gallop returns the place of the first of l at or after leaf: near ones fast.
func gallop(l []uint64, leaf uint64) int {
	step := 1
	for step < len(l) && l[step] < leaf {
		step *= 2
	}
	from, to := step/2, min(step+1, len(l))
	return from + sort.Search(to-from, func(i int) bool { return l[from+i] >= leaf })
}

// runCursor goes through the leaves of a token in a run, block by block.
type runCursor struct {
	run   *run
	token Token
	block int      // whose leaves are in list, or −1
	list  []uint64 // what is left of them
	ended bool
}

func (c *runCursor) seek(leaf uint64) (uint64, bool, error) {
	if len(c.list) > 0 && c.list[len(c.list)-1] >= leaf {
		c.list = c.list[gallop(c.list, leaf):]
		return c.list[0], true, nil
	}
	refs := c.run.blocks
	for !c.ended && leaf <= c.run.Last {
		// The last block that begins at or before (token, leaf); a later one if
		// that has been gone through.
		at := sort.Search(len(refs), func(i int) bool {
			return refs[i].token > c.token || refs[i].token == c.token && refs[i].leaf > leaf
		}) - 1
		if at = max(at, c.block+1, 0); at >= len(refs) || refs[at].token > c.token {
			break
		}
		if err := c.load(at); err != nil {
			return 0, false, err
		}
		if n := len(c.list); n > 0 && c.list[n-1] >= leaf {
			return c.seek(leaf)
		}
		c.ended = at+1 >= len(refs) || refs[at+1].token > c.token
	}
	c.ended, c.list = true, nil
	return 0, false, nil
}

// load reads a block's leaves of the token.
func (c *runCursor) load(block int) error {
	c.block, c.list = block, c.list[:0]
	e, err := c.run.entries(block)
	if err != nil {
		return err
	}
	for {
		ok, err := e.next()
		if err != nil || !ok || e.token > c.token {
			return err
		}
		if e.token == c.token {
			if c.list, err = e.leaves(c.list); err != nil {
				return err
			}
		}
	}
}

// intersect calls visit with the leaves at or after from that all cursors have
// and that may be in the period, ascending, until it returns false.
func intersect(cursors []cursor, from uint64, skip func(uint64) (uint64, bool), visit func(leaf uint64) bool) (more bool, err error) {
	leaf, agree := from, 0
	for i := 0; ; i = (i + 1) % len(cursors) {
		if agree == 0 {
			var ok bool
			if leaf, ok = skip(leaf); !ok {
				return true, nil
			}
		}
		at, ok, err := cursors[i].seek(leaf)
		if err != nil || !ok {
			return true, err
		}
		if at != leaf {
			leaf, agree = at, 0
			if next, ok := skip(leaf); !ok {
				return true, nil
			} else if next != leaf {
				leaf = next
				continue
			}
		}
		if agree++; agree == len(cursors) {
			if !visit(leaf) {
				return false, nil
			}
			leaf, agree = leaf+1, 0
		}
	}
}
