package config

import (
	"net/url"
	"time"
)

// DefaultPortBase is what is added to every well-known port when the file
// says nothing else, so that no privilege is needed: 465 becomes 10465.
const DefaultPortBase = 10000

// Policies of a register whose clock is not known to be right.
const (
	// ClockRefuse takes no new message until the time is traceable again.
	ClockRefuse = "refuse"
	// ClockMark goes on and writes into each record that the time was not
	// traceable.
	ClockMark = "mark"
)

// Closed is the address of a service that does not listen.
const Closed = "off"

// Config is the content of scripta.toml. Times are written as Go durations
// in quotes ("1h"), sizes as bytes.
type Config struct {
	Domain   string   `toml:"domain" doc:"The certified mail domain, lower case; its service address is posta-certificata@domain"`
	Provider string   `toml:"provider" doc:"The provider's name as it stands in certificates, receipts and the index of providers"`
	Listen   Listen   `toml:"listen" doc:"Where the services listen. An address of a service is \"host:port\", \"\" (host and port_base) or \"off\""`
	Mail     Mail     `toml:"mail" doc:"Limits of what is accepted"`
	Index    Index    `toml:"index" doc:"The directory of all providers of certified e-mail (RFC 6109 §4.5); see docs/operating.md"`
	Limits   Limits   `toml:"limits" doc:"What one account may hand in, and how often one address may come to port 25, in a time"`
	Incoming Incoming `toml:"incoming" doc:"The Incoming Point, which takes mail from other providers and from everybody else"`
	Relay    Relay    `toml:"relay" doc:"Sending to other providers and to ordinary domains; towards providers TLS always"`
	Scan     Scan     `toml:"scan" doc:"Viruses, and spam in ordinary mail"`
	Clock    Clock    `toml:"clock" doc:"The measured time. By law its distance from UTC stays within one second (DM 2/11/2005, art. 9)"`
	TSA      TSA      `toml:"tsa" doc:"RFC 3161 time stamps over the log's checkpoints"`
	Log      Log      `toml:"log" doc:"The legal log register. Never change id by hand: it names the history that was published"`
	Cluster  Cluster  `toml:"cluster" doc:"Where the log's Trillian servers are, if log.engine is not \"embedded\"; see docs/operating.md"`
	Witness  Witness  `toml:"witness" doc:"Witnesses of the log (c2sp.org/tlog-witness): without one, a disk that was rolled back whole goes unnoticed"`
	Receipts Receipts `toml:"receipts" doc:"Receipts and envelopes that were issued"`
	Archive  Archive  `toml:"archive" doc:"Daily closings and their conservation packages"`
	Scrub    Scrub    `toml:"scrub" doc:"Reading everything that is kept again and again, to notice what the disk lost"`
	Keys     Keys     `toml:"keys" doc:"The month secrets, which are never in a backup of the data"`
	Calendar Calendar `toml:"calendar" doc:"Italian working days, which due dates are counted in"`
}

// Listen says where each service listens; see [Listen.Addresses].
type Listen struct {
	Host        string `toml:"host" doc:"IP address of every service without an address of its own"`
	PortBase    int    `toml:"port_base" range:"0..64540" doc:"Added to each well-known port; 0 = the real ports, which need privileges"`
	Submissions string `toml:"submissions" doc:"Submission over TLS (SMTPS), port_base + 465"`
	Submission  string `toml:"submission" doc:"Submission with STARTTLS, port_base + 587"`
	Incoming    string `toml:"incoming" doc:"Mail from other providers, and ordinary mail, port_base + 25"`
	HTTPS       string `toml:"https" doc:"API and published log, port_base + 443"`
	IMAPS       string `toml:"imaps" doc:"IMAP over TLS, port_base + 993; \"off\" in this release, which does not serve it: mailboxes are Maildir++ folders"`
	POP3S       string `toml:"pop3s" doc:"POP3 over TLS, port_base + 995; \"off\" in this release, which does not serve it"`
	TSA         string `toml:"tsa" doc:"The embedded time-stamp authority (HTTP), port_base + 318"`
	Metrics     string `toml:"metrics" doc:"Prometheus metrics (HTTP, no authentication: keep it private), port_base + 90"`
}

