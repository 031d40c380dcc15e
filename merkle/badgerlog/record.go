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
//	r ‖ tree                     the latest root, LogRootV1
//	e ‖ tree ‖ index             a leaf's record
//	i ‖ tree ‖ identity[:16]     uvarint of the leaf's index
//	t ‖ tree ‖ level ‖ index     a full tile
//
// Half an identity hash is enough for a key: identities are hashes over random
// ids of our own making, two of 10^10 share 128 bits with a probability of
// 10^-19, and the record holds the whole hash, which is compared.
const (
	kindFormat   = 'v'
	kindTree     = 'a'
	kindRoot     = 'r'
	kindLeaf     = 'e'
	kindIdentity = 'i'
	kindTile     = 't'

	identityInKey = 16
)

// format is the value under kindFormat.
const format = "scripta badgerlog 1"

func appendKey(b []byte, kind byte, tree int64) []byte {
	return binary.BigEndian.AppendUint64(append(b, kind), uint64(tree))
}

func appendLeafKey(b []byte, tree int64, index uint64) []byte {
	return binary.BigEndian.AppendUint64(appendKey(b, kindLeaf, tree), index)
}

func appendIdentityKey(b []byte, tree int64, identity []byte) []byte {
	return append(appendKey(b, kindIdentity, tree), identity[:identityInKey]...)
}

func appendTileKey(b []byte, tree int64, level int, index uint64) []byte {
	b = append(appendKey(b, kindTile, tree), byte(level))
	return binary.BigEndian.AppendUint64(b, index)
}

// A record is a leaf as it is stored:
//
//	int64    queue time, nanoseconds since 1970
//	int64    integration time, the same
//	[32]byte identity hash
//	uint16   length of the value
//	         value ‖ extra data
//
// The Merkle hash is not stored: it costs less to compute than to read.
const (
	recordQueued     = 0
	recordIntegrated = 8
	recordIdentity   = 16
	recordLength     = recordIdentity + tiles.HashSize
	recordValue      = recordLength + 2
)

var errRecord = errors.New("malformed record")

// appendRecord appends the record of a leaf that is not yet integrated.
func appendRecord(b []byte, leaf *trillian.LogLeaf, queued time.Time) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(queued.UnixNano()))
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
	if len(record) < recordValue {
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
	hash := tiles.LeafHash(value)
	leaf := &trillian.LogLeaf{
		MerkleLeafHash:     hash[:],
		LeafValue:          value,
		LeafIndex:          int64(index),
		LeafIdentityHash:   record[recordIdentity:recordLength:recordLength],
		QueueTimestamp:     timeAt(record[recordQueued:]),
		IntegrateTimestamp: timeAt(record[recordIntegrated:]),
	}
	if extra := record[recordValue+len(value):]; len(extra) > 0 {
		leaf.ExtraData = extra
	}
	return leaf, nil
}

func timeAt(b []byte) *timestamppb.Timestamp {
	return timestamppb.New(time.Unix(0, int64(binary.BigEndian.Uint64(b))))
}
