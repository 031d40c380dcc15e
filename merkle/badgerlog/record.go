package badgerlog

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/google/trillian"
	"google.golang.org/protobuf/types/known/timestamppb"

	"scripta/merkle/tiles"
)

const (
	// MaxValueSize bounds a leaf's value in bytes: more does not fit into an
	// entry bundle (c2sp.org/tlog-tiles).
	MaxValueSize = tiles.MaxEntrySize
	// MaxExtraSize bounds a leaf's extra data in bytes, so that a record stays
	// below valueThreshold.
	MaxExtraSize = 896 << 10
)

// The keys. Each begins with a byte that says what it is and the tree's id;
// integers are big-endian, so that leaves and tiles sort by index.
//
//	v                            the format of the database
//	a ‖ tree                     the tree as Trillian's admin API knows it, protobuf
//	w                            up to which place in the leaf files all that follows is here
//	r ‖ tree                     the root at that place, LogRootV1
//	i ‖ tree ‖ identity[:16]     uvarint of the leaf's index
//	t ‖ tree ‖ level ‖ index     a full tile
//	l ‖ tree ‖ block             the places of 256 leaves in the leaf files; the last block may have fewer
//
// Half an identity hash is enough for a key: identities are hashes over random
// ids of our own making, two of 10^10 share 128 bits with a probability of
// 10^-19, and the record holds the whole hash, which is compared.
const (
	kindFormat   = 'v'
	kindTree     = 'a'
	kindMark     = 'w'
	kindRoot     = 'r'
	kindIdentity = 'i'
	kindTile     = 't'
	kindPlaces   = 'l'

	identityInKey = 16
)

// format is the value under kindFormat.
const format = "scripta badgerlog 2"

func appendKey(b []byte, kind byte, tree int64) []byte {
	return binary.BigEndian.AppendUint64(append(b, kind), uint64(tree))
}

func appendPlacesKey(b []byte, tree int64, block uint64) []byte {
	return binary.BigEndian.AppendUint64(appendKey(b, kindPlaces, tree), block)
}

func appendIdentityKey(b []byte, tree int64, identity []byte) []byte {
	return append(appendKey(b, kindIdentity, tree), identity[:identityInKey]...)
}

func appendTileKey(b []byte, tree int64, level int, index uint64) []byte {
	b = append(appendKey(b, kindTile, tree), byte(level))
	return binary.BigEndian.AppendUint64(b, index)
}

// A record is a leaf as it stands in the leaf files:
//
//	byte     'e'
//	int64    integration time, nanoseconds since 1970
//	[32]byte identity hash
//	uint16   length of the value
//	         value ‖ extra data
//
// The Merkle hash is not stored: it costs less to compute than to read. Nor is
// the time at which the leaf was queued, milliseconds earlier: the integration
// time is given for it.
//
// The leaves of a batch are followed by its end; leaves without one were never
// in the log:
//
//	byte     'c'
//	int64    tree
//	uint32   number of the leaves, which stand right before
//	         the new root, LogRootV1
const (
	kindLeaf   = 'e'
	kindCommit = 'c'

	recordIntegrated = 1
	recordIdentity   = recordIntegrated + 8
	recordLength     = recordIdentity + tiles.HashSize
	recordValue      = recordLength + 2

	commitTree  = 1
	commitCount = commitTree + 8
	commitRoot  = commitCount + 4
)

var errRecord = errors.New("malformed record")

// appendRecord appends the record of a leaf that is not yet integrated.
func appendRecord(b []byte, leaf *trillian.LogLeaf) []byte {
	b = append(b, kindLeaf)
	b = binary.BigEndian.AppendUint64(b, 0)
	b = append(b, leaf.LeafIdentityHash...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(leaf.LeafValue)))
	return append(append(b, leaf.LeafValue...), leaf.ExtraData...)
}

// setIntegrated puts the integration time into a record.
func setIntegrated(record []byte, at time.Time) {
	binary.BigEndian.PutUint64(record[recordIntegrated:], uint64(at.UnixNano()))
}

// valueOf returns the value within a record.
func valueOf(record []byte) ([]byte, error) {
	if len(record) < recordValue || record[0] != kindLeaf {
		return nil, errRecord
	}
	end := recordValue + int(binary.BigEndian.Uint16(record[recordLength:]))
	if end > len(record) || end == recordValue {
		return nil, errRecord
	}
	return record[recordValue:end:end], nil
}

// leafOf returns the leaf that a record holds; they share memory.
func leafOf(record []byte, index uint64) (*trillian.LogLeaf, error) {
	value, err := valueOf(record)
	if err != nil {
		return nil, err
	}
	hash, at := tiles.LeafHash(value), timeAt(record[recordIntegrated:])
	leaf := &trillian.LogLeaf{
		MerkleLeafHash:     hash[:],
		LeafValue:          value,
		LeafIndex:          int64(index),
		LeafIdentityHash:   record[recordIdentity:recordLength:recordLength],
		QueueTimestamp:     at,
		IntegrateTimestamp: at,
	}
	if extra := record[recordValue+len(value):]; len(extra) > 0 {
		leaf.ExtraData = extra
	}
	return leaf, nil
}

// appendCommit appends the end of a batch of n leaves.
func appendCommit(b []byte, tree int64, n int, root []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, kindCommit), uint64(tree))
	return append(binary.BigEndian.AppendUint32(b, uint32(n)), root...)
}

// parseCommit reads what appendCommit made.
func parseCommit(b []byte) (tree int64, n int, root []byte, err error) {
	if len(b) <= commitRoot || b[0] != kindCommit {
		return 0, 0, nil, errRecord
	}
	return int64(binary.BigEndian.Uint64(b[commitTree:])), int(binary.BigEndian.Uint32(b[commitCount:])), b[commitRoot:], nil
}

func timeAt(b []byte) *timestamppb.Timestamp {
	return timestamppb.New(time.Unix(0, int64(binary.BigEndian.Uint64(b))))
}
