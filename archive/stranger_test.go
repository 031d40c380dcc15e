package archive

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"scripta/internal/cms/cmstest"
)

// A stranger checks a package with sha256sum and openssl alone.
func TestStranger(t *testing.T) {
	t.Parallel()
	r, p, _ := twoDays(t)
	sha256sum, openssl := cmstest.Program(t, "sha256sum"), cmstest.Program(t, "openssl")
	ca, tsca := cmstest.WritePEM(t, r.h.roots[0]), cmstest.WritePEM(t, r.h.roots[1])
	stamp := p.Index.Stamps[len(p.Index.Stamps)-1]
	for name, args := range map[string][]string{
		"sums":      {sha256sum, "--check", "--strict", nameSums},
		"signature": {openssl, "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", nameSignature, "-content", nameIndex, "-CAfile", ca, "-out", "/dev/null"},
		"stamp":     {openssl, "ts", "-verify", "-data", stampName(stamp, "txt"), "-in", stampName(stamp, "tsr"), "-CAfile", tsca},
		"request":   {openssl, "ts", "-verify", "-queryfile", stampName(stamp, "tsq"), "-in", stampName(stamp, "tsr"), "-CAfile", tsca},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = p.Dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// python reads a package by the description of its format alone: the frames, the
// leaves, both roots and every sum.
const python = `
import hashlib, json, struct, sys
h = lambda *p: hashlib.sha256(b"".join(p)).digest()
x = json.load(open("index.json"))
edge, size = [bytes.fromhex(l) for l in open("frontier.txt").read().split()], x["start_size"]
def root():
    if not edge: return h()
    r = edge[-1]
    for e in reversed(edge[:-1]): r = h(b"\x01", e, r)
    return r
assert root().hex() == x["start_root"], "start root"
leaves, records = open("leaves.bin", "rb").read(), open("records.sealed", "rb").read()
classes = {1: 0, 2: 0}
for index in range(x["start_size"], x["end_size"]):
    leaf, leaves = leaves[:34], leaves[34:]
    classes[leaf[1]] += 1
    node, s = h(b"\x00", leaf), size
    while s & 1: node, s = h(b"\x01", edge.pop(), node), s >> 1
    edge.append(node); size += 1
    n, i, month = struct.unpack(">IQH", records[:14])
    assert i == index and (month == 0) == (leaf[1] == 2), "frame"
    body, records = records[14:14+n], records[14+n:]
    assert body[:24] == h(b"scripta/package-nonce/v1", struct.pack(">Q", index), leaf)[:24], "nonce"
assert not leaves and not records, "too long"
assert root().hex() == x["end_root"], "end root"
assert classes[1] == x["records"]["personal"] and classes[2] == x["records"]["service"], "counts"
for f in x["files"]:
    assert hashlib.sha256(open(f["name"], "rb").read()).hexdigest() == f["sha256"], f["name"]
print(x["package"])
`

// The description of the format is enough to read a package.
func TestPython(t *testing.T) {
	t.Parallel()
	_, p, before := twoDays(t)
	program := cmstest.Program(t, "python3")
	script := cmstest.WriteFile(t, "package.py", []byte(python))
	for _, p := range []*Package{before, p} {
		cmd := exec.Command(program, script)
		cmd.Dir = p.Dir
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != fmt.Sprintln(filepath.Base(p.Dir)) {
			t.Errorf("%v\n%s", err, out)
		}
	}
}
