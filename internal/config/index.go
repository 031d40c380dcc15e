package config

import (
	"fmt"
	"net/url"
	"strings"
)

// Index is where the directory of all providers comes from (RFC 6109 §4.5).
type Index struct {
	Source            string   `toml:"source" doc:"Where the directory of providers is: https://… of its signed LDIF (.p7m), such a file, or its server, ldaps://host or, on this machine only, ldap://host; empty = no other provider is known"`
	Signers           []string `toml:"signers" doc:"Who may sign it: SHA-256 of the certificate (64 hexadecimal digits) or its subject (\"CN=…,O=…,C=IT\"); needed for a signed LDIF"`
	Roots             string   `toml:"roots" doc:"Certificates (PEM) that the signer's must lead to, relative to this folder; empty = public/ca.pem"`
	TLSCA             string   `toml:"tls_ca" doc:"Certificates (PEM) that the server's must lead to, relative to this folder; empty = the system's"`
	ClientCertificate string   `toml:"client_certificate" doc:"Our certificate (PEM) for the server, relative to this folder; empty = none"`
	ClientKey         string   `toml:"client_key" doc:"Its key (PEM, PKCS#8, 0600), relative to this folder"`
	User              string   `toml:"user" doc:"DN to bind with at an LDAP server; empty = anonymous"`
	PasswordFile      string   `toml:"password_file" doc:"File (0600) with that user's password, relative to this folder; empty = none"`
	Refresh           Duration `toml:"refresh" range:"1s..168h" doc:"It is fetched so often; RFC 6109 asks for daily. What cannot be fetched is tried again after a minute, then more slowly"`
	WarnAfter         Duration `toml:"warn_after" range:"1s..8784h" doc:"status warns when the last good copy is older; it goes on being used"`
	MaxShrink         int      `toml:"max_shrink" range:"0..100" doc:"Percent of the providers, or of the domains, that may be gone at once; a directory with less is refused until scripta index accept"`
	Location          string   `toml:"location" doc:"Where our own signed LDIF is, as our record says (LDIFLocationURL); empty = https://domain/provider.ldif.p7m"`
}

// URL says what index.source is: its parsed URL, or nil for the path of a file.
func (x *Index) URL() *url.URL {
	u, err := url.Parse(x.Source)
	if err != nil || !strings.Contains(x.Source, "://") {
		return nil
	}
	return u
}

// IndexLocation returns where our own signed LDIF is published.
func (c *Config) IndexLocation() string {
	if c.Index.Location != "" {
		return c.Index.Location
	}
	return "https://" + c.Domain + "/provider.ldif.p7m"
}

func (c *Config) checkIndex(wrong func(key, problem, fix string)) {
	x := &c.Index
	u := x.URL()
	signed := x.Source != ""
	switch {
	case x.Source == "":
	case u == nil && (strings.Contains(x.Source, "://") || !safePath(x.Source)):
		wrong("index.source", "not a place", `write such as "https://igpec.example.it/igpec.ldif.p7m", "igpec.ldif.p7m" or "ldaps://igpec.example.it"`)
	case u == nil:
	case u.Scheme == "https" || u.Scheme == "ldaps" || u.Scheme == "ldap":
		signed = u.Scheme == "https"
		switch {
		case u.Hostname() == "":
			wrong("index.source", "no host in it", `write such as "ldaps://igpec.example.it"`)
		case u.User != nil:
			wrong("index.source", "a password must not stand in it", "write a client certificate, or user and password_file")
		case u.Scheme == "ldap" && !loopback(u.Hostname()):
			wrong("index.source", "LDAP is not signed: without TLS, whoever is on the way could change it", `write "ldaps://…"`)
		case u.Scheme != "https" && strings.Trim(u.Path, "/") != "":
			wrong("index.source", "the base of an LDAP search is always o=postacert", "write scheme, host and port only")
		}
	default:
		wrong("index.source", "a scheme that is not known: "+quote(u.Scheme), `write "https://…", "ldaps://…" or the path of a file`)
	}
	if signed && len(x.Signers) == 0 {
		wrong("index.signers", "nobody may sign the directory", "write who does: scripta index refresh names the signer that it meets, to be checked by hand")
	}
	for _, s := range x.Signers {
		hash := len(s) == 64 && strings.Trim(strings.ToLower(s), "0123456789abcdef") == ""
		if !hash && !strings.Contains(s, "=") {
			wrong("index.signers", quote(s)+" is neither a SHA-256 nor a subject", `write 64 hexadecimal digits, or a subject such as "CN=…,O=…,C=IT"`)
		}
	}
	for key, path := range map[string]string{"roots": x.Roots, "tls_ca": x.TLSCA, "client_certificate": x.ClientCertificate, "client_key": x.ClientKey, "password_file": x.PasswordFile} {
		if !safePath(path) {
			wrong("index."+key, "not a file", "write a path in this folder, or an absolute one")
		}
	}
	if (x.ClientCertificate == "") != (x.ClientKey == "") {
		wrong("index.client_key", "client_certificate and client_key go together", "write both or neither")
	}
	if (x.User == "") != (x.PasswordFile == "") {
		wrong("index.password_file", "user and password_file go together", "write both or neither")
	}
	if x.WarnAfter.Duration < x.Refresh.Duration {
		wrong("index.warn_after", "shorter than refresh", fmt.Sprintf("write at least %q", x.Refresh))
	}
	if l, err := url.Parse(x.Location); x.Location != "" && (err != nil || l.Scheme != "https" || l.Hostname() == "") {
		wrong("index.location", "not an https:// URL", `write such as "https://pec.example.it/provider.ldif.p7m", or ""`)
	}
}
