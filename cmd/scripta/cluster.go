package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"time"

	"scripta/internal/config"
	"scripta/internal/keys"
	"scripta/merkle"
	"scripta/merkle/cluster"
)

// cluster is where the log is, or is copied to, by the configuration; nil if it
// is embedded.
func (a *app) cluster() (*merkle.Cluster, error) {
	k := a.cfg.Cluster
	if a.cfg.Log.Engine == config.EngineEmbedded {
		return nil, nil
	}
	node, err := a.node()
	if err != nil {
		return nil, err
	}
	c := &merkle.Cluster{
		Address: k.Address, CrossCheck: a.cfg.Log.Engine == config.EngineCrossCheck, Patience: k.Patience.Duration,
		Lease: cluster.LeaseOptions{Database: k.Database, Node: node, TTL: k.Lease.Duration, Adopt: a.adopt},
		Void:  func(_ context.Context, index uint64) (merkle.Leaf, error) { return a.register.Void(index) },
	}
	if k.TLS == "off" {
		return c, nil
	}
	host, _, err := net.SplitHostPort(k.Address)
	if err != nil {
		return nil, err
	}
	c.TLS = &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if k.TLSCA != "" {
		var roots []*x509.Certificate
		if roots, err = keys.LoadCertificates(a.dir.Path(k.TLSCA)); err != nil {
			return nil, fmt.Errorf("couldn't load cluster.tls_ca: %w", err)
		}
		c.TLS.RootCAs = pool(roots)
	}
	return c, nil
}

// node is this machine's name in the lease of the log.
func (a *app) node() (string, error) {
	if a.cfg.Cluster.Node != "" {
		return a.cfg.Cluster.Node, nil
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "", fmt.Errorf("this machine has no name: write one into cluster.node (%w)", err)
	}
	return name, nil
}

// recordAdoption appends that the log came from another node, before anything
// else.
func (a *app) recordAdoption(ctx context.Context) error {
	epoch, from, ok := a.merkle.Adoption()
	if !ok {
		return nil
	}
	node, err := a.node()
	if err != nil {
		return err
	}
	fresh, err := a.register.RecordAdoption(ctx, epoch, from, node, time.Now())
	if fresh {
		a.log.Info("the log came from another node", "from", from, "epoch", epoch)
	}
	return err
}

// copyLag is how many records the copy on the cluster may be behind until it
// counts as a warning.
const copyLag = 10_000

func (d *daemon) clusterRole() (string, error) {
	s, _ := d.merkle.ClusterState()
	detail := d.cfg.Cluster.Address
	if d.cfg.Log.Engine == config.EngineCrossCheck {
		detail = fmt.Sprintf("%d records copied to %s and compared", s.Copied, detail)
	}
	size := d.merkle.Size()
	switch {
	case s.Stopped != nil:
		return detail, s.Stopped
	case s.Failing != nil && d.cfg.Log.Engine == config.EngineTrillian:
		return detail, fmt.Errorf("records wait: %w", s.Failing)
	case s.Failing != nil:
		return detail, warn("the copy waits: %v", s.Failing)
	case d.cfg.Log.Engine == config.EngineCrossCheck && s.Copied+copyLag < size:
		return detail, warn("the copy is %d records behind", size-s.Copied)
	}
	return detail, nil
}
