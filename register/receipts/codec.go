package receipts

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"scripta/internal/durable"
)

// maxPlain bounds what one stored frame may expand to, bytes.
const maxPlain = 16 << 20

// codec compresses with zstd against a dictionary of its own, which is made
// once: what was stored with it needs it for ever.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

// openCodec reads the dictionary, or makes it of samples.
func openCodec(fsys durable.FS, dir string, samples [][]byte) (*codec, error) {
	name := filepath.Join(dir, "dictionary")
	dict, err := readFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		dict = bytes.Join(samples, nil)
		err = durable.WriteFile(fsys, name, dict, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("couldn't open the receipts' dictionary (receipts cannot be read without it; restore it from a backup): %w", err)
	}
	id := crc32.ChecksumIEEE(dict) | 1<<31 // recognised when decoding: another dictionary is an error, not noise
	// Against the dictionary all levels make receipts equally small, within 5 %,
	// but the higher ones reset large tables for each: 20 µs a receipt at this
	// level, 150 at the default, 10 ms at the best.
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderDictRaw(id, dict), zstd.WithEncoderConcurrency(2), zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return nil, fmt.Errorf("couldn't set up compression: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderDictRaw(id, dict), zstd.WithDecoderMaxMemory(maxPlain), zstd.WithDecoderConcurrency(2))
	if err != nil {
		return nil, fmt.Errorf("couldn't set up decompression: %w", err)
	}
	return &codec{enc, dec}, nil
}

func (c *codec) compress(b []byte) []byte { return c.enc.EncodeAll(b, make([]byte, 0, len(b)/2)) }

func (c *codec) decompress(b []byte) ([]byte, error) { return c.dec.DecodeAll(b, nil) }

func readFile(fsys durable.FS, name string) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(f)
	return b.Bytes(), err
}