// Mail holds the limits of the Access Point and of mailboxes.
type Mail struct {
	MaxMessageBytes          int64    `toml:"max_message_bytes" range:"65536..1073741824" doc:"Largest message that is read, bytes; beyond it SMTP answers 552"`
	MaxBytesTimesRecipients  int64    `toml:"max_bytes_times_recipients" range:"65536..1099511627776" doc:"Largest size times number of recipients, bytes; beyond it a signed non-acceptance is issued"`
	MaxRecipients            int      `toml:"max_recipients" range:"1..10000" doc:"Recipients of a message; beyond it a signed non-acceptance is issued. Recipients and subject together must stay below 384 KiB of records (some 4000 recipients), or SMTP answers 552"`
	SMTPMaxRecipients        int      `toml:"smtp_max_recipients" range:"1..100000" doc:"RCPT commands of a transaction; SMTP answers 452 beyond it, which would split a message: keep it far above max_recipients"`
	MaxConnections           int      `toml:"max_connections" range:"1..100000" doc:"Connections served at once"`
	MaxConnectionsPerAddress int      `toml:"max_connections_per_address" range:"1..100000" doc:"Connections served at once from one IP address"`
	MaxConnectionsPerAccount int      `toml:"max_connections_per_account" range:"1..100000" doc:"Connections served at once for one account"`
	IdleTimeout              Duration `toml:"idle_timeout" range:"1s..1h" doc:"A connection silent for so long is closed; RFC 5321 asks for at least 5m"`
	TotalTimeout             Duration `toml:"total_timeout" range:"1s..24h" doc:"A connection is closed after so long whatever it does"`
	MinFreeBytes             int64    `toml:"min_free_bytes" range:"67108864..1099511627776" doc:"Messages are refused with 452 while the disk has less left, bytes; the register keeps half of it as its own reserve"`
	DefaultQuotaBytes        int64    `toml:"default_quota_bytes" range:"0..1099511627776" doc:"Quota of a new mailbox, bytes; 0 = no limit"`
}

// Clock says which servers the time is measured against and what happens
// when it is not known to be right.
type Clock struct {
	Policy       string   `toml:"policy" oneof:"refuse|mark" doc:"When the time is not traceable: refuse = accept no new message; mark = go on and say so in every record"`
	Servers      []string `toml:"servers" doc:"NTP servers, host or host:port; at least one independent of the others, none that smears leap seconds"`
	WarnOffset   Duration `toml:"warn_offset" range:"1ms..1s" doc:"Distance from UTC, its bound and not its mean, that raises a warning"`
	MaxOffset    Duration `toml:"max_offset" range:"1ms..1s" doc:"Distance from UTC beyond which the time is not traceable; the law allows no more than 1s"`
	PollInterval Duration `toml:"poll_interval" range:"1s..1h" doc:"Time between two measures"`
}

// TSA says which time-stamp authority is asked, and how often.
type TSA struct {
	URL              string   `toml:"url" doc:"Where RFC 3161 requests are posted, https://…; empty = the embedded authority"`
	User             string   `toml:"user" doc:"User for HTTP basic authentication; empty = none"`
	PasswordFile     string   `toml:"password_file" doc:"File (0600) with that user's password, relative to this folder; empty = none"`
	Interval         Duration `toml:"interval" range:"1s..24h" doc:"The latest checkpoint is stamped so often; every event is anchored within it"`
	DailyCeiling     int      `toml:"daily_ceiling" range:"1..1000000" doc:"Stamps bought in a UTC day at most, of every cause"`
	RequireQualified bool     `toml:"require_qualified" doc:"Refuse tokens that are not qualified (eIDAS art. 42; the token says so itself)"`
	Embedded         bool     `toml:"embedded" doc:"Run the embedded authority: for tests, not qualified, without legal value"`
}

// Engines of the log.
const (
	// EngineEmbedded keeps the log in this process.
	EngineEmbedded = "embedded"
	// EngineTrillian keeps it on the cluster.
	EngineTrillian = "trillian"
	// EngineCrossCheck keeps it in this process and copies it to the cluster,
	// which must come to the same roots.
	EngineCrossCheck = "cross-check"
)

// Log identifies the register and says how often it publishes.
type Log struct {
	ID                 string   `toml:"id" doc:"Last part of the log's origin, domain/scripta/id; lower-case letters and digits"`
	CheckpointInterval Duration `toml:"checkpoint_interval" range:"10ms..1h" doc:"A checkpoint is signed and published so often when the log grew"`
	Engine             string   `toml:"engine" oneof:"embedded|trillian|cross-check" doc:"embedded = on this machine; trillian = on the cluster; cross-check = on this machine, copied to the cluster and compared with it"`
}

// Cluster says where the servers of a distributed log are.
type Cluster struct {
	Address  string   `toml:"address" doc:"gRPC address of trillian_log_server, host:port"`
	TLS      string   `toml:"tls" oneof:"on|off" doc:"off only if the server is on this machine"`
	TLSCA    string   `toml:"tls_ca" doc:"Certificates (PEM) that the server's must lead to, relative to this folder; empty = the system's"`
	Database string   `toml:"database" doc:"PostgreSQL with the lease, postgres://user@host/database?sslmode=verify-full&passfile=/path; no password in it"`
	Node     string   `toml:"node" doc:"This machine's name, no other's; empty = the host name. A log that another node had is adopted"`
	Lease    Duration `toml:"lease" range:"1s..10m" doc:"Another node may adopt the log when this one has been silent for so long"`
	Patience Duration `toml:"patience" range:"1s..10m" doc:"Records wait so long for a cluster that does not answer, then their senders are told to try again"`
}

// Receipts says what is kept of issued receipts.
type Receipts struct {
	KeepOriginals bool `toml:"keep_originals" doc:"Keep the originals (sealed), so that a complete receipt is reproduced without asking its holder for the message"`
}

