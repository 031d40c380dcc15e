package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"scripta/internal/config"
	"scripta/internal/durable"
	"scripta/internal/keys"
	"scripta/mta/mailbox"
)

// initIn runs `scripta init --dir dir` with more arguments.
func initIn(dir string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = runInit(append([]string{"--dir", dir}, args...), &out, &errs)
	return code, out.String(), errs.String()
}

// The layout is what docs, backups and later releases rely on.
func TestInitLayout(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "pec")
	code, out, errs := initIn(dir, "--domain", "pec.example.test", "--provider", "Esempio S.p.A.",
		"--account", "alice:pass:word", "--account", "bob:segreto", "--port-base", "20000")
	if code != 0 || errs != "" {
		t.Fatalf("exit %d: %s", code, errs)
	}
	want := map[string]fs.FileMode{
		".":            fs.ModeDir | 0o711,
		"accounts":     0o600,
		"archive":      fs.ModeDir | 0o700,
		"keys":         fs.ModeDir | 0o700,
		"keys/log.key": 0o600, "keys/master.key": 0o600,
		"keys/months": fs.ModeDir | 0o700, "keys/months/service.secret": 0o600,
		"keys/pec.key": 0o600, "keys/pec.pem": 0o600,
		"keys/pec":                   fs.ModeDir | 0o700,
		"keys/quickstart":            fs.ModeDir | 0o700,
		"keys/quickstart/pec-ca.key": 0o600, "keys/quickstart/tls-ca.key": 0o600, "keys/quickstart/tsa-ca.key": 0o600,
		"keys/tls.key": 0o600, "keys/tls.pem": 0o600, "keys/tsu.key": 0o600, "keys/tsu.pem": 0o600,
		"log": fs.ModeDir | 0o700, "mail": fs.ModeDir | 0o700,
		"mail/pec.example.test": fs.ModeDir | 0o700,
		"public":                fs.ModeDir | 0o755,
		"public/ca.pem":         0o644, "public/log.vkey": 0o644, "public/tls-ca.pem": 0o644, "public/tsa-ca.pem": 0o644,
		"receipts":     fs.ModeDir | 0o700,
		"scripta.toml": 0o600,
		"spool":        fs.ModeDir | 0o700,
	}
	chain, err := keys.LoadCertificates(filepath.Join(dir, "keys", "pec.pem"))
	if err != nil {
		t.Fatal(err)
	}
	want[fmt.Sprintf("keys/pec/%x.pem", sha256.Sum256(chain[0].Raw))] = 0o600
	for _, user := range []string{"alice", "bob", "posta-certificata"} {
		box := "mail/pec.example.test/" + user
		for _, d := range []string{box, box + "/tmp", box + "/new", box + "/cur"} {
			want[d] = fs.ModeDir | 0o700
		}
		if user != "posta-certificata" {
			want[box+"/maildirsize"] = 0o600
		}
	}
	got := make(map[string]fs.FileMode)
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		got[rel] = fi.Mode()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range want {
		if got[name] != mode {
			t.Errorf("%s: %v, want %v", name, got[name], mode)
		}
	}
	for name, mode := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("unexpected %s (%v)", name, mode)
		}
	}
	if entries, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(entries) != 1 {
		t.Errorf("beside the folder lie %v, %v", entries, err)
	}
	for _, password := range []string{"pass:word", "segreto"} {
		if strings.Contains(out, password) {
			t.Error("a password is printed")
		}
	}
	for _, say := range []string{"SENZA VALORE LEGALE", "no legal value", calledAs(os.Args[0]) + " serve --dir " + dir, "127.0.0.1:20465", "alice@pec.example.test"} {
		if !strings.Contains(out, say) {
			t.Errorf("the output does not say %q:\n%s", say, out)
		}
	}
	checkProvider(t, config.Dir(dir))
}

