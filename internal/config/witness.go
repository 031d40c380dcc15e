package config

import (
	"fmt"
	"net/url"
	"strings"
)

// Witness is who cosigns the log's checkpoints.
type Witness struct {
	Peers  []string `toml:"peers" doc:"Each \"vkey url\": the witness's public key as it gives it, and the URL above its add-checkpoint; empty = none is asked"`
	Quorum int      `toml:"quorum" range:"0..64" doc:"How many of them must cosign a checkpoint; 0 = more than half"`
	// BelowQuorum is what the want of a quorum stops.
	BelowQuorum string   `toml:"below_quorum" oneof:"warn|fail|refuse" doc:"When the quorum is missing for patience: warn = status warns; fail = status says FAILED; refuse = that, and no new message is accepted"`
	Patience    Duration `toml:"patience" range:"1s..24h" doc:"For how long the quorum may be missing; witnesses restart, too"`
}

// What follows when the quorum of witnesses is missing for longer than
// Witness.Patience.
const (
	BelowQuorumWarn   = "warn"
	BelowQuorumFail   = "fail"
	BelowQuorumRefuse = "refuse"
)

func (c *Config) checkWitness(wrong func(key, problem, fix string)) {
	w := &c.Witness
	if w.Quorum > len(w.Peers) {
		wrong("witness.quorum", "more than there are peers", fmt.Sprintf("write a number up to %d", len(w.Peers)))
	}
	keys := make(map[string]bool)
	for _, p := range w.Peers {
		key, address, _ := strings.Cut(p, " ")
		u, err := url.Parse(address)
		switch {
		case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || strings.Count(key, "+") < 2:
			wrong("witness.peers", quote(p)+" is not a witness", `write its public key, a space and its URL, such as "w.example+0011aabb+BA… https://w.example/"`)
		case keys[key]:
			wrong("witness.peers", quote(key)+" stands there twice", "write each witness once: a quorum counts keys")
		}
		keys[key] = true
	}
}