// Archive says where and when days are closed.
type Archive struct {
	Dir       string `toml:"dir" doc:"Folder of the packages, relative to this folder"`
	Automatic bool   `toml:"automatic" doc:"Close each day at UTC midnight; otherwise scripta archive close does"`
}

// Scrub says how often, and how fast, everything is read again.
type Scrub struct {
	Interval       Duration `toml:"interval" range:"0s..8784h" doc:"Time from the end of a reading to the next; 0s = never"`
	BytesPerSecond int64    `toml:"bytes_per_second" range:"65536..1099511627776" doc:"How fast it reads at most"`
}

// Keys says where copies of the key store are.
type Keys struct {
	Copies []string `toml:"copies" doc:"Folders with copies of the month secrets (scripta keys backup adds to them); each disposal must reach all of them"`
}

// Calendar completes the national holidays, which are built in.
type Calendar struct {
	PatronDay         string `toml:"patron_day" doc:"Patron's day at the provider's seat, MM-DD (Milan \"12-07\"); empty = none"`
	SaturdayIsWorking bool   `toml:"saturday_is_working" doc:"Count Saturday as a working day"`
}

// Default returns the configuration of a production provider, which is also
// what each absent key takes. It refuses messages when the time is not
// traceable and expects a qualified authority: the caller still has to give
// tsa.url and log.id, without which [Config.Check] fails.
func Default(domain, provider string, portBase int) Config {
	return Config{
		Domain:   domain,
		Provider: provider,
		Listen: Listen{
			Host:     "127.0.0.1",
			PortBase: portBase,
			IMAPS:    Closed,
			POP3S:    Closed,
		},
		Mail: Mail{
			MaxMessageBytes:          50 << 20,
			MaxBytesTimesRecipients:  50_000_000,
			MaxRecipients:            500,
			SMTPMaxRecipients:        10_000,
			MaxConnections:           1000,
			MaxConnectionsPerAddress: 200,
			MaxConnectionsPerAccount: 100,
			IdleTimeout:              Duration{Duration: 5 * time.Minute},
			TotalTimeout:             Duration{Duration: time.Hour},
			MinFreeBytes:             512 << 20,
			DefaultQuotaBytes:        1 << 30,
		},
		Limits:   defaultLimits(),
		Incoming: Incoming{Ordinary: OrdinaryRefuse, Revocation: RevocationSoft, SHA1: SHA1Accept, Authenticate: true},
		Relay:    defaultRelay(),
		Index:    Index{Signers: []string{}, Refresh: Duration{Duration: 24 * time.Hour}, WarnAfter: Duration{Duration: 48 * time.Hour}, MaxShrink: 50},
		Scan:     defaultScan(),
		Clock: Clock{
			Policy:       ClockRefuse,
			Servers:      []string{"ntp1.inrim.it", "ntp2.inrim.it", "time.inrim.it", "ptbtime1.ptb.de"},
			WarnOffset:   Duration{Duration: 250 * time.Millisecond},
			MaxOffset:    Duration{Duration: time.Second},
			PollInterval: Duration{Duration: time.Minute},
		},
		TSA: TSA{
			Interval:         Duration{Duration: time.Hour},
			DailyCeiling:     100,
			RequireQualified: true,
		},
		Log:      Log{CheckpointInterval: Duration{Duration: time.Second}, Engine: EngineEmbedded},
		Cluster:  Cluster{TLS: "on", Lease: Duration{Duration: 15 * time.Second}, Patience: Duration{Duration: 30 * time.Second}},
		Witness:  Witness{Peers: []string{}, BelowQuorum: BelowQuorumWarn, Patience: Duration{Duration: 5 * time.Minute}},
		Receipts: Receipts{KeepOriginals: true},
		Archive:  Archive{Dir: "archive", Automatic: true},
		Scrub:    Scrub{Interval: Duration{Duration: 7 * 24 * time.Hour}, BytesPerSecond: 8 << 20},
		Keys:     Keys{Copies: []string{}},
	}
}

// Quickstart returns the configuration that `scripta init` writes: it works
// on a machine without network, marks every record whose time is not
// traceable, and stamps with the embedded authority, so that nothing it makes
// has legal value.
func Quickstart(domain, provider, logID string, portBase int) Config {
	c := Default(domain, provider, portBase)
	c.Clock.Policy = ClockMark
	c.TSA.Embedded = true
	c.TSA.RequireQualified = false
	c.Log.ID = logID
	return c
}

// Origin returns the log's origin, the first line of every checkpoint and
// the name of its key: domain/scripta/id.
func (c *Config) Origin() string { return c.Domain + "/scripta/" + c.Log.ID }

// ServiceAddress returns the mailbox that signs every message of the
// provider, posta-certificata@domain (RFC 6109 §2.2.1).
func (c *Config) ServiceAddress() string { return "posta-certificata@" + c.Domain }

// TSAEndpoint returns the URL that time-stamp requests go to: tsa.url, or
// the embedded authority's own address when it is empty.
func (c *Config) TSAEndpoint() string {
	if c.TSA.URL != "" {
		return c.TSA.URL
	}
	u := url.URL{Scheme: "http", Host: c.Listen.Addresses().TSA, Path: "/"}
	return u.String()
}
