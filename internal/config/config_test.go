package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func quick() Config { return Quickstart("pec.example.test", "Esempio S.p.A.", "0123abcd", 10000) }

// The written file parses back to what was written, also where TOML quotes.
func TestWriteParsesBack(t *testing.T) {
	t.Parallel()
	odd := quick()
	odd.Provider = `Società "Prova" \ & C. — 邮件`
	odd.Listen.PortBase = 0
	odd.Listen.HTTPS = "[::1]:8443"
	odd.Listen.TSA = Closed
	odd.TSA.URL, odd.TSA.User, odd.TSA.PasswordFile = "https://tsa.example.test/tsr?x=1", `a"b`, "keys/tsa.password"
	odd.TSA.Interval = Duration{Duration: 90 * time.Minute}
	odd.Clock.Servers = []string{"127.0.0.1:11123", "ntp1.inrim.it", "[::1]:123"}
	odd.Calendar.PatronDay = "02-29"
	odd.Archive.Dir = "/srv/worm"
	odd.Relay.Routes, odd.Relay.Resolver, odd.Relay.DANE = []string{"b.test=[::1]:25", "*=mx.c.test:2525"}, "127.0.0.1:53", true
	odd.Log.Engine = EngineTrillian
	odd.Cluster = Cluster{Address: "[::1]:8090", TLS: "off", TLSCA: "keys/ca.pem", Database: "postgres:///trillian?host=/run/postgresql&passfile=/x",
		Node: "nodo uno", Lease: Duration{Duration: time.Minute}, Patience: Duration{Duration: time.Second}}
	odd.Scan.Clamd, odd.Scan.Rspamd, odd.Scan.OnFailure = "/run/clamav/clamd.ctl", "https://[::1]:11333/", ScanPass
	for name, c := range map[string]Config{"quickstart": quick(), "odd": odd} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "scripta.toml")
			if err := Write(path, c); err != nil {
				t.Fatal(err)
			}
			got, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, c) {
				t.Errorf("read back\n%+v\nwrote\n%+v", got, c)
			}
			if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v; want 0600", fi.Mode(), err)
			}
		})
	}
}

func TestWriteRefusesWhatLoadWould(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "scripta.toml")
	if err := Write(path, Default("pec.example.test", "P", 0)); err == nil {
		t.Error("wrote a configuration without log.id and tsa.url")
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused configuration left a file: %v", err)
	}
}

// Every key and table has exactly one line of comment over it, and every
// optional key names its default.
func TestEveryKeyIsExplained(t *testing.T) {
	t.Parallel()
	lines := strings.Split(string(Encode(quick())), "\n")
	keys := 0
	for i, line := range lines {
		name, _, isKey := strings.Cut(line, " = ")
		if strings.HasPrefix(line, "#") || !isKey && !strings.HasPrefix(line, "[") {
			continue
		}
		if i < 2 || !strings.HasPrefix(lines[i-1], "# ") || lines[i-2] != "" {
			t.Errorf("%q has not one line of comment", line)
		}
		if isKey {
			keys++
			if needs := name == "domain" || name == "provider" || name == "id"; strings.Contains(lines[i-1], "Default: ") == needs {
				t.Errorf("%q: the comment %q does not fit", name, lines[i-1])
			}
		}
	}
	c, want := quick(), 0
	walk(&c, func(f field) {
		if f.table {
			return
		}
		want++
		if f.doc == "" || f.name == "" {
			t.Errorf("%s has no doc tag", f.key)
		}
		switch f.value.Interface().(type) {
		case int, int64, Duration:
			if f.min == "" || f.max == "" {
				t.Errorf("%s has no limits", f.key)
			}
		}
	})
	if keys != want {
		t.Errorf("%d keys in the file, %d in the struct", keys, want)
	}
}

