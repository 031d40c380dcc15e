package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// required says whether the file must hold the key.
func required(key string) bool {
	return key == "domain" || key == "provider" || key == "log.id"
}

// Check returns every rule that c breaks, joined, each an [*Error] without a
// place in a file.
func (c *Config) Check() error {
	var errs []error
	wrong := func(key, problem, fix string) {
		errs = append(errs, &Error{Key: key, Problem: problem, Fix: fix})
	}
	walk(c, func(f field) {
		if f.outOfRange() {
			problem := f.literal() + " is out of range"
			if d, ok := f.value.Interface().(Duration); ok && d.bad {
				problem = f.literal() + " is not a duration"
			}
			wrong(f.key, problem, f.expected())
		}
	})
	if err := CheckDomain(c.Domain); err != nil {
		wrong("domain", err.Error(), `write the certified domain, such as "pec.example.it"`)
	}
	if err := CheckProvider(c.Provider); err != nil {
		wrong("provider", err.Error(), `write the provider's name, such as "Esempio S.p.A."`)
	}
	if !logID(c.Log.ID) {
		wrong("log.id", "not a log id", "write back the id that init chose (the last part of the name in public/log.vkey)")
	}
	c.checkListen(wrong)
	c.checkMail(wrong)
	c.checkIndex(wrong)
	c.checkLimits(wrong)
	c.checkIncoming(wrong)
	c.checkRelay(wrong)
	c.checkScan(wrong)
	c.checkClock(wrong)
	c.checkTSA(wrong)
	c.checkCluster(wrong)
	c.checkWitness(wrong)
	if c.Archive.Dir == "" || !safePath(c.Archive.Dir) {
		wrong("archive.dir", "not a folder", `write a folder, such as "archive"`)
	}
	if d := c.Calendar.PatronDay; d != "" {
		// A leap year, so that 29 February is a day.
		if _, err := time.Parse("2006-01-02", "2024-"+d); err != nil {
			wrong("calendar.patron_day", "not a day", `write month and day as "MM-DD", such as "06-29", or ""`)
		}
	}
	return errors.Join(errs...)
}

func (c *Config) checkListen(wrong func(key, problem, fix string)) {
	if _, err := netip.ParseAddr(c.Listen.Host); err != nil {
		wrong("listen.host", "not an IP address", `write an IP address, such as "127.0.0.1", or "0.0.0.0" for all`)
	}
	for _, s := range []struct{ key, setting, problem string }{
		{"listen.imaps", c.Listen.IMAPS, "this release does not serve IMAP"},
		{"listen.pop3s", c.Listen.POP3S, "this release does not serve POP3"},
	} {
		if s.setting != Closed {
			wrong(s.key, s.problem, `write "off"`)
		}
	}
	addresses := c.Listen.Addresses()
	taken := make(map[string]string)
	for _, s := range services() {
		a := *s.address(&addresses)
		if a == "" {
			continue
		}
		if own := s.setting(&c.Listen); own != "" && !hostPort(own) {
			wrong(s.key, "not an address", fmt.Sprintf(`write an IP address and a port, such as "127.0.0.1:%d", or "off", or "" for the default`, DefaultPortBase+s.port))
			continue
		}
		if other := taken[a]; other != "" && !strings.HasSuffix(a, ":0") {
			wrong(s.key, a+" is taken by "+other, "give each service an address of its own")
		}
		taken[a] = s.key
	}
}

func (c *Config) checkMail(wrong func(key, problem, fix string)) {
	m := &c.Mail
	if m.SMTPMaxRecipients <= m.MaxRecipients {
		wrong("mail.smtp_max_recipients", "not above max_recipients, so that a message would be split instead of refused whole",
			fmt.Sprintf("write a number above %d", m.MaxRecipients))
	}
	if m.TotalTimeout.Duration < m.IdleTimeout.Duration {
		wrong("mail.total_timeout", "shorter than idle_timeout", fmt.Sprintf("write at least %q", m.IdleTimeout))
	}
}

func (c *Config) checkClock(wrong func(key, problem, fix string)) {
	k := &c.Clock
	if k.WarnOffset.Duration >= k.MaxOffset.Duration {
		wrong("clock.warn_offset", "not below max_offset", fmt.Sprintf("write a duration below %q", k.MaxOffset))
	}
	if len(k.Servers) == 0 && k.Policy != ClockMark {
		wrong("clock.servers", "no server, so that the time would never be traceable", `write at least one server, or policy = "mark"`)
	}
	for _, s := range k.Servers {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			host, port = s, "123"
		}
		_, notIP := netip.ParseAddr(host)
		if p, err := strconv.ParseUint(port, 10, 16); err != nil || p == 0 || notIP != nil && !hostname(host) {
			wrong("clock.servers", quote(s)+" is not a server", `write host or host:port, such as "ntp1.inrim.it"`)
		}
	}
}