// checkProvider opens everything that init made the way a daemon does.
func checkProvider(t *testing.T, dir config.Dir) {
	t.Helper()
	cfg, err := config.Load(dir.Config())
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Domain != "pec.example.test" || cfg.Provider != "Esempio S.p.A." || cfg.Listen.PortBase != 20000 || cfg.Clock.Policy != config.ClockMark {
		t.Errorf("configuration: %+v", cfg)
	}
	for _, p := range []struct {
		key, cert, root string
		usage           x509.ExtKeyUsage
	}{
		{dir.PECKey(), dir.PECCertificate(), dir.PublicCA(), x509.ExtKeyUsageEmailProtection},
		{dir.TLSKey(), dir.TLSCertificate(), dir.PublicTLSCA(), x509.ExtKeyUsageServerAuth},
		{dir.TSUKey(), dir.TSUCertificate(), dir.PublicTSACA(), x509.ExtKeyUsageTimeStamping},
	} {
		_, chain, err := keys.LoadPair(p.key, p.cert)
		if err != nil {
			t.Fatal(err)
		}
		roots, err := keys.LoadCertificates(p.root)
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		for _, r := range roots {
			pool.AddCert(r)
		}
		if _, err := chain[0].Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{p.usage}}); err != nil {
			t.Errorf("%s: %v", p.cert, err)
		}
	}
	signer, err := keys.LoadNoteSigner(dir.LogKey())
	if err != nil {
		t.Fatal(err)
	}
	vkey, err := os.ReadFile(dir.PublicLogKey())
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(vkey)))
	if err != nil || verifier.Name() != cfg.Origin() || signer.Name() != cfg.Origin() || signer.KeyHash() != verifier.KeyHash() {
		t.Errorf("the log's keys do not fit its origin %s: %s %v", cfg.Origin(), vkey, err)
	}
	months, err := keys.OpenMonths(durable.OS, dir.Months(), dir.MasterKey())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := months.Open(keys.MonthOf(time.Now())); err != nil {
		t.Error(err)
	}
	checkAccounts(t, dir, cfg)
}

func checkAccounts(t *testing.T, dir config.Dir, cfg config.Config) {
	t.Helper()
	accounts, err := mailbox.OpenAccounts(mailbox.AccountsOptions{File: dir.Accounts()})
	if err != nil {
		t.Fatal(err)
	}
	for _, login := range []struct {
		user, password string
		want           bool
	}{{"alice", "pass:word", true}, {"alice", "pass", false}, {"bob", "segreto", true}, {"posta-certificata", "", false}} {
		ok, err := accounts.Verify(t.Context(), login.user+"@"+cfg.Domain, login.password)
		if err != nil || ok != login.want {
			t.Errorf("login of %s: %v, %v", login.user, ok, err)
		}
	}
	if list := accounts.List(); len(list) != 2 || list[0].Quota != cfg.Mail.DefaultQuotaBytes {
		t.Errorf("accounts: %+v", list)
	}
	store, err := mailbox.Open(dir.Mail(), mailbox.Options{Host: cfg.Domain, Quota: accounts.Quota})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, box := range []string{"alice", "bob", "posta-certificata"} {
		if !store.Exists(box + "@" + cfg.Domain) {
			t.Errorf("no mailbox of %s", box)
		}
	}
	if text, err := os.ReadFile(dir.Accounts()); err != nil || bytes.Contains(text, []byte("segreto")) || !bytes.Contains(text, []byte("argon2id")) {
		t.Errorf("accounts file: %v\n%s", err, text)
	}
}

// An existing folder is filled in place: it may be a mount.
func TestInitIntoAnEmptyFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	accounts := filepath.Join(t.TempDir(), "accounts")
	if err := os.WriteFile(accounts, []byte("# comment\n\nalice:pass:word\r\nbob:segreto"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs := initIn(dir, "--domain", "pec.example.test", "--provider", "Esempio S.p.A.", "--port-base", "20000", "--accounts-file", accounts)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	checkProvider(t, config.Dir(dir))
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("left over: %s", e.Name())
		}
	}
}

func TestInitRefusesAFolderThatHoldsAnything(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"x": "is not empty (it holds x)", ".hidden": "is not empty", stagePrefix + "1": "was killed"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, errs := initIn(dir, "--domain", "pec.example.test")
		if code != 1 || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%s: exit %d, %q %q", name, code, out, errs)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("%s: the folder was changed: %v %v", name, entries, err)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := initIn(file, "--domain", "pec.example.test"); code != 1 || !strings.Contains(errs, "not a directory") {
		t.Errorf("a file: exit %d, %q", code, errs)
	}
}

