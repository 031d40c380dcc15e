package index

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"

	"scripta/internal/durable"
)

// runWriter writes a run.
type runWriter struct {
	fsys  durable.FS
	name  string
	info  runInfo
	file  durable.File
	out   *bufio.Writer
	at    uint64 // bytes written
	refs  []blockRef
	block []byte // being filled
	token Token  // of the last entry
	times []span
}

// createRun begins the file name. first is the smallest leaf that will be added.
func createRun(fsys durable.FS, name string, info runInfo) (*runWriter, error) {
	f, err := fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("couldn't begin a run of the index: %w", err)
	}
	w := &runWriter{fsys: fsys, name: name, info: info, file: f, out: bufio.NewWriterSize(f, 256<<10), at: uint64(len(runMagic))}
	_, err = w.out.WriteString(runMagic)
	return w, w.abort(err)
}

// abort removes the file if err is not nil, and returns err.
func (w *runWriter) abort(err error) error {
	if err != nil {
		err = fmt.Errorf("couldn't write a run of the index: %w", errors.Join(err, w.file.Close(), w.fsys.Remove(w.name)))
	}
	return err
}

// add adds leaves under a token. Both come in ascending order.
func (w *runWriter) add(t Token, leaves []uint64) error {
	for len(leaves) > 0 {
		if len(w.block) == 0 {
			w.refs = append(w.refs, blockRef{token: t, leaf: leaves[0], offset: w.at})
			w.token = t
		}
		// A number has at most 10 bytes: as many leaves as surely fit.
		n := min(len(leaves), max(1, (blockSize-len(w.block))/2))
		b := binary.AppendUvarint(w.block, uint64(t-w.token))
		b = binary.AppendUvarint(b, uint64(n))
		last := w.info.First
		for _, l := range leaves[:n] {
			b = binary.AppendUvarint(b, l-last)
			last = l
		}
		w.block, w.token = b, t
		w.info.Postings += uint64(n)
		w.info.Last = max(w.info.Last, last)
		leaves = leaves[n:]
		if len(w.block) >= blockSize {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *runWriter) flush() error {
	if len(w.block) == 0 {
		return nil
	}
	ref := &w.refs[len(w.refs)-1]
	ref.length, ref.sum = uint32(len(w.block)), crc32.Checksum(w.block, castagnoli)
	_, err := w.out.Write(w.block)
	w.at += uint64(len(w.block))
	w.block = w.block[:0]
	return err
}

// finish makes the file durable; its name is when its folder is synced.
func (w *runWriter) finish() (runInfo, error) {
	err := w.flush()
	var dir []byte
	for _, r := range w.refs {
		dir = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dir, uint64(r.token)), r.leaf)
		dir = binary.BigEndian.AppendUint64(dir, r.offset)
		dir = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(dir, r.length), r.sum)
	}
	for _, s := range w.times {
		dir = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dir, s.group), uint64(s.from)), uint64(s.to))
	}
	for _, v := range []uint64{w.info.Postings, w.info.First, w.info.Last, w.at} {
		dir = binary.BigEndian.AppendUint64(dir, v)
	}
	dir = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(dir, uint32(len(w.refs))), uint32(len(w.times)))
	w.info.Sum = crc32.Checksum(dir, castagnoli)
	dir = binary.BigEndian.AppendUint32(dir, w.info.Sum)
	w.info.Size = int64(w.at) + int64(len(dir))
	if err == nil {
		_, err = w.out.Write(dir)
	}
	if err == nil {
		err = w.out.Flush()
	}
	if err == nil {
		err = w.file.Sync()
	}
	if err == nil {
		if err = w.file.Close(); err == nil {
			return w.info, nil
		}
		return w.info, errors.Join(err, w.fsys.Remove(w.name))
	}
	return w.info, w.abort(err)
}
