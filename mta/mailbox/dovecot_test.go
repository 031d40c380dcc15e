package mailbox_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"scripta/mta/mailbox"
)

// doveadm runs Dovecot's tool on a Maildir with a quota in bytes. Dovecot refuses
// mail to root: as root it is run as nobody, who gets the Maildir.
func doveadm(t *testing.T, maildir string, quota int64, args ...string) string {
	t.Helper()
	program, err := exec.LookPath("doveadm")
	if err != nil {
		if os.Getenv("CI_STRICT") == "1" {
			t.Fatal("doveadm is not installed")
		}
		t.Skip("doveadm (Dovecot) is not installed")
	}
	uid, gid, home := os.Getuid(), os.Getgid(), passable(t)
	conf := filepath.Join(home, "dovecot.conf")
	root := uid == 0
	if root {
		uid, gid = 65534, 65534
		for _, dir := range []string{home, maildir} {
			err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				return os.Chown(name, uid, gid)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	text := fmt.Sprintf(`mail_location = maildir:%s
mail_plugins = quota
first_valid_uid = 0
first_valid_gid = 0
mail_uid = %d
mail_gid = %d
plugin {
  quota = maildir:User quota
  quota_rule = *:bytes=%d
}
`, maildir, uid, gid, quota)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, append([]string{"-c", conf}, args...)...)
	cmd.Env = append(os.Environ(), "USER=holder", "HOME="+home)
	if root {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil || complaints.Len() > 0 {
		t.Fatalf("doveadm %v: %v\n%s%s", args, err, out, &complaints)
	}
	return string(out)
}

// passable returns a folder through which others can pass.
func passable(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o711), os.Chmod(filepath.Dir(dir), 0o711)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestDovecotReadsOurMailbox(t *testing.T) {
	t.Parallel()
	const box, limit = "anna@pec.example.it", 1 << 20
	root := filepath.Join(passable(t), "mail")
	s := openStore(t, root, mailbox.Options{})
	create(t, s, box, limit)
	if err := errors.Join(os.Chmod(root, 0o711), os.Chmod(filepath.Join(root, "pec.example.it"), 0o711)); err != nil {
		t.Fatal(err)
	}
	used := 0
	for i := range 3 {
		p, err := s.Prepare(message(box, fmt.Sprintf("n%d", i), text(i)))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(p); err != nil {
			t.Fatal(err)
		}
		if err := s.Publish(p); err != nil {
			t.Fatal(err)
		}
		used += len(text(i))
	}
	dir, _ := s.Path(box)
	sizes, err := os.ReadFile(filepath.Join(dir, "maildirsize"))
	if err != nil {
		t.Fatal(err)
	}
	status := doveadm(t, dir, limit, "-f", "tab", "mailbox", "status", "messages vsize", "INBOX")
	if want := fmt.Sprintf("INBOX\t3\t%d", used); !strings.Contains(status, want) {
		t.Errorf("status %q, want %q", status, want)
	}
	quota := doveadm(t, dir, limit, "-f", "tab", "quota", "get")
	if want := "User quota\tMESSAGE\t3\t-"; !strings.Contains(quota, want) {
		t.Errorf("quota %q, want %q", quota, want)
	}
	after, err := os.ReadFile(filepath.Join(dir, "maildirsize"))
	if err != nil || string(after) != string(sizes) {
		t.Errorf("Dovecot recalculated %q to %q, %v", sizes, after, err)
	}
	for i, whole := range strings.Split(strings.TrimSuffix(doveadm(t, dir, limit, "-f", "flow", "fetch", "size.physical size.virtual", "ALL"), "\n"), "\n") {
		if want := fmt.Sprintf("size.physical=%d size.virtual=%[1]d", len(text(i))); strings.TrimSpace(whole) != want {
			t.Errorf("message %d: %q, want %q", i, whole, want)
		}
	}
	// What Dovecot deletes, it takes off; we read it so.
	doveadm(t, dir, limit, "expunge", "mailbox", "INBOX", "1")
	left := int64(used - len(text(0)))
	if u, err := s.Usage(box); err != nil || u != (mailbox.Usage{Bytes: left, Messages: 2, Limit: limit}) {
		t.Errorf("usage after Dovecot's expunge %+v, %v; want %d bytes", u, err, left)
	}
	// A quota that Dovecot has recalculated is understood.
	if err := os.Remove(filepath.Join(dir, "maildirsize")); err != nil {
		t.Fatal(err)
	}
	doveadm(t, dir, limit, "quota", "recalc")
	if b, err := os.ReadFile(filepath.Join(dir, "maildirsize")); err != nil || string(b) != fmt.Sprintf("%dS\n%d 2\n", limit, left) {
		t.Errorf("Dovecot's maildirsize %q, %v", b, err)
	}
	if u, err := s.Usage(box); err != nil || u.Bytes != left {
		t.Errorf("usage after Dovecot's recalculation %+v, %v", u, err)
	}
}

func TestDovecotChecksOurPasswords(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "accounts")
	a, err := mailbox.OpenAccounts(mailbox.AccountsOptions{File: name, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Add(context.Background(), "anna@pec.example.it", "p\u00e0ssw0rd", 0); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	out := doveadm(t, t.TempDir(), 0, "pw", "-p", "p\u00e0ssw0rd", "-t", strings.Split(string(b), ":")[1])
	if !strings.Contains(out, "(verified)") {
		t.Errorf("doveadm says %q", out)
	}
}
