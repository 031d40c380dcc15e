package relay

import (
	"context"
	"crypto/tls"
	"net"
)

// DANE asks a validating resolver.
type DANE struct{}

type tlsaRecords []struct{}

func (d *DANE) mx(ctx context.Context, domain string) ([]*net.MX, bool, error) {
	return nil, false, nil
}
func (d *DANE) secureHost(ctx context.Context, host string) bool { return false }
func (d *DANE) records(ctx context.Context, host, port string) (tlsaRecords, error) {
	return nil, nil
}
func (r tlsaRecords) verify(host string) func(tls.ConnectionState) error { return nil }