func TestInitRefusesBadArguments(t *testing.T) {
	t.Parallel()
	ok := []string{"--domain", "pec.example.test"}
	noColon := filepath.Join(t.TempDir(), "accounts")
	if err := os.WriteFile(noColon, []byte("alice:p\nbob\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"no domain":           {nil, "--domain: no domain"},
		"upper case":          {[]string{"--domain", "PEC.example.test"}, "not in lower case"},
		"path in the domain":  {[]string{"--domain", "../x.test"}, "letters, digits and hyphens"},
		"provider":            {append(ok, "--provider", "a\nb"), "--provider"},
		"ports":               {append(ok, "--port-base", "65000"), "--port-base"},
		"port text":           {append(ok, "--port-base", "x"), "port-base"},
		"no colon":            {append(ok, "--account", "alice"), "no ':'"},
		"empty password":      {append(ok, "--account", "alice:"), "password is empty"},
		"no local part":       {append(ok, "--account", ":p4ss"), "local part"},
		"twice":               {append(ok, "--account", "alice:p4ss", "--account", "alice:p4ss2"), "twice"},
		"twice in two cases":  {append(ok, "--account", "alice:p4ss", "--account", "Alice:p4ss"), `"Alice" is given twice`},
		"whole address":       {append(ok, "--account", "alice@pec.example.test:p4ss"), "local part"},
		"path":                {append(ok, "--account", "../x:p4ss"), "local part"},
		"dot":                 {append(ok, "--account", ".:p4ss"), "local part"},
		"reserved":            {append(ok, "--account", "posta-certificata:p4ss"), "reserved"},
		"reserved postmaster": {append(ok, "--account", "postmaster:p4ss"), "reserved"},
		"reserved abuse":      {append(ok, "--account", "abuse:p4ss"), "reserved"},
		"reserved log":        {append(ok, "--account", "richiesta-log:p4ss"), "reserved"},
		"unknown flag":        {append(ok, "--acount", "alice:p4ss"), "acount"},
		"argument":            {append(ok, "alice:p4ss"), "without its flag"},
		"no accounts file":    {append(ok, "--accounts-file", noColon+".absent"), "no such file"},
		"bad accounts file":   {append(ok, "--accounts-file", noColon), "accounts:2: no ':'"},
	} {
		dir := filepath.Join(t.TempDir(), "pec")
		code, out, errs := initIn(dir, tc.args...)
		if code != 2 || out != "" || !strings.Contains(errs, tc.want) {
			t.Errorf("%s: exit %d, %q %q; want %q", name, code, out, errs, tc.want)
		}
		if strings.Contains(errs, "p4ss") {
			t.Errorf("%s: a password is printed: %s", name, errs)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: a folder was made", name)
		}
	}
	if code := runInit(ok, &bytes.Buffer{}, &bytes.Buffer{}); code != 2 {
		t.Errorf("no --dir: exit %d", code)
	}
}

// A failed or interrupted init leaves nothing, beside or in the folder.
func TestInitLeavesNothingHalfMade(t *testing.T) {
	t.Parallel()
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	good := config.Quickstart("pec.example.test", "P", "0123abcd", 20000)
	bad := good
	bad.Log.ID = "" // the configuration, which is written last, is refused
	for name, tc := range map[string]struct {
		ctx  context.Context
		cfg  config.Config
		want string
	}{
		"interrupted":  {interrupted, good, "interrupted"},
		"fails at end": {t.Context(), bad, "log.id"},
	} {
		for _, there := range []bool{false, true} {
			parent := t.TempDir()
			dir := filepath.Join(parent, "pec")
			if there {
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			r := initRequest{dir: dir, domain: tc.cfg.Domain, provider: tc.cfg.Provider, accounts: []initAccount{{"alice", "p4ss"}}}
			err := buildProvider(tc.ctx, r, tc.cfg)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: %v", name, err)
			}
			entries, err := os.ReadDir(parent)
			if err != nil {
				t.Fatal(err)
			}
			if there {
				if len(entries) != 1 {
					t.Errorf("%s: left %v", name, entries)
				}
				entries, err = os.ReadDir(dir)
			}
			if err != nil || len(entries) != 0 {
				t.Errorf("%s: left %v, %v", name, entries, err)
			}
		}
	}
}
