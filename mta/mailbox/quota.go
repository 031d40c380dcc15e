package mailbox

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// staleAfter is the age at which a maildirsize that says "full" is recalculated
// before it is believed (Maildir++: 15 minutes).
const staleAfter = 15 * time.Minute

// Usage is what a mailbox holds. Limit is 0 for a mailbox without a quota.
type Usage struct {
	Bytes, Messages, Limit int64
}

// CheckQuota returns ErrMailboxFull when a message of size bytes would exceed
// the quota of a mailbox, and ErrNoMailbox when there is none. Deliveries that
// run at the same time are not counted: together they may exceed a quota by
// their size.
func (s *Store) CheckQuota(mailbox string, size int64) error {
	dir, err := s.Path(mailbox)
	if err != nil {
		return fmt.Errorf("couldn't check a quota: %w", err)
	}
	z, err := s.usageOf(mailbox, dir, size)
	if err != nil {
		return fmt.Errorf("couldn't check the quota of %s: %w", mailbox, err)
	}
	if z.full(size) {
		return fmt.Errorf("%s: %d bytes for %d of %d in use: %w", mailbox, size, z.bytes, z.limit, ErrMailboxFull)
	}
	return nil
}

// Usage returns what a mailbox holds, in all of its folders.
func (s *Store) Usage(mailbox string) (Usage, error) {
	dir, err := s.Path(mailbox)
	if err != nil {
		return Usage{}, fmt.Errorf("couldn't measure a mailbox: %w", err)
	}
	z, err := s.usageOf(mailbox, dir, 0)
	if err == nil && z.unlimited() { // nobody keeps count
		z, err = s.measure(dir)
	}
	if err != nil {
		return Usage{}, fmt.Errorf("couldn't measure mailbox %s: %w", mailbox, err)
	}
	return Usage{Bytes: z.bytes, Messages: z.count, Limit: z.limit}, nil
}

// AddUsage notes that messages were added to a mailbox, or removed from it
// (negative), by something else than Publish: the IMAP and POP3 servers.
func (s *Store) AddUsage(mailbox string, size, messages int64) error {
	dir, err := s.Path(mailbox)
	if err == nil {
		err = s.addUsage(mailbox, dir, size, messages)
	}
	if err != nil {
		return fmt.Errorf("couldn't note the usage of mailbox %s: %w", mailbox, err)
	}
	return nil
}

// count keeps maildirsize after publications. Its errors are not the
// deliveries': the messages are there, and a maildirsize that misses one is put
// right when it is recalculated.
func (s *Store) count(ps []*Prepared) {
	for _, p := range ps {
		if p.moved && !p.counted {
			_ = s.addUsage(p.mailbox, p.dir, p.size, 1)
			p.counted = true
		}
	}
	for _, p := range ps {
		// Whether its size was added before the crash nobody knows. What was
		// added above is there to be measured.
		if p.absent && !p.counted {
			_, _ = s.recalculate(p.mailbox, p.dir, nil)
			p.counted = true
		}
	}
}

func (s *Store) addUsage(mailbox, dir string, size, messages int64) error {
	lock := s.usageLock(mailbox)
	lock.Lock()
	defer lock.Unlock()
	f, err := s.fs.OpenFile(filepath.Join(dir, "maildirsize"), os.O_WRONLY|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no quota, or to be recalculated when it is asked for
	}
	if err != nil {
		return err
	}
	// One write with O_APPEND: lines of several programs do not mix. Not
	// synced: it can be made again.
	_, err = fmt.Fprintf(f, "%d %d\n", size, messages)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func (s *Store) usageLock(mailbox string) *sync.Mutex {
	h := fnv.New32a()
	_, _ = io.WriteString(h, lower(mailbox))
	return &s.usage[h.Sum32()%uint32(len(s.usage))]
}

// limit returns the limit of a mailbox when the accounts know it.
func (s *Store) limit(mailbox string) (int64, bool) {
	if s.quota == nil {
		return 0, false
	}
	return s.quota(lower(mailbox))
}

// usageOf reads the maildirsize of a mailbox. It recalculates it when it is
// absent or malformed, has other limits than the account, has grown too long, or
// says that a message of size bytes does not fit and may be out of date.
func (s *Store) usageOf(mailbox, dir string, size int64) (sizeFile, error) {
	limit, known := s.limit(mailbox)
	z, at, err := s.readSizeFile(dir)
	absent := errors.Is(err, fs.ErrNotExist)
	switch {
	case err != nil && !absent && !errors.Is(err, errSizeFile):
		return z, err
	case known && limit == 0, !known && absent:
		if _, err := s.fs.Stat(filepath.Join(dir, "new")); err != nil {
			return sizeFile{}, noBox(err)
		}
		return sizeFile{}, nil
	case err != nil, known && z.limit != limit:
	case z.full(size) && (z.lines > 1 || s.now().Sub(at) > staleAfter):
	default:
		return z, nil
	}
	return s.recalculate(mailbox, dir, nil)
}

// readSizeFile returns what maildirsize says and when it was written.
func (s *Store) readSizeFile(dir string) (z sizeFile, at time.Time, err error) {
	f, err := s.fs.OpenFile(filepath.Join(dir, "maildirsize"), os.O_RDONLY, 0)
	if err != nil {
		return z, at, err
	}
	defer f.Close()
	buf := make([]byte, maxSizeFile)
	n, err := io.ReadFull(f, buf)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return z, at, err
	}
	st, err := f.Stat()
	if err != nil {
		return z, at, err
	}
	z, err = parseSizeFile(buf[:n])
	return z, st.ModTime(), err
}

