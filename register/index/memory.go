package index

import "slices"

// memory holds the postings of one month that are in no run yet.
type memory struct {
	heads       map[Token]uint32 // place in posts of a token's last posting, plus one
	posts       []post
	times       []span
	first, last uint64 // leaves; of at least one posting
}

// post is one posting; prev is the place of the token's one before it, plus one.
type post struct {
	leaf uint64
	prev uint32
}

func newMemory() *memory { return &memory{heads: map[Token]uint32{}} }

// add adds a posting. The leaves of one token come in ascending order.
func (m *memory) add(t Token, leaf uint64) {
	prev := m.heads[t]
	if prev != 0 && m.posts[prev-1].leaf == leaf {
		return
	}
	if len(m.posts) == 0 {
		m.first = leaf
	}
	m.first, m.last = min(m.first, leaf), max(m.last, leaf)
	m.posts = append(m.posts, post{leaf, prev})
	m.heads[t] = uint32(len(m.posts))
}

// list returns the leaves at or after from under a token, ascending.
func (m *memory) list(t Token, from uint64) (leaves []uint64) {
	for at := m.heads[t]; at != 0; at = m.posts[at-1].prev {
		if m.posts[at-1].leaf < from {
			break
		}
		leaves = append(leaves, m.posts[at-1].leaf)
	}
	slices.Reverse(leaves)
	return leaves
}

// each calls visit with every token and its leaves, both ascending.
func (m *memory) each(visit func(t Token, leaves []uint64) error) error {
	tokens := make([]Token, 0, len(m.heads))
	for t := range m.heads {
		tokens = append(tokens, t)
	}
	slices.Sort(tokens)
	for _, t := range tokens {
		if err := visit(t, m.list(t, 0)); err != nil {
			return err
		}
	}
	return nil
}
