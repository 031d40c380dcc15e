package index

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"scripta/internal/durable"
	"scripta/internal/keys"
)

const (
	manifestName   = "manifest"
	damagedName    = "damaged" // a file whose being there says that the next opening begins anew
	manifestFormat = "scripta/index/v2"
	maxManifest    = 16 << 20
)

// manifest is the file that says what the index is. It is JSON, a line feed, and
// the CRC-32C of both in hexadecimal with a line feed.
type manifest struct {
	Format   string    `json:"format"`
	Origin   string    `json:"origin"` // of the log
	Next     uint64    `json:"next"`   // leaves below it are in the runs
	Receipts Location  `json:"receipts"`
	Number   uint64    `json:"number"` // of the next run
	Runs     []runInfo `json:"runs"`   // in the order in which their leaves come
}

func (m *manifest) encode() ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	b = append(b, '\n')
	return fmt.Appendf(b, "%08x\n", crc32.Checksum(b, castagnoli)), nil
}

func parseManifest(b []byte) (*manifest, error) {
	text, sum, ok := bytes.Cut(b, []byte{'\n'})
	if want, err := strconv.ParseUint(string(bytes.TrimSuffix(sum, []byte{'\n'})), 16, 32); !ok || err != nil ||
		uint32(want) != crc32.Checksum(b[:len(text)+1], castagnoli) {
		return nil, damaged("the checksum of the manifest is wrong")
	}
	m := new(manifest)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, damaged("manifest: %v", err)
	}
	if m.Format != manifestFormat {
		return nil, damaged("the manifest is a %.40q, not %s", m.Format, manifestFormat)
	}
	return m, nil
}

// readManifest returns nil when there is none.
func readManifest(fsys durable.FS, dir string) (*manifest, error) {
	f, err := fsys.OpenFile(filepath.Join(dir, manifestName), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("couldn't read the index: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("couldn't read the index: %w", err)
	}
	return parseManifest(b)
}

// Months that are none: the service's records, and the places of receipts.
const (
	service  = 0
	Receipts = 0xffff
)

// MonthName is the name of a month's folder.
func MonthName(month uint16) string {
	switch month {
	case service:
		return "service"
	case Receipts:
		return "receipts"
	}
	return keys.Month(month).String()
}

// folder is where the runs of a month lie.
func folder(dir string, month uint16) string { return filepath.Join(dir, MonthName(month)) }

func (r *runInfo) name(dir string) string {
	return filepath.Join(folder(dir, r.Month), fmt.Sprintf("%08d.run", r.Number))
}
