package index

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
)

// Token is the keyed hash under which a value is found.
type Token uint64

// What a token stands for.
const (
	ofMailbox     = 'm'
	ofIdentifier  = 'i'
	ofCounterpart = 'c'
	ofKind        = 'k'
	ofWord        = 'w'
)

// Key makes tokens under K_index of a month. Its methods may be called
// concurrently.
type Key struct {
	states sync.Pool

	mu     sync.RWMutex // guards recent
	recent map[[2]string][]Token
}

// A message's records have one subject: the tokens of the last so many subjects,
// by mailbox, are remembered, of those that are not longer.
const (
	maxRecent        = 2048
	maxRecentSubject = 512 // bytes
)

// hashing is an HMAC under the key, and where its sum goes.
type hashing struct {
	mac hash.Hash
	in  []byte
	sum [sha256.Size]byte
}

// NewKey prepares a key.
func NewKey(key [32]byte) *Key {
	k := &Key{recent: map[[2]string][]Token{}}
	k.states.New = func() any { return &hashing{mac: hmac.New(sha256.New, key[:])} }
	return k
}

// token is the first 8 bytes of HMAC-SHA-256(K_index, what ‖ uint32 length of
// mailbox ‖ mailbox ‖ value).
func (k *Key) token(what byte, mailbox, value string) Token {
	h := k.states.Get().(*hashing)
	defer k.states.Put(h)
	h.in = binary.BigEndian.AppendUint32(append(h.in[:0], what), uint32(len(mailbox)))
	h.in = append(append(h.in, mailbox...), value...)
	h.mac.Reset()
	h.mac.Write(h.in)
	return Token(binary.BigEndian.Uint64(h.mac.Sum(h.sum[:0])))
}

// Mailbox returns the token of a mailbox. Addresses are in lower case.
func (k *Key) Mailbox(address string) Token { return k.token(ofMailbox, address, "") }

// Identifier returns the token of a message identifier without angle brackets.
func (k *Key) Identifier(id string) Token { return k.token(ofIdentifier, "", id) }

// Counterpart returns the token of a mailbox's events with an address.
func (k *Key) Counterpart(mailbox, address string) Token {
	return k.token(ofCounterpart, mailbox, address)
}

// Kind returns the token of a mailbox's events of a kind.
func (k *Key) Kind(mailbox string, kind uint16) Token {
	return k.token(ofKind, mailbox, string([]byte{byte(kind >> 8), byte(kind)}))
}

// Word returns the token of a mailbox's events with a word, as [Words] gives it,
// in the subject.
func (k *Key) Word(mailbox, word string) Token { return k.token(ofWord, mailbox, word) }

// Words returns the tokens of all words of a subject. They are not the caller's
// to change.
func (k *Key) Words(mailbox, subject string) []Token {
	at := [2]string{mailbox, subject}
	k.mu.RLock()
	tokens, ok := k.recent[at]
	k.mu.RUnlock()
	if ok {
		return tokens
	}
	for _, w := range Words(subject) {
		tokens = append(tokens, k.Word(mailbox, w))
	}
	if len(subject) <= maxRecentSubject {
		k.mu.Lock()
		defer k.mu.Unlock()
		if len(k.recent) >= maxRecent {
			clear(k.recent)
		}
		k.recent[at] = tokens
	}
	return tokens
}
