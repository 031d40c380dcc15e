package main

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"scripta/internal/config"
	"scripta/internal/keys"
	"scripta/merkle/checkpoint"
	"scripta/merkle/tiles"
	"scripta/merkle/witness"
	"scripta/mta"
	"scripta/register/evidence"
	"scripta/register/record"
)

const verifyUsage = `usage: scripta verify FILE --trust FOLDER
       scripta verify FILE.tlog-proof --leaf HEX --trust FOLDER

Checks an evidence file without network and without the provider, against what
you trust: FOLDER holds ca.pem, tsa-ca.pem and log.vkey, got from elsewhere than
the file. Prints every check and, last, VERIFIED, "VERIFIED, time stamp pending"
or what failed. Exits 0 or 1. If FOLDER also holds witnesses (c2sp.org/tlog-policy), a
quorum of those must have cosigned a checkpoint that covers every event. With --leaf the file is a proof as the provider serves
it at /v1/records/INDEX/proof: that the log which log.vkey names has that leaf.

`

func runVerify(args []string, stdout, stderr io.Writer) int {
	f := newFlags("verify", verifyUsage, stdout, stderr)
	trust := f.String("trust", "", "`FOLDER` with ca.pem, tsa-ca.pem, log.vkey and, if wanted, witnesses")
	leaf := f.String("leaf", "", "`HEX` of the leaf that a *.tlog-proof is of, as an evidence file has it")
	quiet := f.Bool("quiet", false, "print only what failed, and the verdict")
	files, code, ok := f.parseWith(args)
	switch {
	case !ok:
		return code
	case len(files) != 1:
		return f.wrong("it takes one file, not %d", len(files))
	case *trust == "":
		return f.wrong("--trust is missing")
	}
	if *leaf != "" {
		said, err := verifyProof(files[0], *leaf, *trust)
		if err != nil {
			return f.failed(err)
		}
		fmt.Fprintln(stdout, said+"\nVERIFIED")
		return 0
	}
	t, err := loadTrust(*trust)
	if err != nil {
		return f.failed(err)
	}
	report, err := verifyFile(files[0], t)
	if err != nil {
		return f.failed(err)
	}
	if cause := likelyCause(report, t.Log.Name(), *trust); cause != "" {
		fmt.Fprintf(stdout, "likely cause: %s\n", cause)
	}
	printChecks(stdout, report.Checks, *quiet)
	fmt.Fprintln(stdout, report.Verdict())
	if !report.OK() {
		return 1
	}
	return 0
}

// likelyCause tells what a person should look at first when a file does not
// verify: most often it is that he trusts another provider. log is the name of
// the log that he trusts.
func likelyCause(r *evidence.Report, log, folder string) string {
	var origin string
	tried, failed := map[string]int{}, map[string]int{}
	for _, c := range r.Checks {
		kind := checkKind(c.Name)
		tried[kind]++
		if c.Err != nil && !c.Warning {
			failed[kind]++
		}
		if c.Name == "manifest" {
			origin, _, _ = strings.Cut(c.Detail, ",")
		}
	}
	all := func(kind string) bool { return failed[kind] > 0 && failed[kind] == tried[kind] }
	for _, kind := range []string{"container", "container form", "SHA256SUMS", "manifest", "files"} {
		if failed[kind] > 0 {
			return "" // the file itself is not what was written
		}
	}
	switch {
	case !all("checkpoint") && !all("manifest signature") && !all("time stamp"):
		return ""
	case origin != log:
		return fmt.Sprintf("the file is of the log %s, and %s holds the key of %s: give the folder of the right provider", origin, folder, log)
	case all("checkpoint"):
		return folder + "/log.vkey is not the key of the log that the file is of"
	case all("manifest signature"):
		return folder + "/ca.pem is not the authority of the provider that signed the file"
	}
	return folder + "/tsa-ca.pem is not the authority of the time stamps"
}

// checkKind is a check's name without the number of what it is about.
func checkKind(name string) string { return strings.TrimRight(name, "0123456789 →") }

// alike is how many failures of one kind, for one reason, are printed.
const alike = 3

