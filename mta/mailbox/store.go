package mailbox

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"scripta/internal/durable"
)

var (
	// ErrNoMailbox is returned for a mailbox that does not exist.
	ErrNoMailbox = errors.New("no such mailbox")
	// ErrMailboxFull is returned when a message would exceed the quota.
	ErrMailboxFull = errors.New("mailbox full")
)

// folders of a Maildir, in the order in which Create makes them: new is last, so
// that its presence tells of a whole mailbox.
var folders = [...]string{"tmp", "cur", "new"}

// Options of a Store. Only Host is required.
type Options struct {
	// Host is the last part of file names, by convention the host that
	// delivers. It is the same after a restart: a container's random name
	// would not do, the provider's domain does.
	Host string
	// FS is the file system; nil means the real one.
	FS durable.FS
	// FlushEach syncs every file and folder on its own even where one
	// syncfs(2) for all deliveries under way is possible, which is faster
	// (figures at durable.NewSyncFS), but waits for everything else that was
	// written to the same disk. A given FS implies it.
	FlushEach bool
	// Now is the clock that ages maildirsize; nil means time.Now.
	Now func() time.Time
	// Quota gives the limit in bytes of a mailbox, 0 for none, and whether
	// it knows the mailbox: Accounts.Quota. Without it, or for a mailbox that
	// it does not know, the limit in maildirsize holds, which Create wrote.
	Quota func(mailbox string) (limit int64, ok bool)
}

// Store is a tree of Maildirs. All methods may be called concurrently; two
// deliveries into one mailbox under one name must not overlap. Mailboxes are
// named by their address, in any case.
type Store struct {
	root  string
	host  string
	fs    durable.FS
	now   func() time.Time
	quota func(string) (int64, bool)

	group   *durable.Group // one syncfs for all; nil: each file and folder on its own
	closeFS func() error

	writers sync.Pool // of *bufio.Writer

	mu      sync.Mutex                                 // guards what follows
	left    map[delivered]string                       // file names that CleanTmp kept
	unclean map[string]func(mailbox, name string) bool // mailboxes that CleanTmp could not read, with its keep

	// cleaning is held for all of a mailbox's late cleaning; see cleaned.
	cleaning sync.Mutex

	// usage keeps this process from appending to a maildirsize while it
	// recalculates it: held from before the folders are read until the new
	// file is in place, and for each append. One lock for many mailboxes.
	usage [64]sync.Mutex
}

// Open opens the store in the folder root and creates it (0700) if absent.
func Open(root string, o Options) (*Store, error) {
	if !validDomain(o.Host) && !validName(o.Host) {
		return nil, fmt.Errorf("couldn't open the mailboxes: %q is no host name", o.Host)
	}
	s := &Store{
		root: filepath.Clean(root), host: o.Host, fs: o.FS, now: o.Now, quota: o.Quota,
		closeFS: func() error { return nil }, left: map[delivered]string{}, unclean: map[string]func(mailbox, name string) bool{},
		writers: sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 1<<15) }},
	}
	if s.now == nil {
		s.now = time.Now
	}
	real := s.fs == nil
	if real {
		s.fs = durable.OS
	}
	if err := s.fs.MkdirAll(s.root, 0o700); err != nil {
		return nil, fmt.Errorf("couldn't create the folder of mailboxes: %w", err)
	}
	if err := s.fs.SyncDir(filepath.Dir(s.root)); err != nil {
		return nil, fmt.Errorf("couldn't create the folder of mailboxes: %w", err)
	}
	if real && !o.FlushEach {
		group, closeFS, err := durable.NewSyncFS(s.root)
		switch {
		case err == nil:
			s.group, s.closeFS = group, closeFS
		case !errors.Is(err, errors.ErrUnsupported):
			return nil, err
		}
	}
	return s, nil
}

// Close releases what the store holds. No other method may be running.
func (s *Store) Close() error { return s.closeFS() }

// Path returns the Maildir of a mailbox, which need not exist: what its server
// opens. It returns ErrAddress for what can be no mailbox.
func (s *Store) Path(mailbox string) (string, error) {
	local, domain, err := split(mailbox)
	if err != nil {
		return "", err
	}
	return filepath.Join(s.root, domain, local), nil
}

// Exists tells whether a mailbox exists. It answers true when the disk does not
// say: a disk that fails must not turn into "no such user", which is final;
// Prepare will meet the error.
func (s *Store) Exists(mailbox string) bool {
	dir, err := s.Path(mailbox)
	if err != nil {
		return false
	}
	for _, sub := range folders {
		if _, err := s.fs.Stat(filepath.Join(dir, sub)); errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}

// Create makes a mailbox durably, with a quota in bytes (0 for none). If it
// exists, or was half made when a crash came, Create completes it and sets its
// quota. It does not ask whether the local part is reserved: the provider's own
// mailboxes are made like the others.
func (s *Store) Create(mailbox string, quota int64) error {
	fail := func(err error) error { return fmt.Errorf("couldn't create mailbox %s: %w", mailbox, err) }
	dir, err := s.Path(mailbox)
	if err != nil {
		return fail(err)
	}
	if quota < 0 {
		return fail(fmt.Errorf("quota of %d bytes", quota))
	}
	for _, sub := range folders {
		if err := s.fs.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return fail(err)
		}
	}
	if err := s.setQuota(mailbox, dir, quota); err != nil {
		return fail(err)
	}
	for _, d := range []string{dir, filepath.Dir(dir), s.root} {
		if err := s.fs.SyncDir(d); err != nil {
			return fail(err)
		}
	}
	return nil
}

// noBox turns the absence of a file into ErrNoMailbox.
func noBox(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNoMailbox
	}
	return err
}
