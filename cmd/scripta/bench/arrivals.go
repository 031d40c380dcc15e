package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// arrivals are when the two receipts of each message appeared in its sender's
// mailbox, by the message's own Message-ID.
//
// The time is the change time of the file: a receipt appears by a rename, which
// sets it. So nothing has to be watched during the measurement.
type arrivals struct{ acceptance, delivery map[string]time.Time }

// countReceipts counts what is in the mailboxes of the first users.
func (p *provider) countReceipts(senders int) (n int, err error) {
	for i := range senders {
		entries, err := os.ReadDir(p.newMail(i))
		if err != nil {
			return 0, err
		}
		n += len(entries)
	}
	return n, nil
}

func (p *provider) newMail(i int) string {
	return filepath.Join(p.dir.Mail(), benchDomain, local(i), "new")
}

// receipts reads the mailboxes of the first users.
func (p *provider) receipts(senders int) (*arrivals, error) {
	a := &arrivals{map[string]time.Time{}, map[string]time.Time{}}
	for i := range senders {
		entries, err := os.ReadDir(p.newMail(i))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if err := a.read(filepath.Join(p.newMail(i), e.Name())); err != nil {
				return nil, err
			}
		}
	}
	return a, nil
}

// read looks at one receipt's header.
func (a *arrivals) read(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("this system tells no change time of files")
	}
	appeared := time.Unix(st.Ctim.Unix())
	var kind, about string
	for r := bufio.NewReader(f); kind == "" || about == ""; {
		line, err := r.ReadString('\n')
		field, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(field) {
		case "x-ricevuta":
			kind = strings.TrimSpace(value)
		case "x-riferimento-message-id":
			about = strings.TrimSpace(value)
		}
		if err == io.EOF || line == "\r\n" {
			break
		} else if err != nil {
			return err
		}
	}
	switch kind {
	case "accettazione":
		a.acceptance[about] = appeared
	case "avvenuta-consegna":
		a.delivery[about] = appeared
	default:
		return fmt.Errorf("a message of kind %q, about %q, is in a sender's mailbox", kind, about)
	}
	return nil
}