// The smallest file takes the defaults of production.
func TestAbsentKeysAreSafe(t *testing.T) {
	t.Parallel()
	got, err := Parse("f", []byte("domain='a.test'\nprovider='P'\nlog.id='x'\ntsa.url='https://t.test'\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := Default("a.test", "P", DefaultPortBase)
	want.Log.ID, want.TSA.URL = "x", "https://t.test"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got.Clock.Policy != ClockRefuse || !got.TSA.RequireQualified || got.TSA.Embedded {
		t.Error("the defaults are not those of production")
	}
}

func TestErrorsSayWhereAndWhat(t *testing.T) {
	t.Parallel()
	const head = "domain = \"a.test\"\nprovider = \"P\"\nlog.id = \"x\"\ntsa.url = \"https://t.test\"\n" // 4 lines
	cases := map[string]struct {
		text string
		want []string // prefix ‖ "…" ‖ part
	}{
		"unknown key":         {head + "[mail]\nmax_recipient = 3\n", []string{"f.toml:6:1: mail.max_recipient: unknown key; … max_recipients,"}},
		"unknown section":     {head + "[male]\nx = 3\n", []string{"f.toml:5:2: male: unknown key; … archive, scrub, keys, calendar"}},
		"unknown inline key":  {head + "mail = { max_recipients = 3, limit = 2 }\n", []string{"f.toml:5:30: mail.limit: unknown key; … in [mail]"}},
		"text for a number":   {head + "[mail]\nmax_recipients = \"3\"\n", []string{"f.toml:6:18: mail.max_recipients: wrong type of value; … whole number from 1 to 10000"}},
		"inline wrong type":   {head + "mail = { max_recipients = true }\n", []string{"f.toml:5:27: mail.max_recipients: wrong type of value; … whole number"}},
		"number for a text":   {"domain = 3\n", []string{"f.toml:1:10: domain: wrong type of value; … in quotes"}},
		"number for duration": {head + "[mail]\nidle_timeout = 60\n", []string{`f.toml:6:1: mail.idle_timeout: "60" is not a duration; … such as "5m"`}},
		"empty duration":      {head + "[mail]\nidle_timeout = ''\n", []string{`f.toml:6:1: mail.idle_timeout: "" is not a duration; …`}},
		"section for a value": {head + "clock = 1\n", []string{"f.toml:5:9: clock: wrong type of value; … [clock] section"}},
		"text for a list":     {head + "clock.servers = 'ntp'\n", []string{"f.toml:5:17: clock.servers: wrong type of value; … list"}},
		"too large":           {head + "[mail]\n  max_connections = 100001\n", []string{"f.toml:6:3: mail.max_connections: 100001 is out of range; … 1 to 100000"}},
		"beyond int64":        {head + "[mail]\nmax_message_bytes = 99999999999999999999\n", []string{"f.toml:6:21: mail.max_message_bytes: wrong type of value; … whole number"}},
		"zero":                {head + "[mail]\nmax_connections = 0\n", []string{"f.toml:6:1: mail.max_connections: 0 is out of range; …"}},
		"law's second":        {head + "[clock]\nmax_offset = '1m'\n", []string{`f.toml:6:1: clock.max_offset: "1m" is out of range; … to "1s"`}},
		"policy":              {head + "clock.policy = 'ignore'\n", []string{`f.toml:5:1: clock.policy: "ignore" is out of range; … "refuse" or "mark"`}},
		"warn above max":      {head + "clock.warn_offset = '1s'\n", []string{"f.toml:5:1: clock.warn_offset: not below max_offset; …"}},
		"no servers":          {head + "clock.servers = []\n", []string{"f.toml:5:1: clock.servers: no server, …"}},
		"bad server":          {head + "clock.servers = ['a b']\n", []string{"f.toml:5:1: clock.servers: \"a b\" is not a server; …"}},
		"server port":         {head + "clock.servers = ['a:0']\n", []string{"f.toml:5:1: clock.servers: \"a:0\" is not a server; …"}},
		"incoming":            {head + "[incoming]\nsha1 = 'md5'\n", []string{`f.toml:6:1: incoming.sha1: "md5" is out of range; … "accept" or "refuse"`}},
		"scanner":             {head + "[scan]\nclamd = 'clamd'\n", []string{"f.toml:6:1: scan.clamd: not an address; … 127.0.0.1:3310"}},
		"scanner down":        {head + "scan.on_failure = 'ignore'\n", []string{`f.toml:5:1: scan.on_failure: "ignore" is out of range; … "defer" or "pass"`}},
		"rspamd":              {head + "scan.rspamd = '127.0.0.1:11333'\n", []string{"f.toml:5:1: scan.rspamd: not the URL of a server; … http://127.0.0.1:11333"}},
		"imaps":               {head + "[listen]\nimaps = ''\n", []string{`f.toml:6:1: listen.imaps: this release does not serve IMAP; … "off"`}},
		"pop3s":               {head + "[listen]\npop3s = '127.0.0.1:995'\n", []string{`f.toml:6:1: listen.pop3s: this release does not serve POP3; … "off"`}},
		"host":                {head + "[listen]\nhost = 'localhost'\n", []string{"f.toml:6:1: listen.host: not an IP address; …"}},
		"address":             {head + "[listen]\nhttps = '443'\n", []string{"f.toml:6:1: listen.https: not an address; … 127.0.0.1:10443"}},
		"address taken":       {head + "[listen]\nmetrics = '127.0.0.1:10443'\n", []string{"f.toml:6:1: listen.metrics: 127.0.0.1:10443 is taken by listen.https; …"}},
		"password in url":     {head[:strings.Index(head, "tsa")] + "tsa.url = 'https://u:p@t.test'\n", []string{"f.toml:4:1: tsa.url: a password must not stand in it; …"}},
		"password in clear":   {head[:strings.Index(head, "tsa")] + "tsa.url = 'http://t.test'\ntsa.user='u'\ntsa.password_file='p'\n", []string{"f.toml:4:1: tsa.url: the password would travel in the clear; …"}},
		"user alone":          {head + "tsa.user = 'u'\n", []string{"f.toml: tsa.password_file: user and password_file go together; …"}},
		"folder outside":      {head + "archive.dir = '../x'\n", []string{"f.toml:5:1: archive.dir: not a folder; …"}},
		"patron day":          {head + "calendar.patron_day = '02-30'\n", []string{"f.toml:5:1: calendar.patron_day: not a day; … MM-DD"}},
		"recipients":          {head + "mail.smtp_max_recipients = 500\n", []string{"f.toml:5:1: mail.smtp_max_recipients: not above max_recipients, … above 500"}},
		"timeouts":            {head + "mail.total_timeout = '1m'\n", []string{"f.toml:5:1: mail.total_timeout: shorter than idle_timeout; …"}},
		"limit below":         {head + "limits.recipients_per_day = 499\n", []string{"f.toml:5:1: limits.recipients_per_day: below mail.max_recipients, … at least 500"}},
		"exempt":              {head + "limits.exempt = ['192.0.2.1']\n", []string{`f.toml:5:1: limits.exempt: "192.0.2.1" is not a network; …`}},
		"route":               {head + "relay.routes = ['b.test=mx.b.test']\n", []string{`f.toml:5:1: relay.routes: "b.test=mx.b.test" is not a route; … "domain=host:port"`}},
		"relay delays":        {head + "relay.max_delay = '1s'\n", []string{`f.toml:5:1: relay.max_delay: shorter than first_delay; … "1m"`}},
		"relay name":          {head + "relay.hostname = 'a b'\n", []string{"f.toml:5:1: relay.hostname: not a host name; …"}},
		"relay resolver":      {head + "relay.resolver = 'localhost'\n", []string{"f.toml:5:1: relay.resolver: not an address; …"}},
		"DANE without proof":  {head + "relay.resolver = '192.0.2.1:53'\nrelay.dane = true\n", []string{"f.toml:6:1: relay.dane: whether DNSSEC proved an answer is the resolver's word, …"}},
		"twice":               {head + "domain = 'b.test'\n", []string{"f.toml:5:1: domain: … already defined; write it once"}},
		"not TOML":            {"domain = 'a.test\n", []string{"f.toml:1:17: … this is not TOML"}},
		"two at once":         {head + "mail.max_recipients = 0\nlog.checkpoint_interval = '0s'\n", []string{"f.toml:5:1: mail.max_recipients: …", "f.toml:6:1: log.checkpoint_interval: …"}},
		"empty": {"", []string{"f.toml: domain: no domain; …", "f.toml: provider: no provider's name; …", "f.toml: log.id: not a log id; …",
			"f.toml: tsa.url: no time-stamp authority; …"}},
		"cluster without anything": {head + "log.engine = 'trillian'\n", []string{"f.toml: cluster.address: not an address; …", "f.toml: cluster.database: no database for the lease; …"}},
		"cluster in the clear": {head + "log.engine = 'cross-check'\n[cluster]\naddress='db.test:8090'\ntls='off'\ndatabase='postgres://u@db.test/t'\n",
			[]string{`f.toml:8:1: cluster.tls: records would travel in the clear; … "on"`}},
		"cluster's password": {head + "log.engine = 'trillian'\n[cluster]\naddress='db.test:8090'\ndatabase='postgres://u:p@db.test/t'\n",
			[]string{"f.toml:8:1: cluster.database: a password must not stand in it; … passfile"}},
		"engine":                    {head + "log.engine = 'mysql'\n", []string{`f.toml:5:1: log.engine: "mysql" is out of range; … "cross-check"`}},
		"embedded is not qualified": {"domain='a.test'\nprovider='P'\nlog.id='x'\ntsa.embedded=true\n", []string{"f.toml: tsa.require_qualified: the embedded authority is never qualified; …"}},
		"embedded without address": {"domain='a.test'\nprovider='P'\nlog.id='x'\ntsa.embedded=true\ntsa.require_qualified=false\nlisten.tsa='off'\n",
			[]string{"f.toml:6:1: listen.tsa: the embedded authority has no address; …"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse("f.toml", []byte(tc.text))
			if err == nil {
				t.Fatal("accepted")
			}
			var ce *Error
			if !errors.As(err, &ce) {
				t.Errorf("%T is not an *Error", err)
			}
			got := strings.Split(err.Error(), "\n")
			if len(got) != len(tc.want) {
				t.Fatalf("%d errors, want %d:\n%v", len(got), len(tc.want), err)
			}
			for i, want := range tc.want {
				prefix, part, _ := strings.Cut(want, "…")
				part = strings.TrimSpace(part)
				if !strings.HasPrefix(got[i], strings.TrimSpace(prefix)) || !strings.Contains(got[i], part) {
					t.Errorf("got  %s\nwant %s", got[i], want)
				}
			}
		})
	}
}

func TestLoadNamesTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "absent.toml")
	if _, err := Load(path); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(path, make([]byte, maxFileBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("got %v", err)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	l := quick().Listen
	l.Metrics = Closed
	l.Submission = "[::1]:2587"
	want := Addresses{
		Submissions: "127.0.0.1:10465", Submission: "[::1]:2587", Incoming: "127.0.0.1:10025", HTTPS: "127.0.0.1:10443",
		TSA: "127.0.0.1:10318",
	}
	if got := l.Addresses(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	l = Listen{Host: "::1", Incoming: Closed}
	if got := l.Addresses().Submissions; got != "[::1]:465" {
		t.Errorf("real port: %s", got)
	}
}

func TestDerivedNames(t *testing.T) {
	t.Parallel()
	c := quick()
	if got := c.Origin(); got != "pec.example.test/scripta/0123abcd" {
		t.Error(got)
	}
	if got := c.ServiceAddress(); got != "posta-certificata@pec.example.test" {
		t.Error(got)
	}
	if got := c.TSAEndpoint(); got != "http://127.0.0.1:10318/" {
		t.Error(got)
	}
	c.TSA.URL = "https://t.test/x"
	if got := c.TSAEndpoint(); got != c.TSA.URL {
		t.Error(got)
	}
}

func TestCheckDomain(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 63)
	for d, ok := range map[string]bool{
		"pec.example.it": true, "xn--prv-9la.it": true, "1.example.it": true, "a-b.it": true, long + ".it": true,
		"": false, "localhost": false, "Pec.example.it": false, "pec..it": false, ".it": false, "pec.it.": false, "-a.it": false, "a-.it": false,
		"a_b.it": false, "a b.it": false, "pèc.it": false, "10.0.0.1": false, "a.b/c": false, "../x.it": false, long + "a.it": false, "a.it\n": false,
		strings.Repeat(long+".", 4) + "it": false,
	} {
		if err := CheckDomain(d); (err == nil) != ok {
			t.Errorf("%q: %v", d, err)
		}
	}
}

func TestCheckProvider(t *testing.T) {
	t.Parallel()
	for p, ok := range map[string]bool{
		"Esempio S.p.A.": true, "Società è": true, strings.Repeat("è", 64): true,
		"": false, "  ": false, " a": false, "a\nb": false, "a\x00": false, "\xff": false, strings.Repeat("è", 65): false,
	} {
		if err := CheckProvider(p); (err == nil) != ok {
			t.Errorf("%q: %v", p, err)
		}
	}
}

func TestDurationText(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		time.Hour: "1h", 90 * time.Minute: "1h30m", 10 * time.Minute: "10m", 250 * time.Millisecond: "250ms", 0: "0s",
		20 * time.Second: "20s", time.Hour + 10*time.Second: "1h0m10s", 10 * time.Hour: "10h",
	} {
		if got := (Duration{Duration: d}).String(); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
		var back Duration
		if err := back.UnmarshalText([]byte(want)); err != nil || back.Duration != d || back.bad {
			t.Errorf("%q reads as %v", want, back)
		}
	}
}

// What parses is written so that it parses to the same; nothing makes the
// parser panic, and every error has a text.
func FuzzParse(f *testing.F) {
	f.Add(Encode(quick()))
	f.Add([]byte("domain='a.test'\nprovider='P'\nlog={id='x'}\n[tsa]\nurl='https://t.test'\n[[mail]]\n"))
	f.Add([]byte("mail.\"max_recipients\" = {a.b = [{c=1}]}\nclock={servers=[1,\n'x']}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without a text")
			}
			return
		}
		back, err := Parse("f", Encode(c))
		if err != nil {
			t.Fatalf("what was written is refused: %v", err)
		}
		if len(c.Clock.Servers) == 0 && len(back.Clock.Servers) == 0 {
			c.Clock.Servers, back.Clock.Servers = nil, nil
		}
		if !reflect.DeepEqual(c, back) {
			t.Errorf("got  %+v\nwant %+v", back, c)
		}
	})
}