// printChecks prints a line for each check. Failures of one kind for one reason
// are counted after the first few.
func printChecks(w io.Writer, checks []evidence.Check, quiet bool) {
	type group struct{ kind, reason string }
	seen := map[group]int{}
	var order []group
	for _, c := range checks {
		if c.Err != nil && !c.Warning {
			g := group{checkKind(c.Name), c.Err.Error()}
			if seen[g]++; seen[g] == 1 {
				order = append(order, g)
			}
			if seen[g] > alike {
				continue
			}
		}
		switch {
		case c.Err == nil && quiet:
		case c.Err == nil:
			fmt.Fprintf(w, "ok      %-28s %s\n", c.Name, c.Detail)
		case c.Warning:
			fmt.Fprintf(w, "note    %-28s %v\n", c.Name, c.Err)
		default:
			fmt.Fprintf(w, "FAILED  %-28s %v\n", c.Name, c.Err)
		}
	}
	for _, g := range order {
		if more := seen[g] - alike; more > 0 {
			fmt.Fprintf(w, "FAILED  %-28s %s\n", fmt.Sprintf("%s, and %d more", g.kind, more), g.reason)
		}
	}
}

func verifyFile(name string, t *evidence.Trust) (*evidence.Report, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return evidence.Verify(file, st.Size(), *t), nil
}

// verifyProof checks a proof that a log has a leaf.
func verifyProof(name, leaf, trust string) (said string, err error) {
	value, err := hex.DecodeString(leaf)
	if err != nil {
		return "", fmt.Errorf("--leaf: %w", err)
	}
	logs, err := loadLogKeys(filepath.Join(trust, filepath.Base(config.Dir("").PublicLogKey())))
	if err != nil {
		return "", err
	}
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, checkpoint.MaxProofSize+1))
	if err != nil {
		return "", err
	}
	p, err := checkpoint.ParseProof(text)
	if err != nil {
		return "", err
	}
	var cp *checkpoint.Signed
	for _, log := range logs { // a signature says by its name which key it is for
		if cp, err = p.Verify(tiles.LeafHash(value), log); err == nil {
			break
		}
	}
	if err != nil {
		return "", err
	}
	policy, err := loadWitnesses(trust)
	if err != nil {
		return "", err
	}
	if policy != nil && !policy.Satisfied(cp.Note) {
		return "", fmt.Errorf("its checkpoint is not cosigned by %d of the witnesses that %s names", policy.Quorum, trust)
	}
	return fmt.Sprintf("ok      leaf %d of %d in %s", p.Index, cp.Size, cp.Origin), nil
}

// loadTrust reads what a verifier trusts, by the names that a provider's public
// folder gives it.
func loadTrust(folder string) (*evidence.Trust, error) {
	names := config.Dir("")
	path := func(name string) string { return filepath.Join(folder, filepath.Base(name)) }
	pec, err := loadPool(path(names.PublicCA()))
	if err != nil {
		return nil, err
	}
	stampers, err := loadPool(path(names.PublicTSACA()))
	if err != nil {
		return nil, err
	}
	logs, err := loadLogKeys(path(names.PublicLogKey()))
	if err != nil {
		return nil, err
	}
	policy, err := loadWitnesses(folder)
	if err != nil {
		return nil, err
	}
	log := logs[len(logs)-1]
	return &evidence.Trust{PEC: pec, TSA: stampers, Log: log, Past: logs[:len(logs)-1], Witnesses: policy, Receipt: func(m io.Reader, rec *record.Record, at time.Time) error {
		return mta.VerifyIssued(m, rec, at, pec, evidence.ServiceAddress(log.Name()))
	}}, nil
}

// loadWitnesses reads which witnesses are trusted, if the folder says so.
func loadWitnesses(folder string) (*witness.Policy, error) {
	name := filepath.Join(folder, filepath.Base(config.Dir("").PublicWitnesses()))
	file, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, witness.MaxPolicySize+1))
	if err != nil {
		return nil, err
	}
	p, err := witness.ParsePolicy(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

func loadPool(name string) (*x509.CertPool, error) {
	certs, err := keys.LoadCertificates(name)
	if err != nil {
		return nil, fmt.Errorf("%w (--trust wants a folder with ca.pem, tsa-ca.pem and log.vkey)", err)
	}
	return pool(certs), nil
}
