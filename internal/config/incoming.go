package config

// Incoming says how the Incoming Point judges what comes in on port 25 (RFC 6109
// §2.2.2).
type Incoming struct {
	Ordinary     string `toml:"ordinary" oneof:"refuse|accept" doc:"Mail that is no certified mail: refuse = its sender is answered 550; accept = it reaches the mailbox in an anomaly envelope. scripta account ordinary says it for one mailbox"`
	TrustedCA    string `toml:"trusted_ca" doc:"Certificates (PEM) of the roots that other providers' signatures must lead to, relative to this folder; empty = those of public/ca.pem alone"`
	Revocation   string `toml:"revocation" oneof:"soft|hard|off" doc:"Whether other providers' certificates were revoked (CRL, OCSP) is asked; when nobody answers: soft = taken as not revoked, and recorded; hard = the message is put off with 451; off = nobody is asked"`
	SHA1         string `toml:"sha1" oneof:"accept|refuse" doc:"Other providers' signatures under SHA-1, which were still made at the end of 2024: accept = they hold, and it is recorded; refuse = such a message is no certified mail"`
	Authenticate bool   `toml:"authenticate" doc:"Check SPF, DKIM and DMARC of ordinary mail, and tell its reader in the anomaly envelope; needs DNS"`
}

// What is done with ordinary mail.
const (
	OrdinaryRefuse = "refuse"
	OrdinaryAccept = "accept"
)

// What follows when nobody tells whether a certificate was revoked.
const (
	RevocationSoft = "soft"
	RevocationHard = "hard"
	RevocationOff  = "off"
)

// Policies for signatures under SHA-1.
const (
	SHA1Accept = "accept"
	SHA1Refuse = "refuse"
)

func (c *Config) checkIncoming(wrong func(key, problem, fix string)) {
	if !safePath(c.Incoming.TrustedCA) {
		wrong("incoming.trusted_ca", "not a file", `write a file, such as "public/trusted-ca.pem", or ""`)
	}
}
