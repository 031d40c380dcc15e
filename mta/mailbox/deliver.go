package mailbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"scripta/internal/durable"
)

// Delivery is one message for one mailbox.
type Delivery struct {
	Mailbox string
	// Name tells this delivery from every other into the mailbox, and is the
	// same when it is run again: 1 to 100 letters, digits, "-" and "_".
	Name string
	// Time is the first part of the file name, to the second; also the same
	// when it is run again.
	Time time.Time
	// Size is the number of bytes that Write writes.
	Size int64
	// Write writes the message with CRLF line ends.
	Write func(io.Writer) error
	// BypassQuota delivers into a full mailbox, as receipts are.
	BypassQuota bool
}

// Prepared is a message that is or was in tmp/, to be synced and published. It
// holds no resource and may be dropped.
type Prepared struct {
	mailbox string
	dir     string // the Maildir
	unique  string
	file    string // its name in tmp/ and new/
	size    int64
	err     error // why there can be no such delivery

	// Of the last Move: it renamed the file; it found none in tmp/. counted
	// says that maildirsize knows.
	moved, absent, counted bool
}

func (p *Prepared) in(sub string) string { return filepath.Join(p.dir, sub) }

// Resume returns the handle of what Prepare made, in this process or in an
// earlier one, of a Delivery with these values. That it can be nothing of the
// kind is told by the method it is handed to.
func (s *Store) Resume(mailbox, name string, size int64, at time.Time) *Prepared {
	p := &Prepared{mailbox: mailbox, unique: name, file: fileName(at, name, s.host, size), size: size}
	p.dir, p.err = s.Path(mailbox)
	if p.err == nil && (!validName(name) || size < 0) {
		p.err = fmt.Errorf("delivery of %d bytes under the name %.100q", size, name)
	}
	return p
}

// Prepare writes a message to tmp/, over what an earlier try left there. It is
// not durable before Sync. Besides errors of d.Write and of the disk (test for
// syscall.ENOSPC) it returns ErrNoMailbox, and ErrMailboxFull unless the quota is
// bypassed. Nothing stays in tmp/ after an error.
func (s *Store) Prepare(d Delivery) (*Prepared, error) {
	fail := func(err error) (*Prepared, error) {
		return nil, fmt.Errorf("couldn't prepare a message for %s: %w", d.Mailbox, err)
	}
	broken := func(err error) (*Prepared, error) { return fail(&FileError{d.Mailbox, err}) }
	p := s.Resume(d.Mailbox, d.Name, d.Size, d.Time)
	if p.err != nil {
		return fail(p.err)
	}
	if err := s.cleaned(d.Mailbox); err != nil {
		return fail(err)
	}
	if !d.BypassQuota {
		if err := s.CheckQuota(d.Mailbox, d.Size); err != nil {
			return broken(err)
		}
	}
	if old := s.leftOver(p); old != "" {
		// It would be published a second time by a rerun of Publish.
		if err := s.fs.Remove(filepath.Join(p.in("tmp"), old)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return broken(err)
		}
	}
	name := filepath.Join(p.in("tmp"), p.file)
	f, err := s.fs.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return broken(noBox(err))
	}
	err = s.write(f, d)
	if cerr := f.Close(); err == nil && cerr != nil {
		err = &FileError{d.Mailbox, cerr}
	}
	if err != nil {
		_ = s.fs.Remove(name)
		return fail(err)
	}
	return p, nil
}

// write copies the message to f and checks its size, which its name states.
func (s *Store) write(f io.Writer, d Delivery) error {
	w := s.writers.Get().(*bufio.Writer)
	defer func() {
		w.Reset(nil)
		s.writers.Put(w)
	}()
	c := &counter{w: f, mailbox: d.Mailbox, left: d.Size}
	w.Reset(c)
	if err := d.Write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if c.left != 0 {
		return fmt.Errorf("message of %d bytes, %d stated", d.Size-c.left, d.Size)
	}
	return nil
}

// counter writes no more than left bytes.
type counter struct {
	w       io.Writer
	mailbox string
	left    int64
}

func (c *counter) Write(b []byte) (int, error) {
	if int64(len(b)) > c.left {
		return 0, errors.New("message longer than stated")
	}
	n, err := c.w.Write(b)
	c.left -= int64(n)
	if err != nil {
		err = &FileError{c.mailbox, err}
	}
	return n, err
}

// Sync makes durable what was done last to each message: that it is in tmp/,
// with all its bytes, or, after Move, that it is in new/. It shares the flushes
// among them and with other deliveries under way. After the former the caller
// notes, durably, that they are being published; after the latter, that they
// were.
func (s *Store) Sync(ps ...*Prepared) error {
	if len(ps) == 0 {
		return nil
	}
	var files, news []string
	tmps := make([]string, 0, len(ps))
	for _, p := range ps {
		switch {
		case p.err != nil:
			return fmt.Errorf("couldn't sync a message for %s: %w", p.mailbox, p.err)
		case p.moved, p.absent:
			// Also when it was absent: an earlier process may have died
			// between its rename and the flush. A mailbox that was removed
			// since Move has nothing to flush.
			if _, err := s.fs.Stat(p.in("new")); errors.Is(err, fs.ErrNotExist) {
				continue
			}
			news = append(news, p.in("new"))
		default:
			files = append(files, filepath.Join(p.in("tmp"), p.file))
		}
		tmps = append(tmps, p.in("tmp"))
	}
	var err error
	if s.group != nil {
		err = s.group.Sync()
	} else if err = s.syncEach(files, news); err == nil {
		// The new names come first: a file system that does not keep the two
		// halves of a rename together would otherwise lose the message in a
		// power cut between them. (ext4, XFS and btrfs do keep them together,
		// and only they have a group.)
		err = s.syncEach(nil, tmps)
	}
	if err != nil {
		return fmt.Errorf("couldn't sync messages: %w", err)
	}
	s.count(ps)
	return nil
}

