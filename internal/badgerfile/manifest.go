package badgerfile

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"google.golang.org/protobuf/proto"
)

const (
	manifestName  = "MANIFEST"
	manifestBegin = "Bdgr\x00\x00\x00\x08"
	manifestHead  = 8 // "Bdgr" ‖ uint16 of the application ‖ uint16 version
	recordHead    = 8 // uint32 length ‖ uint32 CRC-32C of what follows
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Table is one table of a database.
type Table struct {
	Name        string // path
	Compression options.CompressionType
}

// Tables returns a database's tables, the oldest first, as its MANIFEST has them. It may be called while Badger has the database open. The
// error is fs.ErrNotExist if there is no database, or a DamageError.
func Tables(dir string) ([]Table, error) {
	name := filepath.Join(dir, manifestName)
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	tables, err := parseManifest(name, b)
	if err != nil {
		return nil, err
	}
	all := make([]Table, 0, len(tables))
	for _, id := range slices.Sorted(maps.Keys(tables)) {
		all = append(all, Table{filepath.Join(dir, fmt.Sprintf("%06d.sst", id)), tables[id]})
	}
	return all, nil
}

// parseManifest returns the tables and how they are compressed, by number. An end that a write
// left unfinished is passed over, as Badger does.
func parseManifest(name string, b []byte) (map[uint64]options.CompressionType, error) {
	damaged := func(at int, format string, a ...any) error {
		return &DamageError{File: name, Offset: int64(at), Reason: fmt.Sprintf(format, a...)}
	}
	if len(b) < manifestHead || string(b[:manifestHead]) != manifestBegin {
		return nil, damaged(0, "it does not begin as a MANIFEST of Badger v4 does")
	}
	tables := map[uint64]options.CompressionType{}
	for at := manifestHead; at < len(b); {
		rest := b[at:]
		if len(rest) < recordHead {
			break // unfinished
		}
		length, sum := binary.BigEndian.Uint32(rest), binary.BigEndian.Uint32(rest[4:])
		if uint64(length) > uint64(len(rest)-recordHead) {
			if whole(rest[recordHead:], sum) {
				return nil, damaged(at, "the length of a record is wrong")
			}
			break // unfinished
		}
		body := rest[recordHead : recordHead+length]
		if crc32.Checksum(body, castagnoli) != sum {
			return nil, damaged(at, "the checksum of a record is wrong")
		}
		var set pb.ManifestChangeSet
		if err := proto.Unmarshal(body, &set); err != nil {
			return nil, damaged(at, "a record cannot be read: %v", err)
		}
		for _, c := range set.Changes {
			if c.Op == pb.ManifestChange_DELETE {
				delete(tables, c.Id)
			} else {
				tables[c.Id] = options.CompressionType(c.Compression)
			}
		}
		at += recordHead + int(length)
	}
	return tables, nil
}

// whole reports whether some beginning of b has the sum: then a record that is
// said to reach beyond the end of the file is there, and its length is wrong. An
// unfinished record has no such beginning, but for one of 2^32.
func whole(b []byte, sum uint32) bool {
	crc := uint32(0)
	for i := range b {
		if crc == sum {
			return true
		}
		crc = crc32.Update(crc, castagnoli, b[i:i+1])
	}
	return crc == sum
}
