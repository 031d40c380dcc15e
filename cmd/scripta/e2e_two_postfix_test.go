package main

import (
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ordinaryDomain is served by a Postfix of the test: no provider, nothing
// certified.
const ordinaryDomain = "posta.example"

// postfix is a mail server of the ordinary world, in a folder of its own. It
// takes mail for ordinaryDomain without further ado, and relays to the routes
// that it was given.
type postfix struct {
	dir     string
	address string // host:port of its SMTP
}

// master.cf without a service that a test needs not. Nothing is chrooted: there is
// no installation to prepare the jail.
const postfixServices = `%s inet n - n - 100 smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
tlsmgr unix - - n 1000? 1 tlsmgr
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`

// startPostfix runs a Postfix that delivers to the boxes of these local parts.
// A message to "rimbalzo" is taken and then bounced; any other address of the
// domain is refused at RCPT. routes are domain to host:port.
func startPostfix(t *testing.T, boxes []string, routes map[string]string) *postfix {
	t.Helper()
	need(t, "postfix")
	if os.Getuid() != 0 {
		missing(t, "postfix wants to be started by root")
	}
	// Not t.TempDir, whose parent only root may enter.
	dir := must[string](t)(os.MkdirTemp("", "scripta-postfix-"))
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	x := &postfix{dir: dir, address: l.Addr().String()}
	_ = l.Close()

	var maps, transports []string
	for _, b := range boxes {
		maps = append(maps, fmt.Sprintf("{%s@%s = %s/}", b, ordinaryDomain, b))
	}
	transports = append(transports, "{chiusa.example = error:5.2.1 casella chiusa}")
	for domain, route := range routes {
		host, port, err := net.SplitHostPort(route)
		if err != nil {
			t.Fatal(err)
		}
		transports = append(transports, fmt.Sprintf("{%s = smtp:[%s]:%s}", domain, host, port))
	}
	main := strings.Join([]string{
		"compatibility_level = 3.6",
		"queue_directory = " + filepath.Join(dir, "queue"),
		"data_directory = " + filepath.Join(dir, "data"),
		"maillog_file = " + x.log(),
		"maillog_file_prefixes = " + dir,
		"command_directory = /usr/sbin", "daemon_directory = /usr/lib/postfix/sbin", "mail_owner = postfix", "setgid_group = postdrop",
		"inet_interfaces = 127.0.0.1", "inet_protocols = ipv4", "mynetworks = 127.0.0.0/8",
		"myhostname = mx." + ordinaryDomain, "mydestination =", "relayhost =", "local_recipient_maps =", "alias_maps =", "alias_database =",
		"virtual_mailbox_domains = " + ordinaryDomain,
		"virtual_mailbox_base = " + filepath.Join(dir, "boxes"),
		"virtual_mailbox_maps = inline:{ " + strings.Join(maps, ", ") + " }",
		"virtual_minimum_uid = 1", "virtual_uid_maps = static:" + postfixID(t, "-u"), "virtual_gid_maps = static:" + postfixID(t, "-g"),
		fmt.Sprintf("virtual_alias_maps = inline:{ {rimbalzo@%s = rimbalzo@chiusa.example} }", ordinaryDomain),
		"transport_maps = inline:{ " + strings.Join(transports, ", ") + " }",
		"smtp_tls_security_level = may", "smtp_dns_support_level = disabled", "smtp_host_lookup = native",
		"smtpd_recipient_restrictions = permit_mynetworks, reject", "smtpd_peername_lookup = no",
		"message_size_limit = 0", "mailbox_size_limit = 0", "virtual_mailbox_limit = 0",
		"minimal_backoff_time = 1s", "maximal_backoff_time = 2s", "queue_run_delay = 1s",
	}, "\n") + "\n"
	for _, d := range []string{"", "queue", "data", "boxes"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(postfixID(t, "-u"))
	gid, _ := strconv.Atoi(postfixID(t, "-g"))
	for _, d := range []string{"data", "boxes"} {
		if err := os.Chown(filepath.Join(dir, d), uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"main.cf": main, "master.cf": fmt.Sprintf(postfixServices, x.address)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := run(t, "postfix", "-c", dir, "check"); err != nil {
		t.Fatalf("postfix check: %v\n%s", err, out)
	}
	master := exec.Command("/usr/lib/postfix/sbin/master", "-c", dir, "-d")
	master.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	master.Env = append(os.Environ(), "MAIL_CONFIG="+dir)
	if err := master.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = master.Process.Signal(syscall.SIGTERM)
		_ = master.Wait()
		// Its services are of its group.
		_ = syscall.Kill(-master.Process.Pid, syscall.SIGKILL)
		if t.Failed() {
			t.Logf("Postfix's log ends:\n%s", x.logged())
		}
	})
	eventually(t, patience, "Postfix listens", func() bool {
		c, err := net.DialTimeout("tcp", x.address, time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return x
}

func postfixID(t *testing.T, flag string) string {
	out, err := run(t, "id", flag, "postfix")
	if err != nil {
		t.Fatalf("no user postfix: %v", err)
	}
	return strings.TrimSpace(out)
}

func (x *postfix) log() string { return filepath.Join(x.dir, "postfix.log") }

func (x *postfix) logged() string {
	b, err := os.ReadFile(x.log())
	if err != nil {
		return err.Error()
	}
	var all []string
	for line := range strings.Lines(string(b)) {
		if !strings.Contains(line, "postfix-script") { // of its start
			all = append(all, line)
		}
	}
	return strings.Join(all[max(0, len(all)-60):], "")
}

// box returns the messages in a mailbox.
func (x *postfix) box(t *testing.T, local string) (all []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(x.dir, "boxes", local, "new", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(b))
	}
	return all
}

// one waits for the message in a mailbox that holds a text, and checks that it is
// the only one.
func (x *postfix) one(t *testing.T, local, text string) (found string) {
	t.Helper()
	n := 0
	eventually(t, waitMail, text+" in the ordinary mailbox of "+local, func() bool {
		n = 0
		for _, m := range x.box(t, local) {
			if strings.Contains(m, text) {
				found = m
				n++
			}
		}
		return n > 0
	})
	if n > 1 {
		t.Errorf("%d messages hold %q in the ordinary mailbox of %s", n, text, local)
	}
	return found
}

// dialPlain connects to a mail server's port 25 as another server does, and
// greets.
func dialPlain(address string) (*client, error) {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	c := &client{Conn: textproto.NewConn(conn), conn: conn}
	if _, err := c.answer(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if err := c.expect(250, "EHLO mx."+ordinaryDomain); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// The ordinary world itself works: what the other tests rely on.
func TestPostfix(t *testing.T) {
	t.Parallel()
	x := startPostfix(t, []string{"olga"}, nil)
	c := must[*client](t)(dialPlain(x.address))
	defer c.Close()
	l := letter{from: "olga@" + ordinaryDomain, to: []string{"olga@" + ordinaryDomain}, subject: "Prova"}
	if err := c.submit(l.from, l.to, l.String()); err != nil {
		t.Fatal(err)
	}
	x.one(t, "olga", "Subject: Prova")
	l.to, l.subject = []string{"rimbalzo@" + ordinaryDomain}, "Torna"
	if err := c.submit(l.from, l.to, l.String()); err != nil {
		t.Fatal(err)
	}
	if bounce := x.one(t, "olga", "Subject: Torna"); !strings.Contains(bounce, "casella chiusa") {
		t.Errorf("the bounce does not say why:\n%s", bounce)
	}
	err := c.submit(l.from, []string{"nessuno@" + ordinaryDomain}, l.String())
	if !strings.HasPrefix(refusal(err), "550 5.1.1") {
		t.Errorf("an unknown mailbox: %v", err)
	}
}
