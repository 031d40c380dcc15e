package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"scripta/internal/config"
	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/mta/providers"
	"scripta/mta/revocation"
	"scripta/register/record"
)

// openIndex opens the index of providers: our own record, and the last good copy
// of the directory.
func (a *app) openIndex(context.Context) error {
	own, err := a.ownRecord()
	if err != nil {
		return err
	}
	a.publisher = &providers.Publisher{Own: []*providers.Provider{own}, Sign: a.signer.SignAttached, Now: a.now}
	source, err := a.indexSource()
	if err != nil {
		return err
	}
	o := providers.Options{Own: a.publisher.Own, Source: source, Dir: a.dir.Index(), FS: durable.OS, MaxShrink: a.cfg.Index.MaxShrink,
		WarnAfter: a.cfg.Index.WarnAfter.Duration, Now: a.now, Record: a.recordIndex, Logger: a.log}
	if source != nil && source.Signed() {
		o.Trust = &providers.Trust{Roots: a.roots, Signers: a.cfg.Index.Signers, Revocation: revocation.New(nil)}
		if a.cfg.Index.Roots != "" {
			roots, err := keys.LoadCertificates(a.dir.Path(a.cfg.Index.Roots))
			if err != nil {
				return err
			}
			o.Trust.Roots = pool(roots)
		}
	}
	a.mirror, err = providers.Open(o)
	return err
}

// ownRecord is what the directory should say of us: the certificate that signs
// now, then every other that ever did, so that after a renewal what was signed
// before is still known as ours.
func (a *app) ownRecord() (*providers.Provider, error) {
	current := a.signer.Certificate()
	if err := keepCertificate(a.dir, current); err != nil {
		a.log.Error("the signing certificate could not be kept for the time after its renewal", "err", err)
	}
	own := &providers.Provider{Name: a.cfg.Provider, Domains: []string{a.cfg.Domain}, ServiceAddress: a.cfg.ServiceAddress(),
		Certificates: []*x509.Certificate{current}, LDIF: a.cfg.IndexLocation()}
	files, err := filepath.Glob(filepath.Join(a.dir.PECCertificates(), "*.pem"))
	if err != nil {
		return nil, err
	}
	for _, f := range files { // sorted by name
		certs, err := keys.LoadCertificates(f)
		if err != nil {
			return nil, err
		}
		if !certs[0].Equal(current) {
			own.Certificates = append(own.Certificates, certs[0])
		}
	}
	return own, nil
}

