package config

import (
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

// Scan says who looks into messages: for viruses, which the law asks for (DPR
// 68/2005 art. 12, RFC 6109 §5.4), and for spam in ordinary mail.
type Scan struct {
	Clamd           string   `toml:"clamd" doc:"clamd, which looks for viruses: \"host:port\", or the path of its local socket; empty = NO message is scanned, and status says so"`
	Concurrency     int      `toml:"concurrency" range:"1..1000" doc:"Messages scanned at once; not above clamd's MaxThreads"`
	Timeout         Duration `toml:"timeout" range:"1s..10m" doc:"Longest time for one message"`
	OnFailure       string   `toml:"on_failure" oneof:"defer|pass" doc:"When clamd does not answer: defer = the message is put off with 451; pass = it is let in unscanned, and its record says so"`
	MaxSignatureAge Duration `toml:"max_signature_age" range:"1h..8784h" doc:"status and the log warn of virus signatures that are older"`
	Rspamd          string   `toml:"rspamd" doc:"URL of rspamd, which scores ordinary mail, such as \"http://127.0.0.1:11333\"; empty = it is not scored. Certified mail never is"`
	SpamScore       int      `toml:"spam_score" range:"1..1000" doc:"Ordinary mail with this score or more is refused with 554, for mailboxes without a threshold of their own (scripta account spam)"`
}

// What happens to a message that could not be scanned for viruses.
const (
	ScanDefer = "defer"
	ScanPass  = "pass"
)

func defaultScan() Scan {
	return Scan{Concurrency: 8, Timeout: Duration{Duration: 2 * time.Minute}, OnFailure: ScanDefer, MaxSignatureAge: Duration{Duration: 72 * time.Hour}, SpamScore: 15}
}

func (c *Config) checkScan(wrong func(key, problem, fix string)) {
	if at := c.Scan.Clamd; at != "" {
		_, port, err := net.SplitHostPort(at)
		if !filepath.IsAbs(at) && (err != nil || port == "" || strings.ContainsAny(at, " /")) {
			wrong("scan.clamd", "not an address", `write "host:port", such as "127.0.0.1:3310", or the path of a socket, such as "/run/clamav/clamd.ctl", or ""`)
		}
	}
	if at := c.Scan.Rspamd; at != "" {
		u, err := url.Parse(at)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" {
			wrong("scan.rspamd", "not the URL of a server", `write "http://host:port", such as "http://127.0.0.1:11333", or ""`)
		}
	}
}
