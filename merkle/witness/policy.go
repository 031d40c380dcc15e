package witness

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

const (
	// MaxPolicySize bounds the bytes of a policy that ParsePolicy reads.
	MaxPolicySize = 64 << 10
	// MaxWitnesses bounds the witnesses of a policy.
	MaxWitnesses = 64
)

// ErrPolicy says that a text is no policy, or one that this program can't follow.
var ErrPolicy = errors.New("witness: not a policy")

// Policy says which witnesses, and how many of them, must have cosigned a
// checkpoint for it to count. As a text it is c2sp.org/tlog-policy:
//
//	witness w1 w.example/1+0011aabb+BA… https://w.example/1
//	witness w2 x.example/1+22334455+BA… https://x.example/1
//	group all-of-ours 2 w1 w2
//	quorum all-of-ours
//
// Groups of groups are not understood, and refused.
type Policy struct {
	Members []Member
	// Quorum is how many of the members must have cosigned; 0 asks for none.
	Quorum int
}

// Member is one witness of a policy.
type Member struct {
	Key string // vkey, of type 0x04
	URL string // above its add-checkpoint; may be empty where nobody asks
	note.Verifier
}

// NewMember reads the key of a witness. The error is ErrKey.
func NewMember(vkey, url string) (Member, error) {
	v, err := NewVerifier(vkey)
	return Member{Key: vkey, URL: url, Verifier: v}, err
}

// Text writes the policy.
func (p *Policy) Text() string {
	var b strings.Builder
	b.WriteString("# Witnesses of the log, and how many must cosign a checkpoint (c2sp.org/tlog-policy)\n")
	group := fmt.Sprintf("group witnesses %d", p.Quorum)
	for i, m := range p.Members {
		fmt.Fprintf(&b, "witness w%d %s", i+1, m.Key)
		if m.URL != "" {
			b.WriteString(" " + m.URL)
		}
		b.WriteString("\n")
		group += fmt.Sprintf(" w%d", i+1)
	}
	if p.Quorum == 0 {
		return b.String() + "quorum none\n"
	}
	return b.String() + group + "\nquorum witnesses\n"
}

// ParsePolicy reads a policy. The error is ErrPolicy or ErrKey.
func ParsePolicy(text []byte) (*Policy, error) {
	if len(text) > MaxPolicySize {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrPolicy, MaxPolicySize)
	}
	r := &policyReader{witnesses: map[string]Member{}, groups: map[string]group{}}
	for i, line := range strings.Split(string(text), "\n") {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) > 0 {
			if err := r.line(f); err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
		}
	}
	if r.quorum == "" {
		return nil, fmt.Errorf("%w: it names no quorum", ErrPolicy)
	}
	p := &Policy{}
	if m, ok := r.witnesses[r.quorum]; ok {
		p.Members, p.Quorum = []Member{m}, 1
	} else if g, ok := r.groups[r.quorum]; ok {
		p.Members, p.Quorum = g.members, g.quorum
	}
	return p, p.check()
}

// check refuses a policy that counts one key twice, or asks for more than there
// are.
func (p *Policy) check() error {
	if p.Quorum < 0 || p.Quorum > len(p.Members) || len(p.Members) > MaxWitnesses {
		return fmt.Errorf("%w: %d of %d witnesses", ErrPolicy, p.Quorum, len(p.Members))
	}
	seen := map[string]bool{}
	for _, m := range p.Members {
		key := strings.SplitN(m.Key, "+", 3)[2] // under another name it is the same witness
		if seen[key] {
			return fmt.Errorf("%w: the key of %q stands there twice", ErrPolicy, m.Name())
		}
		seen[key] = true
	}
	return nil
}

type policyReader struct {
	witnesses map[string]Member
	groups    map[string]group
	quorum    string
}

type group struct {
	members []Member
	quorum  int
}

func (r *policyReader) line(f []string) error {
	wrong := func(what string) error { return fmt.Errorf("%w: %s", ErrPolicy, what) }
	if f[0] == "witness" || f[0] == "group" {
		if len(f) < 3 || len(f[1]) == 0 || f[1] == "none" {
			return wrong("a " + f[0] + " without a name and what follows")
		}
		if _, ok := r.witnesses[f[1]]; ok || r.groups[f[1]].members != nil {
			return wrong(strconv.Quote(f[1]) + " is there twice")
		}
	}
	switch f[0] {
	case "log": // whose policy it is, the caller knows
	case "witness":
		if len(f) > 4 {
			return wrong("more than a name, a key and a URL")
		}
		m, err := NewMember(f[2], "")
		if err != nil {
			return err
		}
		if len(f) == 4 {
			if u, err := url.Parse(f[3]); err != nil || u.Host == "" {
				return wrong("no URL of a witness")
			}
			m.URL = f[3]
		}
		r.witnesses[f[1]] = m
	case "group":
		var g group
		for _, name := range f[3:] {
			m, ok := r.witnesses[name]
			if !ok {
				return wrong(strconv.Quote(name) + " is no witness above; groups of groups are not supported")
			}
			g.members = append(g.members, m)
		}
		switch f[2] {
		case "any":
			g.quorum = 1
		case "all":
			g.quorum = len(g.members)
		default:
			n, err := strconv.ParseUint(f[2], 10, 8)
			if err != nil {
				return wrong("a group's second word is any, all or a number")
			}
			g.quorum = int(n)
		}
		if g.quorum < 1 || g.quorum > len(g.members) {
			return wrong("a group asks for none of its witnesses, or for more than it has")
		}
		r.groups[f[1]] = g
	case "quorum":
		if len(f) != 2 || r.quorum != "" {
			return wrong("one quorum must be named")
		}
		_, single := r.witnesses[f[1]]
		if _, ok := r.groups[f[1]]; !ok && !single && f[1] != "none" {
			return wrong(strconv.Quote(f[1]) + " is no witness or group above")
		}
		r.quorum = f[1]
	default:
		return wrong(strconv.Quote(f[0]) + " is no keyword")
	}
	return nil
}

// Cosignature is the good cosignature of a note by a member.
type Cosignature struct {
	Witness string    // name of its key
	Time    time.Time // by the witness's clock, UTC, whole seconds
}

// Cosignatures returns the members' cosignatures of a signed note, in the note's
// order. A bad one under a member's name and key id is an error; those of others
// are not looked at. Whether the log signed the note is another question.
func (p *Policy) Cosignatures(signed []byte) ([]Cosignature, error) {
	verifiers := make([]note.Verifier, 0, len(p.Members))
	for _, m := range p.Members {
		verifiers = append(verifiers, m)
	}
	n, err := note.Open(signed, note.VerifierList(verifiers...))
	var unverified *note.UnverifiedNoteError
	if errors.As(err, &unverified) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("couldn't verify the cosignatures: %w", err)
	}
	var all []Cosignature
	for _, s := range n.Sigs {
		b, err := base64.StdEncoding.DecodeString(s.Base64)
		if err != nil || len(b) < 12 {
			return nil, fmt.Errorf("couldn't verify the cosignatures: %w", ErrKey)
		}
		all = append(all, Cosignature{s.Name, time.Unix(int64(binary.BigEndian.Uint64(b[4:])), 0).UTC()})
	}
	return all, nil
}

// Satisfied reports whether enough members cosigned a note.
func (p *Policy) Satisfied(signed []byte) bool {
	all, err := p.Cosignatures(signed)
	return err == nil && len(all) >= p.Quorum
}