func (c *Config) checkTSA(wrong func(key, problem, fix string)) {
	t := &c.TSA
	if t.URL == "" {
		switch {
		case !t.Embedded:
			wrong("tsa.url", "no time-stamp authority", "write the authority's URL, or embedded = true for tests")
		case t.RequireQualified:
			wrong("tsa.require_qualified", "the embedded authority is never qualified", "write false, or the URL of a qualified authority")
		case c.Listen.TSA == Closed:
			wrong("listen.tsa", "the embedded authority has no address", "write an address, or the URL of another authority in tsa.url")
		}
	} else {
		u, err := url.Parse(t.URL)
		switch {
		case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
			wrong("tsa.url", "not a URL", `write one such as "https://tsa.example.it/tsr"`)
		case u.User != nil:
			wrong("tsa.url", "a password must not stand in it", "write user and password_file")
		case t.User != "" && u.Scheme != "https" && !loopback(u.Hostname()):
			wrong("tsa.url", "the password would travel in the clear", "write an https:// URL")
		}
	}
	if (t.User == "") != (t.PasswordFile == "") {
		wrong("tsa.password_file", "user and password_file go together", "write both or neither")
	}
	if !safePath(t.PasswordFile) {
		wrong("tsa.password_file", "not a file", `write a file, such as "keys/tsa.password"`)
	}
}

func (c *Config) checkCluster(wrong func(key, problem, fix string)) {
	k := &c.Cluster
	if !safePath(k.TLSCA) {
		wrong("cluster.tls_ca", "not a file", `write a file, such as "keys/cluster-ca.pem"`)
	}
	if len(k.Node) > 200 || strings.ContainsFunc(k.Node, func(r rune) bool { return !unicode.IsPrint(r) }) {
		wrong("cluster.node", "not a name", `write this machine's name, or ""`)
	}
	if c.Log.Engine != EngineTrillian && c.Log.Engine != EngineCrossCheck {
		return
	}
	host, port, err := net.SplitHostPort(k.Address)
	_, notIP := netip.ParseAddr(host)
	if p, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || p == 0 || notIP != nil && !hostname(host) {
		wrong("cluster.address", "not an address", `write host:port of trillian_log_server, such as "log.example.it:8090"`)
	} else if k.TLS == "off" && !loopback(host) {
		wrong("cluster.tls", "records would travel in the clear", `write "on"`)
	}
	switch u, err := url.Parse(k.Database); {
	case k.Database == "":
		wrong("cluster.database", "no database for the lease", `write a URL such as "postgres://scripta@db.example.it/trillian?sslmode=verify-full"`)
	case err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql":
		wrong("cluster.database", "not a URL of PostgreSQL", `write one such as "postgres://scripta@db.example.it/trillian?sslmode=verify-full"`)
	default:
		if _, has := u.User.Password(); has || u.Query().Has("password") {
			wrong("cluster.database", "a password must not stand in it", "write it into a file of mode 0600 (libpq's .pgpass) and add passfile=/path")
		}
	}
}

// CheckDomain returns why d cannot be a certified domain: at least two LDH
// labels (RFC 1123 §2.1) in lower case, at most 253 bytes, the last not a
// number. Other scripts are written as A-labels (xn--…).
func CheckDomain(d string) error {
	switch {
	case d == "":
		return errors.New("no domain")
	case d != strings.ToLower(d):
		return errors.New("the domain is not in lower case")
	case len(d) > 253:
		return errors.New("the domain is longer than 253 bytes")
	case !hostname(d):
		return errors.New("the domain is not made of letters, digits and hyphens between dots")
	case !strings.Contains(d, "."):
		return errors.New("the domain has only one part")
	}
	if last := d[strings.LastIndexByte(d, '.')+1:]; strings.Trim(last, "0123456789") == "" {
		return errors.New("the domain ends in a number")
	}
	return nil
}

// CheckProvider returns why p cannot be a provider's name. It stands in the
// organization of certificates, at most 64 characters (RFC 5280, appendix A),
// and in one line of the index of providers.
func CheckProvider(p string) error {
	switch {
	case strings.TrimSpace(p) == "":
		return errors.New("no provider's name")
	case p != strings.TrimSpace(p):
		return errors.New("the provider's name begins or ends with a space")
	case !utf8.ValidString(p):
		return errors.New("the provider's name is not UTF-8")
	case utf8.RuneCountInString(p) > 64:
		return errors.New("the provider's name is longer than 64 characters")
	case strings.ContainsFunc(p, func(r rune) bool { return !unicode.IsPrint(r) }):
		return errors.New("the provider's name holds a character that cannot be printed")
	}
	return nil
}

// hostname says whether s is LDH labels between dots.
func hostname(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range []byte(label) {
			if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' {
				return false
			}
		}
	}
	return true
}

// logID accepts 1 to 32 lower-case letters and digits: it is part of a note
// key's name and of a URL.
func logID(s string) bool {
	return s != "" && len(s) <= 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// hostPort says whether s is IP:port; port 0 lets the system choose.
func hostPort(s string) bool {
	_, err := netip.ParseAddrPort(s)
	return err == nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// safePath refuses what would leave the folder by mistake; an absolute path
// is a decision.
func safePath(p string) bool {
	return !strings.ContainsRune(p, 0) && (filepath.IsAbs(p) || p == "" || filepath.IsLocal(p))
}
