package relay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// needProgram skips a test whose program is not installed, but not in CI.
func needProgram(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI_STRICT") != "" {
				t.Fatalf("%s is not installed (Debian package postfix); .ci/run installs it", name)
			}
			t.Skipf("%s is not installed (Debian package postfix)", name)
		}
	}
}

// freePort is a loopback port that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// answers waits until a server greets.
func answers(t *testing.T, address string, ended <-chan error, log func() string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		select {
		case err := <-ended:
			t.Fatalf("the server ended: %v\n%s", err, log())
		default:
		}
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			b := make([]byte, 4)
			_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
			_, err = io.ReadFull(c, b)
			c.Close()
			if err == nil && b[0] >= '2' {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("no server at %s\n%s", address, log())
}

// sink runs Postfix's smtp-sink, which keeps nothing and fails as its flags say. It returns its address and a function
// that stops it, before it is started again at the same address.
func sink(t *testing.T, address string, flags ...string) (stop func()) {
	t.Helper()
	needProgram(t, "smtp-sink")
	var out bytes.Buffer
	cmd := exec.Command("smtp-sink", append(flags, address, "100")...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if os.Getuid() == 0 {
		cmd.Args = append([]string{"smtp-sink", "-u", "postfix"}, cmd.Args[1:]...)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = func() { _ = cmd.Process.Kill() }
	t.Cleanup(stop)
	answers(t, address, ended, func() string { return "" })
	return stop
}

// postfix runs a Postfix of its own, below a temporary folder, that keeps what it gets in a Maildir of the user. It
// returns its address and the folder with the messages.
func postfix(t *testing.T) (address, maildir string) {
	t.Helper()
	needProgram(t, "postfix", "postconf")
	if os.Getuid() != 0 {
		if os.Getenv("CI_STRICT") != "" {
			t.Fatal("Postfix starts as root only")
		}
		t.Skip("Postfix starts as root only")
	}
	// Postfix's own users must reach what is below it, which they cannot in t.TempDir() of some machines; and its sockets
	// have short names only.
	dir, err := os.MkdirTemp("", "pf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	address = freePort(t)
	_, port, _ := net.SplitHostPort(address)
	config, queue, data, mail := filepath.Join(dir, "etc"), filepath.Join(dir, "queue"), filepath.Join(dir, "data"), filepath.Join(dir, "mail")
	run("chmod", "755", dir)
	for _, d := range []string{config, queue, data, mail} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run("chown", "postfix", data)
	run("chown", "nobody", mail)
	master, err := os.ReadFile("/usr/share/postfix/master.cf.dist")
	if err != nil {
		master = []byte(run("postconf", "-M"))
	}
	var services strings.Builder
	for line := range strings.Lines(string(master)) {
		if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "smtp      inet") {
			services.WriteString(line)
		}
	}
	fmt.Fprintf(&services, "\n127.0.0.1:%s inet n - n - - smtpd\n", port)
	log := filepath.Join(dir, "log")
	main := strings.Join([]string{
		"compatibility_level = 3.6", "queue_directory = " + queue, "data_directory = " + data, "maillog_file = " + log, "maillog_file_prefixes = " + dir,
		"inet_interfaces = 127.0.0.1", "inet_protocols = ipv4", "myhostname = peer.ordinary.example", "mydestination =", "mynetworks =",
		"alias_maps =", "alias_database =", "local_recipient_maps =", "smtpd_client_restrictions =", "smtpd_relay_restrictions = reject_unauth_destination",
		"virtual_mailbox_domains = ordinary.example", "virtual_mailbox_base = " + mail, "virtual_mailbox_maps = inline:{anna@ordinary.example=anna/,full@ordinary.example=full/}",
		"virtual_uid_maps = static:65534", "virtual_gid_maps = static:65534", "virtual_minimum_uid = 100",
		"smtpd_recipient_restrictions = check_recipient_access inline:{{full@ordinary.example = 452 4.2.2 mailbox full}}, reject_unauth_destination",
		"smtpd_tls_security_level = may", "smtpd_tls_cert_file = " + filepath.Join(config, "cert.pem"), "smtpd_tls_key_file = " + filepath.Join(config, "key.pem"),
		"message_size_limit = 200000000", "virtual_mailbox_limit = 0", "default_process_limit = 50",
	}, "\n") + "\n"
	for name, content := range map[string]string{"main.cf": main, "master.cf": services.String()} {
		if err := os.WriteFile(filepath.Join(config, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run("postconf", "-c", config, "-F", "*/*/chroot=n")
	run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=peer.ordinary.example", "-days", "2",
		"-keyout", filepath.Join(config, "key.pem"), "-out", filepath.Join(config, "cert.pem"))
	run("postfix", "-c", config, "start")
	t.Cleanup(func() { run("postfix", "-c", config, "stop") })
	logged := func() string { b, _ := os.ReadFile(log); return string(b) }
	answers(t, address, nil, logged)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(logged())
		}
	})
	return address, mail
}

// arrived waits for the messages in a Postfix's mailbox.
func arrived(t *testing.T, maildir, user string, n int) [][]byte {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		files, _ := filepath.Glob(filepath.Join(maildir, user, "new", "*"))
		if len(files) < n && time.Now().Before(deadline) {
			continue
		}
		var all [][]byte
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, b)
		}
		if len(all) != n {
			t.Fatalf("%d messages arrived for %s, want %d", len(all), user, n)
		}
		return all
	}
}