// keepCertificate puts a signing certificate into the folder of all of them.
func keepCertificate(dir config.Dir, c *x509.Certificate) error {
	sum := sha256.Sum256(c.Raw)
	name := filepath.Join(dir.PECCertificates(), hex.EncodeToString(sum[:])+".pem")
	if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := durable.MkdirAll(durable.OS, dir.PECCertificates(), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(durable.OS, name, keys.EncodeCertificates(c), 0o600)
}

// indexSource is where the configuration says that the directory is, or nil.
func (a *app) indexSource() (providers.Source, error) {
	x := &a.cfg.Index
	switch u := x.URL(); {
	case x.Source == "":
		return nil, nil
	case u == nil:
		return providers.File{Path: a.dir.Path(x.Source)}, nil
	case u.Scheme == "https":
		return providers.HTTPS{URL: x.Source, TLS: a.indexTLS}, nil
	default:
		return providers.LDAP{URL: x.Source, TLS: a.indexTLS, User: x.User, Password: func() (string, error) {
			b, err := os.ReadFile(a.dir.Path(x.PasswordFile))
			if err != nil {
				return "", fmt.Errorf("couldn't read the password for the directory: %w", err)
			}
			return strings.TrimRight(string(b), "\r\n"), nil
		}}, nil
	}
}

// indexTLS is our side of a connection to the directory's server. The files are
// read each time, so that a renewal needs no restart.
func (a *app) indexTLS() (*tls.Config, error) {
	x := &a.cfg.Index
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if x.TLSCA != "" {
		roots, err := keys.LoadCertificates(a.dir.Path(x.TLSCA))
		if err != nil {
			return nil, err
		}
		c.RootCAs = pool(roots)
	}
	if x.ClientCertificate != "" {
		key, chain, err := keys.LoadPair(a.dir.Path(x.ClientKey), a.dir.Path(x.ClientCertificate))
		if err != nil {
			return nil, err
		}
		client := tls.Certificate{PrivateKey: key, Leaf: chain[0]}
		for _, cert := range chain {
			client.Certificate = append(client.Certificate, cert.Raw)
		}
		c.Certificates = []tls.Certificate{client}
	}
	return c, nil
}

// namesRecorded bounds the names of providers in one record.
const namesRecorded = 100

// recordIndex records that the index is about to change.
func (a *app) recordIndex(ctx context.Context, u *providers.Update) error {
	names := func(all []string) string {
		if len(all) > namesRecorded {
			all = append(all[:namesRecorded:namesRecorded], fmt.Sprintf("+%d", len(all)-namesRecorded))
		}
		return strings.Join(all, "; ")
	}
	detail := []record.Pair{{Name: "accepted", Value: strconv.FormatBool(u.Accepted)}, {Name: "added", Value: names(u.Added)}, {Name: "domains", Value: strconv.Itoa(u.Domains)},
		{Name: "file", Value: u.File}, {Name: "gone", Value: names(u.Gone)}, {Name: "index", Value: u.Index}, {Name: "providers", Value: strconv.Itoa(u.Providers)}, {Name: "source", Value: u.Source}}
	if u.Signer != "" {
		detail = append(detail, record.Pair{Name: "certificate", Value: u.Certificate}, record.Pair{Name: "signed", Value: u.SigningTime.UTC().Format(time.RFC3339)},
			record.Pair{Name: "signer", Value: u.Signer})
	}
	at, marks, err := a.reading()
	if err != nil {
		return err
	}
	return a.event(ctx, &record.Record{Kind: record.IndexChanged, Time: at, Detail: record.SortDetail(append(detail, marks...))})
}

// indexRole tells how the index of providers is.
func (d *daemon) indexRole() (string, error) {
	if err := d.mirror.Missing(); err != nil {
		return "", fmt.Errorf("no message is taken: %w", err)
	}
	s := d.mirror.Status()
	if s.Source == "" {
		return "only this one: index.source is empty", nil
	}
	detail := fmt.Sprintf("%d records, %d domains, checked %s", s.Providers, s.Domains, s.Checked.UTC().Format(time.RFC3339))
	switch old := d.mirror.Old(time.Now()); {
	case old != "" && s.Trouble != "":
		return "", warn("%s: %s", old, s.Trouble)
	case old != "":
		return "", warn("%s", old)
	case s.Trouble != "":
		return "", warn("%s; the last refresh failed: %s", detail, s.Trouble)
	case len(s.Faults) > 0:
		return "", warn("%s; %d remarks, see scripta index show; the first: %s", detail, len(s.Faults), s.Faults[0])
	}
	return detail, nil
}

// firstCopyTime is how long a start waits for the first copy of the directory.
const firstCopyTime = 15 * time.Second

// firstIndex asks once for a directory that never came, so that a provider that
// says that it is ready takes messages, if it can be had.
func (d *daemon) firstIndex(ctx context.Context) {
	if d.mirror.Missing() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, firstCopyTime)
	defer cancel()
	if _, err := d.mirror.Refresh(ctx, ""); err != nil {
		d.log.Error("the directory of providers did not come: no message is taken until it does", "err", err)
	}
}

// renewBefore is how long before its end the signing certificate should be renewed:
// the directory of providers, and everybody's copy of it, must know the new one first.
const renewBefore = 30 * 24 * time.Hour

// signingRole tells of the certificate that signs envelopes and receipts.
func (d *daemon) signingRole() (string, error) {
	end := d.signer.Certificate().NotAfter
	until := end.UTC().Format(time.DateOnly)
	switch left := time.Until(end); {
	case left < 0:
		return "", fmt.Errorf("the certificate that signs ended on %s: nobody takes what we send; see docs/operating.md (directory of providers)", until)
	case left < renewBefore:
		return "", warn("the certificate that signs ends on %s: renew it, and have the new one put into the directory of providers first", until)
	}
	return "until " + until, nil
}

// publishOwn answers for our own signed LDIF, and leaves the rest to next.
func (d *daemon) publishOwn(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == providers.PublishedPath {
			d.publisher.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}