// syncEach flushes files and folders one by one. The files were closed after
// writing; a write-back that failed meanwhile is reported to whoever opens the
// file next (Linux 4.13).
func (s *Store) syncEach(names, dirs []string) (err error) {
	files := make([]durable.File, 0, len(names))
	defer func() {
		for _, f := range files {
			if cerr := f.Close(); err == nil {
				err = cerr
			}
		}
	}()
	for _, name := range names {
		f, err := s.fs.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	return durable.SyncAll(s.fs, files, dirs)
}

// Publish moves prepared messages from tmp/ to new/ and returns when that is
// durable. It may be run again at will: a message that is not in tmp/ was
// published, if the caller had noted durably that it would be (the package
// comment says why). Messages whose mailbox fails do not hold up the others;
// their errors are joined. ErrNoMailbox tells of a mailbox that was removed since
// it was prepared.
func (s *Store) Publish(ps ...*Prepared) error {
	if len(ps) == 0 {
		return nil
	}
	err := s.Move(ps...)
	done := make([]*Prepared, 0, len(ps))
	for _, p := range ps {
		if p.moved || p.absent {
			done = append(done, p)
		}
	}
	return errors.Join(err, s.Sync(done...))
}

// Move is Publish without its flush, which is Sync, sooner or later: the holders
// see the messages at once, and a power cut may put them back into tmp/, from
// where a rerun moves them again.
func (s *Store) Move(ps ...*Prepared) error {
	var errs []error
	for _, p := range ps {
		there, err := s.move(p)
		p.moved, p.absent, p.counted = err == nil && there, err == nil && !there, false
		if err != nil {
			errs = append(errs, fmt.Errorf("couldn't publish a message to %s: %w", p.mailbox, &FileError{p.mailbox, err}))
		}
	}
	return errors.Join(errs...)
}

// move renames tmp/N to new/N and tells whether tmp/N was there.
func (s *Store) move(p *Prepared) (there bool, err error) {
	if p.err != nil {
		return false, p.err
	}
	if err := s.cleaned(p.mailbox); err != nil {
		return false, err
	}
	for _, file := range []string{p.file, s.leftOver(p)} {
		if file == "" {
			continue
		}
		err := s.fs.Rename(filepath.Join(p.in("tmp"), file), filepath.Join(p.in("new"), file))
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err == nil, err
		}
	}
	// Either tmp/N is absent or the mailbox is.
	for _, sub := range folders {
		if _, err := s.fs.Stat(p.in(sub)); err != nil {
			return false, noBox(err)
		}
	}
	return false, nil
}

// delivered names a delivery.
type delivered struct{ mailbox, name string }

// leftOver returns the name in tmp/ of the file that an earlier process left for
// this delivery, if it is another one than it has now: the host was renamed, or
// the caller took another time. Its absence under the present name proves
// nothing then.
func (s *Store) leftOver(p *Prepared) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if file := s.left[delivered{lower(p.mailbox), p.unique}]; file != p.file {
		return file
	}
	return ""
}

// CleanTmp removes what crashes left in tmp/, except the deliveries, named by
// their mailbox and Delivery.Name, that keep answers true for. Only recovery
// calls it, before anything else opens the store. Files of other programs stay;
// they clean up after themselves. A mailbox that cannot be read does not keep the
// others from being opened: until it was cleaned, nothing is put into it.
func (s *Store) CleanTmp(keep func(mailbox, name string) bool) error {
	domains, err := s.fs.ReadDir(s.root)
	if err != nil {
		return fmt.Errorf("couldn't clean the mailboxes: %w", err)
	}
	for _, domain := range domains {
		if !domain.IsDir() || !validDomain(domain.Name()) {
			continue
		}
		locals, err := s.fs.ReadDir(filepath.Join(s.root, domain.Name()))
		if err != nil {
			return fmt.Errorf("couldn't clean the mailboxes: %w", err)
		}
		for _, local := range locals {
			if !local.IsDir() || !validLocal(local.Name()) {
				continue
			}
			dir := filepath.Join(s.root, domain.Name(), local.Name(), "tmp")
			box := local.Name() + "@" + domain.Name()
			err := s.clean(dir, box, keep)
			if broken := (&FileError{box, err}); err != nil && broken.Alone() {
				s.mu.Lock()
				s.unclean[box] = keep
				s.mu.Unlock()
				continue
			}
			if err != nil {
				return fmt.Errorf("couldn't clean mailbox %s: %w", box, err)
			}
		}
	}
	return nil
}

func (s *Store) clean(tmp, mailbox string, keep func(mailbox, name string) bool) error {
	entries, err := s.fs.ReadDir(tmp)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a mailbox half made
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		unique, ok := uniqueOf(e.Name())
		sizes := e.Name() == s.sizesInTmp() // written again when it is needed
		if !ok && !sizes {
			continue
		}
		if ok && keep(mailbox, unique) {
			s.mu.Lock()
			s.left[delivered{mailbox, unique}] = e.Name()
			s.mu.Unlock()
			continue
		}
		if err := s.fs.Remove(filepath.Join(tmp, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
