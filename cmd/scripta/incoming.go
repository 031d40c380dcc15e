package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"scripta/internal/config"
	"scripta/internal/keys"
	"scripta/mta"
	"scripta/mta/revocation"
	"scripta/mta/smtpd"
)

// incomingOptions say how the Incoming Point judges what comes in.
func (d *daemon) incomingOptions() (mta.Incoming, error) {
	c := d.cfg.Incoming
	byDefault := c.Ordinary == config.OrdinaryAccept
	o := mta.Incoming{AllowSHA1: c.SHA1 == config.SHA1Accept, Ordinary: func(address string) bool { return d.accounts.AcceptsOrdinary(address, byDefault) }}
	roots, err := keys.LoadCertificates(d.dir.PublicCA())
	if err != nil {
		return o, err
	}
	if c.TrustedCA != "" {
		others, err := keys.LoadCertificates(d.dir.Path(c.TrustedCA))
		if err != nil {
			return o, fmt.Errorf("incoming.trusted_ca: %w", err)
		}
		roots = append(roots, others...)
	}
	o.Roots = pool(roots)
	switch c.Revocation {
	case config.RevocationSoft:
		o.Revocation, o.Revoked = mta.RevocationSoft, revocation.New(nil)
	case config.RevocationHard:
		o.Revocation, o.Revoked = mta.RevocationHard, revocation.New(nil)
	}
	if d.rspamd != nil {
		o.Spam = d.rspamd
		o.SpamLimit = func(address string) (int, bool) { return d.accounts.SpamLimit(address, d.cfg.Scan.SpamScore) }
	}
	if c.Authenticate {
		o.Resolver = &net.Resolver{PreferGo: true}
	}
	return o, nil
}

// openIncoming makes the server of the port of other mail servers.
func (d *daemon) openIncoming(t *tls.Config) {
	m := d.cfg.Mail
	d.incoming = mta.NewIncomingPoint(d.pipeline, d.log)
	d.smtpIn = smtpd.NewServer(smtpd.Config{Domain: d.cfg.Domain, Backend: d.incoming, TLS: t, MaxMessageBytes: m.MaxMessageBytes + envelopeOverhead,
		MaxRecipients: m.SMTPMaxRecipients, Connections: m.MaxConnections, PerAddress: m.MaxConnectionsPerAddress, EightBit: true,
		Admit: func(remote string) error { return d.rates.Connection(remote, time.Now()) },
		Idle:  m.IdleTimeout.Duration, Total: m.TotalTimeout.Duration, Logger: d.log})
}

// envelopeOverhead is what an envelope, or a receipt that includes the original,
// is larger than the original at most, octets: certification data, text, header and
// signature.
const envelopeOverhead = 8 << 20
