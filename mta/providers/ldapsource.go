package providers

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"scripta/mta/providers/ldif"
)

// LDAP is the directory's server itself (RFC 6109 §4.5). What it says is not
// signed: it is worth as much as the server's certificate and the way to it, so
// that without TLS only a server on this machine should be asked.
type LDAP struct {
	URL      string // ldaps://host[:636] or ldap://host[:389]
	TLS      func() (*tls.Config, error)
	User     string // dn to bind with; empty: anonymous
	Password func() (string, error)
}

const (
	// pageSize is how many entries are asked for at once (RFC 2696).
	pageSize = 200
	// answerTime bounds the wait for one answer of the server.
	answerTime = time.Minute
)

// Fetch implements Source.
func (l LDAP) Fetch(ctx context.Context, _ Validators) (*Content, error) {
	entries, err := l.entries(ctx)
	if err != nil {
		return nil, fmt.Errorf("couldn't get the directory from %s: %w", l, err)
	}
	slices.SortStableFunc(entries, func(a, b *ldif.Entry) int { return cmp.Compare(a.DN, b.DN) })
	data := ldif.Encode(entries...)
	if len(data) > maxFile {
		return nil, errTooLarge
	}
	return &Content{Data: data}, nil
}

func (l LDAP) entries(ctx context.Context) ([]*ldif.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	raw, secure, err := l.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	// The library has no context of its own: closing what it reads ends it.
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	conn := ldap.NewConn(&boundedConn{Conn: raw, left: maxFile}, secure)
	conn.SetTimeout(answerTime)
	conn.Start()
	defer conn.Close()
	if l.User != "" {
		password, err := l.Password()
		if err != nil {
			return nil, err
		}
		if err := conn.Bind(l.User, password); err != nil {
			return nil, fmt.Errorf("bind as %s: %w", l.User, err)
		}
	}
	attributes := []string{attrClass, "o", attrName, attrUnit, attrReceipt, attrDomains, attrHash, attrCertificate + ";binary", attrLocation, attrDescription}
	request := ldap.NewSearchRequest(Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false,
		"(|(objectClass=provider)(objectClass=organization))", attributes, nil)
	result, err := conn.SearchWithPaging(request, pageSize)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, err
	case len(result.Referrals) > 0:
		return nil, fmt.Errorf("part of it is elsewhere (%.100q), where nobody is asked", result.Referrals[0])
	}
	var all []*ldif.Entry
	for _, e := range result.Entries {
		entry := &ldif.Entry{DN: e.DN}
		for _, a := range e.Attributes {
			typ, options, _ := strings.Cut(a.Name, ";")
			for _, v := range a.ByteValues {
				entry.Attributes = append(entry.Attributes, ldif.Attribute{Type: typ, Options: strings.ToLower(options), Value: v})
			}
		}
		all = append(all, entry)
	}
	return all, nil
}

func (l LDAP) dial(ctx context.Context) (conn net.Conn, secure bool, err error) {
	u, err := url.Parse(l.URL)
	if err != nil {
		return nil, false, err
	}
	address := func(port string) string { return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port)) }
	if u.Scheme == "ldap" {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", address(ldap.DefaultLdapPort))
		return conn, false, err
	}
	config, err := l.TLS()
	if err != nil {
		return nil, true, err
	}
	conn, err = (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address(ldap.DefaultLdapsPort))
	return conn, true, err
}

// Signed implements Source.
func (l LDAP) Signed() bool { return false }

func (l LDAP) String() string { return l.URL }

// boundedConn is a connection by which only so many bytes come.
type boundedConn struct {
	net.Conn
	left int64 // only the library's reader uses it
}

var errTooMuch = errors.New("the server sends more than a directory can have")

func (c *boundedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}