// setQuota gives a mailbox its limit in bytes.
func (s *Store) setQuota(mailbox, dir string, limit int64) error {
	_, err := s.recalculate(mailbox, dir, &limit)
	return err
}

// recalculate measures a mailbox and replaces its maildirsize. The limit is that
// of the account; or, if none is known, the one given; or the one in the file.
// Without any the file is removed.
func (s *Store) recalculate(mailbox, dir string, given *int64) (sizeFile, error) {
	lock := s.usageLock(mailbox)
	lock.Lock()
	defer lock.Unlock()
	name := filepath.Join(dir, "maildirsize")
	old, _, err := s.readSizeFile(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errSizeFile) {
		return sizeFile{}, err
	}
	if limit, known := s.limit(mailbox); known {
		old.limit = limit
	} else if given != nil {
		old.limit = *given
	}
	if old.unlimited() {
		if err := s.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return sizeFile{}, err
		}
		return sizeFile{}, nil
	}
	z, err := s.measure(dir)
	if err != nil {
		return sizeFile{}, err
	}
	z.limit, z.limitCount, z.lines = old.limit, old.limitCount, 1
	tmp := filepath.Join(dir, "tmp", s.sizesInTmp())
	if err := s.writeSynced(tmp, z.text()); err != nil {
		return sizeFile{}, err
	}
	if err := s.fs.Rename(tmp, name); err != nil {
		return sizeFile{}, err
	}
	return z, nil
}

// sizesInTmp is the name under which maildirsize is written before it is renamed.
func (s *Store) sizesInTmp() string { return "maildirsize." + s.host }

// writeSynced makes the contents durable, because the limit may stand nowhere
// else.
func (s *Store) writeSynced(name string, data []byte) error {
	f, err := s.fs.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return noBox(err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// measure adds up the messages of a Maildir++ and its folders (".Sent", …), by
// the sizes in their names where they have one.
func (s *Store) measure(dir string) (sizeFile, error) {
	var z sizeFile
	entries, err := s.fs.ReadDir(dir)
	if err != nil {
		return z, noBox(err)
	}
	maildirs := []string{dir}
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), ".") {
			maildirs = append(maildirs, filepath.Join(dir, e.Name()))
		}
	}
	for _, d := range maildirs {
		for _, sub := range []string{"new", "cur"} {
			files, err := s.fs.ReadDir(filepath.Join(d, sub))
			if errors.Is(err, fs.ErrNotExist) && d != dir {
				continue // some other hidden folder
			}
			if err != nil {
				return z, noBox(err)
			}
			for _, f := range files {
				if strings.HasPrefix(f.Name(), ".") {
					continue
				}
				size, ok := sizeOf(f.Name())
				if !ok {
					info, err := f.Info()
					if errors.Is(err, fs.ErrNotExist) {
						continue // deleted meanwhile
					}
					if err != nil {
						return z, err
					}
					size = info.Size()
				}
				z.bytes, z.count = z.bytes+size, z.count+1
			}
		}
	}
	return z, nil
}