// What leaves us is in the mailbox of a real server octet for octet, and its answers are told as they were given.
func TestPostfix(t *testing.T) {
	t.Parallel()
	address, maildir := postfix(t)
	tr := &Transport{Name: "me.example", Routes: Routes{"*": {address}}, Timeouts: quick()}
	message := "From: <mario@pec.example>\r\nSubject: prova\r\nMessage-ID: <1@pec.example>\r\nDate: Mon, 23 Nov 2026 15:00:00 +0100\r\nMIME-Version: 1.0\r\n\r\n.dot\r\n..two\r\n \r\n" + strings.Repeat("x", 900) + "\r\nperch\xc3\xa9\r\n"
	for _, certified := range []bool{true, false} {
		l := &Letter{ID: number(1), From: "mario@pec.example", Certified: certified, Recipients: []string{"anna@ordinary.example", "nobody@ordinary.example", "full@ordinary.example", "x@elsewhere.example"},
			Size: int64(len(message)), EightBit: true}
		r := tr.Send(t.Context(), l, open(message))
		if len(r.Answers) != 4 {
			t.Fatalf("%+v", r)
		}
		r.Answers[0].want(t, Taken, "2.0.0", "queued as")
		r.Answers[1].want(t, Refused, "5.1.1", "User unknown")
		r.Answers[2].want(t, Deferred, "4.2.2", "mailbox full")
		r.Answers[3].want(t, Refused, "5.7.1", "Relay access denied")
		if p := r.Answers[0].Peer; p.TLS != "TLS 1.3" || len(p.Certificate) != 32 {
			t.Errorf("the peer is %+v", p)
		}
	}
	for _, got := range arrived(t, maildir, "anna", 2) {
		// A Maildir has LF alone, and Postfix puts its own header lines in front.
		want := strings.ReplaceAll(message, "\r\n", "\n")
		if !bytes.HasSuffix(got, []byte(want)) {
			t.Errorf("arrived:\n%q", got)
		}
	}
}

// Servers that fail in every way that smtp-sink knows hold up nobody: all messages for others arrive, and theirs arrive
// when they are well again.
func TestSinksThatFail(t *testing.T) {
	t.Parallel()
	well, dead, slow, drops, later, never := freePort(t), freePort(t), freePort(t), freePort(t), freePort(t), freePort(t)
	sink(t, well)
	sink(t, slow, "-w", "60")            // says 250 to the message after a minute
	sink(t, drops, "-q", "data")         // hangs up
	stop := sink(t, later, "-r", "rcpt") // 450
	sink(t, never, "-f", "rcpt")         // 500
	tr := &Transport{Name: "me.example", Routes: Routes{"well.example": {well}, "dead.example": {dead}, "slow.example": {slow}, "drops.example": {drops},
		"later.example": {later}, "never.example": {never}}, Timeouts: quick()}
	d := newDesk(t, Options{Sessions: 12, PerDestination: 2, FirstDelay: 50 * time.Millisecond, MaxDelay: 200 * time.Millisecond})
	d.drain = 100 * time.Millisecond
	d.Queue.o.Send = tr.Send
	d.Queue.o.Open = open(text)
	n := 0
	for range 10 {
		for domain := range tr.Routes {
			l := letter(n, domain)
			l.Size = int64(len(text))
			d.Add(l)
			n++
		}
	}
	d.start()
	defer d.stop()
	count := func(domain string, s State) (k int) {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, answers := range d.results {
			for _, a := range answers {
				if strings.HasSuffix(a.Recipient, "@"+domain) && a.State == s {
					k++
				}
			}
		}
		return k
	}
	wait := func(what string, is func() bool) {
		t.Helper()
		for deadline := time.Now().Add(40 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not within 40 s: %s\n%+v", what, d.Overview(10))
			}
		}
	}
	wait("everything for the one that is well", func() bool { return count("well.example", Taken) == 10 })
	wait("everything for the one that refuses", func() bool { return count("never.example", Refused) == 10 })
	wait("attempts with the others", func() bool {
		return count("dead.example", Deferred) > 2 && count("drops.example", Deferred) > 10 && count("later.example", Deferred) > 10
	})
	if k := count("slow.example", Taken); k != 0 {
		t.Errorf("%d messages are through the slow one", k)
	}
	stop()
	wait("the restarted one is noticed to be gone", func() bool {
		for _, s := range d.Overview(10).Destinations {
			if s.Destination == "later.example" {
				return s.Failures > 0
			}
		}
		return false
	})
	sink(t, later)
	sink(t, dead)
	wait("everything for those that came back", func() bool { return count("later.example", Taken) == 10 && count("dead.example", Taken) == 10 })
	d.cancel() // the slow ones are cut off after the drain time; nobody waits for a minute here
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	select {
	case <-d.ended:
	case <-ctx.Done():
		t.Fatal("the queue does not end")
	}
	if left := d.Len(); left != 20 {
		t.Errorf("%d letters are left, want those for the slow one and the one that drops", left)
	}
}
