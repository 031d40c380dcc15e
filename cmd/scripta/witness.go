package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"scripta/internal/config"
	"scripta/internal/durable"
	"scripta/merkle/checkpoint"
	"scripta/merkle/witness"
)

// openWitnesses sets up the asking of the configured witnesses.
func (a *app) openWitnesses(context.Context) error {
	policy, err := witnessPolicy(&a.cfg.Witness)
	if err != nil || policy == nil {
		return err
	}
	if err := publishWitnesses(a.dir, policy); err != nil {
		return err
	}
	a.witnesses, err = witness.NewGatherer(witness.GathererOptions{Log: a.merkle, Policy: policy, Dir: a.dir.Log(),
		Interval: max(a.cfg.Log.CheckpointInterval.Duration, time.Second), Logger: a.log})
	if err != nil {
		return err
	}
	a.onClose(a.witnesses.Close)
	return nil
}

// witnessPolicy is what the configuration asks for; nil without witnesses.
func witnessPolicy(c *config.Witness) (*witness.Policy, error) {
	if len(c.Peers) == 0 {
		return nil, nil
	}
	p := &witness.Policy{Quorum: c.Quorum}
	if p.Quorum == 0 {
		p.Quorum = len(c.Peers)/2 + 1
	}
	for _, text := range c.Peers {
		vkey, url, _ := strings.Cut(text, " ")
		m, err := witness.NewMember(vkey, url)
		if err != nil {
			return nil, fmt.Errorf("scripta.toml: witness.peers: %q is not the public key that scripta witness init printed: %w", vkey, err)
		}
		p.Members = append(p.Members, m)
	}
	return p, nil
}

// publishWitnesses writes the policy among what others need to verify.
func publishWitnesses(dir config.Dir, p *witness.Policy) error {
	if b, err := os.ReadFile(dir.PublicWitnesses()); err == nil && string(b) == p.Text() {
		return nil
	}
	if err := durable.WriteFile(durable.OS, dir.PublicWitnesses(), []byte(p.Text()), 0o644); err != nil {
		return fmt.Errorf("couldn't publish who the log's witnesses are: %w", err)
	}
	return nil
}

// cosigned gives extracts their cosigned checkpoint; nil without witnesses.
func (a *app) cosigned() func(context.Context, uint64) *checkpoint.Signed {
	if a.witnesses == nil {
		return nil
	}
	return a.witnesses.Covering
}

func (a *app) witnessStates() []witness.PeerState {
	if a.witnesses == nil {
		return nil
	}
	return a.witnesses.Peers()
}

func (a *app) lastCosigned() *checkpoint.Signed {
	if a.witnesses == nil {
		return nil
	}
	return a.witnesses.Cosigned()
}

// cosignLast has the last checkpoint of a daemon that stops cosigned, if the
// witnesses are quick.
func (d *daemon) cosignLast(ctx context.Context) {
	if d.witnesses == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	_ = d.witnesses.Gather(ctx) // the next start asks again
}

// witnessRole says how the log is cosigned. A witness that contradicts the log is a
// failure whatever the quorum says: one honest witness is enough to show a fork.
func (d *daemon) witnessRole() (string, error) {
	if d.witnesses == nil {
		return "none configured: a disk that was rolled back whole would go unnoticed", nil
	}
	p := d.witnesses.Policy()
	detail := fmt.Sprintf("none of %d cosigned yet", len(p.Members))
	if cp := d.witnesses.Cosigned(); cp != nil {
		by, _ := p.Cosignatures(cp.Note) // was verified when it was stored
		var names []string
		for _, c := range by {
			names = append(names, c.Witness)
		}
		detail = fmt.Sprintf("%d records cosigned by %d of %d (%s)", cp.Size, len(by), len(p.Members), strings.Join(names, ", "))
	}
	var contradicted error
	for _, s := range d.witnesses.Peers() {
		if witness.Contradiction(s.Err) {
			contradicted = errors.Join(contradicted, s.Err)
		}
	}
	if contradicted != nil {
		return detail, fmt.Errorf("%w: was the log's disk rolled back, or does somebody else have its key? (docs/operating.md, Witnesses)", contradicted)
	}
	lack := d.witnesses.Lacking()
	if lack == nil {
		return detail, nil
	}
	since := lack.Since.UTC().Format(time.RFC3339)
	if time.Since(lack.Since) <= d.cfg.Witness.Patience.Duration {
		return fmt.Sprintf("%s; no quorum since %s", detail, since), nil
	}
	if d.cfg.Witness.BelowQuorum == config.BelowQuorumWarn {
		return detail, warn("no quorum since %s, it is tried again: %v", since, lack.Err)
	}
	return detail, fmt.Errorf("no quorum since %s: %w", since, lack.Err)
}

// hold refuses new messages when the configuration says that they must not be
// accepted without witnesses.
func (d *daemon) hold() error {
	if err := d.mirror.Missing(); err != nil {
		return fmt.Errorf("messages are refused, because nobody knows which domains are certified: %w", err)
	}
	if d.witnesses == nil || d.cfg.Witness.BelowQuorum != config.BelowQuorumRefuse {
		return nil
	}
	if lack := d.witnesses.Lacking(); lack != nil && time.Since(lack.Since) > d.cfg.Witness.Patience.Duration {
		return fmt.Errorf("messages are refused (witness.below_quorum): no quorum of witnesses since %s: %w", lack.Since.UTC().Format(time.RFC3339), lack.Err)
	}
	return nil
}
