package archive

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"scripta/internal/cms"
	"scripta/internal/cms/cmstest"
	"scripta/merkle/checkpoint"
	"scripta/register/evidence"
)

// twoDays closes two days, the second with stamps within, and returns its
// package and the one before.
func twoDays(t testing.TB) (r *rig, p, before *Package) {
	t.Helper()
	r = newRig(t)
	c := r.closer()
	for i := range 5 {
		r.record(day(20).Add(time.Duration(i) * time.Hour))
	}
	r.close(c, day(21))
	for i := range 9 {
		r.record(day(21).Add(time.Duration(i) * time.Hour))
		if i == 4 {
			r.set(day(21).Add(5 * time.Hour))
			if _, err := r.m.stampNow(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.close(c, day(22))
	all := r.check(day(20), day(22))
	return r, all[1], all[0]
}

// One byte changed anywhere in any file: a check that is named for it fails.
func TestTampering(t *testing.T) {
	t.Parallel()
	r, p, before := twoDays(t)
	// Besides SHA256SUMS, which notices all, and "file NAME".
	checks := map[string]string{
		nameRecords: "", nameLeaves: "leaves", nameCheckpoint: "checkpoint", nameFrontier: "leaves", nameConsistency: "consistency",
		stampName(11, "txt"): "time stamp 11", stampName(11, "tsr"): "", stampName(11, "tsq"): "",
		stampName(15, "txt"): "time stamp 15", stampName(15, "tsr"): "", stampName(15, "tsq"): "",
		"certificates/ca.pem": "", "certificates/tsa-ca.pem": "",
		nameIndex: "", nameSignature: "", nameSums: "",
	}
	positions := 0
	for name, content := range contents(t, p.Dir) {
		check, known := checks[name]
		if !known {
			t.Errorf("%s is not in the table", name)
		}
		delete(checks, name)
		path := filepath.Join(p.Dir, name)
		for at := 0; at < len(content); at += 1 + len(content)/130 {
			positions++
			b := []byte(content)
			b[at] ^= 1 << (at % 8)
			must(t, os.WriteFile(path, b, 0o600))
			rep := Verify(p.Dir, r.h.trust, before)
			if rep.OK() || !failed(rep, nameSums) {
				t.Fatalf("%s, byte %d: %s", name, at, rep.Verdict())
			}
			want := []string{"file " + name}
			switch name {
			case nameIndex:
				if !failed(rep, "index") && !failed(rep, "index signature") {
					t.Errorf("%s, byte %d: %s", name, at, rep.Verdict())
				}
				want = nil
			case nameSignature, nameSums:
				want = nil
			}
			if check != "" {
				want = append(want, check)
			}
			for _, w := range want {
				if !failed(rep, w) {
					t.Errorf("%s, byte %d: %q did not fail: %s", name, at, w, rep.Verdict())
				}
			}
		}
		must(t, os.WriteFile(path, []byte(content), 0o600))
	}
	for name := range checks {
		t.Errorf("%s is not in the package", name)
	}
	if positions < 1000 {
		t.Errorf("only %d positions were changed", positions)
	}
	if rep := Verify(p.Dir, r.h.trust, before); !rep.OK() {
		t.Fatalf("restored: %s", rep.Verdict())
	}
}

// forge writes a package's index, signature and sums anew, as the provider could.
func (r *rig) forge(p *Package, x *Index) {
	r.t.Helper()
	s := &stage{fsys: r.fs, dir: p.Dir, files: slices.Clone(x.Files)}
	for _, name := range []string{nameIndex, nameSignature, nameSums} {
		must(r.t, os.Remove(filepath.Join(p.Dir, name)))
	}
	b, err := x.encode()
	must(r.t, err)
	must(r.t, s.put(nameIndex, b))
	sig, err := r.h.signer.Sign(sha256.Sum256(b), x.Created)
	must(r.t, err)
	must(r.t, s.put(nameSignature, sig))
	must(r.t, s.put(nameSums, sums(s.files)))
}

// replace writes a file of the package and its sum into the index.
func (r *rig) replace(p *Package, name string, content []byte) {
	r.t.Helper()
	must(r.t, os.WriteFile(filepath.Join(p.Dir, name), content, 0o600))
	for i := range p.Index.Files {
		if p.Index.Files[i].Name == name {
			p.Index.Files[i] = FileSum{name, int64(len(content)), sha256.Sum256(content)}
		}
	}
}

// What even the provider cannot write: everything is signed anew, and still one
// check, and no other kind, fails.
func TestProviderCannotForge(t *testing.T) {
	t.Parallel()
	read := func(p *Package, name string) []byte {
		b, err := os.ReadFile(filepath.Join(p.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, c := range map[string]struct {
		forge func(t *testing.T, r *rig, p *Package)
		want  string
	}{
		"nothing": {func(*testing.T, *rig, *Package) {}, ""},
		"a leaf": {func(t *testing.T, r *rig, p *Package) {
			b := read(p, nameLeaves)
			b[10]++
			r.replace(p, nameLeaves, b)
		}, "leaves,time stamp 11"},
		"a leaf less": {func(t *testing.T, r *rig, p *Package) {
			b := read(p, nameLeaves)
			r.replace(p, nameLeaves, b[:len(b)-34])
		}, "leaves,records"},
		"a leaf more": {func(t *testing.T, r *rig, p *Package) {
			b := read(p, nameLeaves)
			r.replace(p, nameLeaves, append(b, b[:34]...))
		}, "leaves,records"},
		"the frontier": {func(t *testing.T, r *rig, p *Package) {
			b := read(p, nameFrontier)
			b[0] ^= 1
			r.replace(p, nameFrontier, b)
		}, "leaves,time stamp 11"},
		"the frontier's length": {func(t *testing.T, r *rig, p *Package) { r.replace(p, nameFrontier, nil) }, "leaves,time stamp 11"},
		"records exchanged": {func(t *testing.T, r *rig, p *Package) {
			b := read(p, nameRecords)
			copy(b[4:12], b[4+12:])
			r.replace(p, nameRecords, b)
		}, "records"},
		"records cut short": {func(t *testing.T, r *rig, p *Package) {
			b := read(p, nameRecords)
			r.replace(p, nameRecords, b[:len(b)-1])
		}, "records"},
		"a record more": {func(t *testing.T, r *rig, p *Package) {
			r.replace(p, nameRecords, frame{index: p.Index.EndSize}.append(read(p, nameRecords)))
		}, "records"},
		"another checkpoint": {func(t *testing.T, r *rig, p *Package) {
			cp, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: testOrigin, Size: p.Index.Checkpoint, Root: [32]byte{1}}, r.h.logSigner)
			must(t, err)
			r.replace(p, nameCheckpoint, cp.Note)
		}, "consistency,time stamp 15"},
		"a checkpoint of another size": {func(t *testing.T, r *rig, p *Package) {
			r.replace(p, nameCheckpoint, r.m.stamps[0].Signed.Note)
		}, "checkpoint,consistency"},
		"the proofs": {func(t *testing.T, r *rig, p *Package) {
			r.replace(p, nameConsistency, encodeSteps(step{from: p.Index.StartSize, to: p.Index.EndSize}, step{from: p.Index.EndSize, to: p.Index.Checkpoint}))
		}, "consistency"},
		"no proofs": {func(t *testing.T, r *rig, p *Package) { r.replace(p, nameConsistency, nil) }, "consistency"},
		"a stamp of another": {func(t *testing.T, r *rig, p *Package) {
			r.replace(p, stampName(11, "tsr"), r.m.stamps[2].Reply)
		}, "time stamp 11"},
		"a stamp over another log": {func(t *testing.T, r *rig, p *Package) {
			cp, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: testOrigin, Size: 11, Root: [32]byte{1}}, r.h.logSigner)
			must(t, err)
			st, err := r.h.stamp(context.Background(), cp)
			must(t, err)
			r.replace(p, stampName(11, "txt"), cp.Note)
			r.replace(p, stampName(11, "tsr"), st.Reply)
		}, "time stamp 11"},
		"the end root":       {func(t *testing.T, r *rig, p *Package) { p.Index.EndRoot[0]++ }, "leaves,consistency"},
		"the start root":     {func(t *testing.T, r *rig, p *Package) { p.Index.StartRoot[0]++ }, "leaves,consistency,previous package,time stamp 11"},
		"the previous index": {func(t *testing.T, r *rig, p *Package) { p.Index.Previous.Index[0]++ }, "previous package"},
		"the origin":         {func(t *testing.T, r *rig, p *Package) { p.Index.Origin = "x" }, "checkpoint,consistency,index signature,time stamp 11,time stamp 15,previous package"},
		"another file": {func(t *testing.T, r *rig, p *Package) {
			must(t, os.WriteFile(filepath.Join(p.Dir, "x"), nil, 0o600))
		}, nameSums + ",no other files"},
		"another folder": {func(t *testing.T, r *rig, p *Package) {
			must(t, os.Mkdir(filepath.Join(p.Dir, "x"), 0o700))
		}, "folder"},
		"a link": {func(t *testing.T, r *rig, p *Package) {
			must(t, os.Remove(filepath.Join(p.Dir, nameLeaves)))
			must(t, os.Symlink(filepath.Join(t.TempDir(), "x"), filepath.Join(p.Dir, nameLeaves)))
		}, "folder," + nameSums + ",file leaves.bin,leaves,records,time stamp 11"},
		"a file less": {func(t *testing.T, r *rig, p *Package) {
			must(t, os.Remove(filepath.Join(p.Dir, nameCheckpoint)))
		}, nameSums + ",file checkpoint.txt,checkpoint,consistency"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, p, before := twoDays(t)
			c.forge(t, r, p)
			r.forge(p, p.Index)
			if name == "a file less" { // forge lists it
				must(t, os.WriteFile(filepath.Join(p.Dir, nameSums), sums(p.Index.Files), 0o600))
			}
			rep := Verify(p.Dir, r.h.trust, before)
			var got []string
			for _, check := range rep.Checks {
				if check.Err != nil && !check.Warning {
					got = append(got, check.Name)
				}
			}
			var want []string
			if c.want != "" {
				want = strings.Split(c.want, ",")
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Fatalf("failed %q, want %q\n%s", got, want, failures(rep))
			}
		})
	}
}

// A verifier trusts only what he brought along.
func TestTrust(t *testing.T) {
	t.Parallel()
	r, p, before := twoDays(t)
	other := newHouse(t, r.now)
	for want, trust := range map[string]evidence.Trust{
		"index signature": {PEC: other.trust.PEC, TSA: r.h.trust.TSA, Log: r.h.trust.Log},
		"time stamp 15":   {PEC: r.h.trust.PEC, TSA: other.trust.TSA, Log: r.h.trust.Log},
	} {
		if rep := Verify(p.Dir, trust, before); !failed(rep, want) {
			t.Errorf("%s did not fail", want)
		}
	}
	// A certificate for other things does not sign packages.
	ca := cmstest.New(t)
	key := cmstest.ECDSA(t)
	r.h.signer, _ = cms.NewSigner(key, ca.Issue(t, key.Public(), cmstest.TimeStamping), ca.Intermediate)
	r.forge(p, p.Index)
	trust := r.h.trust
	trust.PEC = ca.Roots
	if rep := Verify(p.Dir, trust, before); !failed(rep, "index signature") {
		t.Error("a certificate for time stamps signed a package")
	}
}

// The package before: none at hand is a warning, another one a failure.
func TestPrevious(t *testing.T) {
	t.Parallel()
	r, p, before := twoDays(t)
	rep := Verify(p.Dir, r.h.trust, nil)
	last := rep.Checks[len(rep.Checks)-1]
	if !rep.OK() || !last.Warning || last.Err == nil {
		t.Errorf("without the package before: %s, %v", rep.Verdict(), last)
	}
	if rep := Verify(before.Dir, r.h.trust, p); !failed(rep, "previous package") {
		t.Errorf("the first package continues the second: %s", rep.Verdict())
	}
	if rep := Verify(p.Dir, r.h.trust, p); !failed(rep, "previous package") {
		t.Errorf("a package continues itself: %s", rep.Verdict())
	}
	if rep := Verify(filepath.Join(t.TempDir(), "none"), r.h.trust, nil); rep.OK() {
		t.Error("a package that is not there verifies")
	}
}

// A package under another name, or damaged, is told by VerifyAll and Packages.
func TestVerifyAllNames(t *testing.T) {
	t.Parallel()
	r, p, _ := twoDays(t)
	moved := filepath.Join(r.dir, Interval{day(22), day(23)}.String())
	must(t, os.Rename(p.Dir, moved))
	all, err := VerifyAll(r.dir, r.h.trust)
	if err != nil || len(all) != 2 || !all[0].Report.OK() || !failed(all[1].Report, "name") {
		t.Fatalf("%v, %v", all, err)
	}
	if _, err := Packages(r.dir); !errors.Is(err, ErrTiling) {
		t.Errorf("Packages: %v", err)
	}
	if all, err := Packages(filepath.Join(r.dir, "none")); err != nil || len(all) != 0 {
		t.Errorf("no folder: %v, %v", all, err)
	}
}

// The provider's own check finds records that do not open, or are others than
// the index says.
func TestVerifyRecords(t *testing.T) {
	t.Parallel()
	r, p, _ := twoDays(t)
	sealed, err := os.ReadFile(filepath.Join(p.Dir, nameRecords))
	must(t, err)
	for at := 0; at < len(sealed); at += 37 {
		sealed[at] ^= 0x40
		must(t, os.WriteFile(filepath.Join(p.Dir, nameRecords), sealed, 0o600))
		if c := VerifyRecords(p, r.m); c.Err == nil {
			t.Fatalf("byte %d changed: %s", at, c.Detail)
		}
		sealed[at] ^= 0x40
	}
	must(t, os.WriteFile(filepath.Join(p.Dir, nameRecords), sealed, 0o600))
	if c := VerifyRecords(p, r.m); c.Err != nil {
		t.Fatal(c.Err)
	}
	for name, change := range map[string]func(x *Index){
		"plaintext": func(x *Index) { x.Months[0].Plaintext[3]++ },
		"newest":    func(x *Index) { x.Records.Newest = x.Records.Oldest },
		"end":       func(x *Index) { x.End = x.Start.Add(time.Minute) },
		"id":        func(x *Index) { x.Origin += "x" },
	} {
		q, err := load(p.Dir)
		must(t, err)
		change(q.Index)
		if c := VerifyRecords(q, r.m); c.Err == nil {
			t.Errorf("%s changed in the index, and nothing noticed", name)
		}
	}
}
