package relay

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// stsPolicy is an MTA-STS policy (RFC 8461 §3.2).
type stsPolicy struct {
	mode   string        // "enforce", "testing" or "none"
	mx     []string      // names or patterns of one label ("*.example"), in lower case
	maxAge time.Duration // how long it may be kept
}

const (
	maxPolicy  = 64 << 10                 // octets of a policy that are read
	maxMXs     = 100                      // mx lines of one
	longestAge = 31_557_600 * time.Second // RFC 8461 §3.2
)

// errPolicy says that a text is no MTA-STS policy.
var errPolicy = errors.New("not an MTA-STS policy")

// parsePolicy reads a policy. Keys that it does not know are skipped, as the RFC says; of a key but mx the first counts.
func parsePolicy(text string) (*stsPolicy, error) {
	if len(text) > maxPolicy {
		return nil, fmt.Errorf("%w: it has %d octets", errPolicy, len(text))
	}
	p := new(stsPolicy)
	seen := map[string]string{}
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.Trim(line, " \t\r")
		if line == "" {
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		key, value = strings.TrimRight(key, " \t"), strings.Trim(value, " \t")
		if !ok || key == "" {
			return nil, fmt.Errorf("%w: a line without a colon", errPolicy)
		}
		if key == "mx" {
			name := strings.ToLower(value)
			if !hostname(strings.TrimPrefix(name, "*.")) || len(p.mx) == maxMXs {
				return nil, fmt.Errorf("%w: %.100q is no server, or one too many", errPolicy, value)
			}
			p.mx = append(p.mx, name)
			continue
		}
		if _, again := seen[key]; !again && len(seen) < maxMXs {
			seen[key] = value
		}
	}
	seconds, err := strconv.ParseUint(seen["max_age"], 10, 40)
	if err != nil || len(seen["max_age"]) > 10 {
		return nil, fmt.Errorf("%w: max_age is %.100q", errPolicy, seen["max_age"])
	}
	p.mode, p.maxAge = seen["mode"], min(time.Duration(seconds)*time.Second, longestAge)
	switch {
	case seen["version"] != "STSv1":
		return nil, fmt.Errorf("%w: version is %.100q", errPolicy, seen["version"])
	case p.mode != "enforce" && p.mode != "testing" && p.mode != "none":
		return nil, fmt.Errorf("%w: mode is %.100q", errPolicy, p.mode)
	case p.mode != "none" && len(p.mx) == 0:
		return nil, fmt.Errorf("%w: it names no server", errPolicy)
	}
	return p, nil
}

// enforce says whether mail may go only as the policy says.
func (p *stsPolicy) enforce() bool { return p.mode == "enforce" }

// allows says whether the policy lists a server (RFC 8461 §4.1): a pattern stands for exactly one label more.
func (p *stsPolicy) allows(host string) bool {
	_, parent, _ := strings.Cut(host, ".")
	for _, mx := range p.mx {
		if suffix, is := strings.CutPrefix(mx, "*."); mx == host || is && suffix == parent {
			return true
		}
	}
	return false
}

// stsID reads a domain's TXT records below _mta-sts. Anything but exactly one that begins as one is none.
func stsID(records []string) (id string, ok bool) {
	found := 0
	for _, r := range records {
		if version, rest, _ := strings.Cut(r, ";"); strings.TrimSpace(version) == "v=STSv1" {
			found++
			for field := range strings.SplitSeq(rest, ";") {
				if v, is := strings.CutPrefix(strings.TrimSpace(field), "id="); is && id == "" {
					id = v
				}
			}
		}
	}
	if found != 1 || id == "" || len(id) > 32 || strings.ContainsFunc(id, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	}) {
		return "", false
	}
	return id, true
}
