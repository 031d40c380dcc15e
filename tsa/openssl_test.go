package tsa

import (
	"crypto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scripta/internal/cms/cmstest"
)

func TestOpenSSLAcceptsOurTokens(t *testing.T) {
	t.Parallel()
	openssl := cmstest.Program(t, "openssl")
	for name, key := range map[string]crypto.Signer{
		"RSA": cmstest.RSA(t), "ECDSA": cmstest.ECDSA(t), "opaque RSA": cmstest.Opaque(cmstest.RSA(t)), "opaque ECDSA": cmstest.Opaque(cmstest.ECDSA(t)),
	} {
		for _, hash := range []string{"sha256", "sha384", "sha512"} {
			t.Run(name+" "+hash, func(t *testing.T) {
				t.Parallel()
				u := unit{ca: cmstest.New(t), key: key}
				u.cert = u.ca.Issue(t, key.Public(), cmstest.TimeStamping)
				a := u.authority(t)
				data, root := cmstest.WriteFile(t, "day.log", testDay), cmstest.WritePEM(t, u.ca.Root)
				tsq := cmstest.WriteFile(t, "day.tsq", nil)
				run(t, openssl, "ts", "-query", "-data", data, "-"+hash, "-cert", "-out", tsq)
				query, err := os.ReadFile(tsq)
				if err != nil {
					t.Fatal(err)
				}
				reply, err := a.Respond(query)
				if err != nil {
					t.Fatal(err)
				}
				tsr := cmstest.WriteFile(t, "day.tsr", reply)
				for _, against := range [][]string{{"-data", data}, {"-queryfile", tsq}} {
					out := run(t, openssl, append([]string{"ts", "-verify", "-in", tsr, "-CAfile", root}, against...)...)
					if !strings.Contains(out, "Verification: OK") {
						t.Errorf("%v: %s", against, out)
					}
				}
				if out := run(t, openssl, "ts", "-reply", "-in", tsr, "-text"); !strings.Contains(out, "NOT QUALIFIED") || !strings.Contains(out, "Accuracy: 0x01 seconds") {
					t.Errorf("the token does not say what it is:\n%s", out)
				}
				token, err := tokenOf(reply)
				if err != nil {
					t.Fatal(err)
				}
				tst := cmstest.WriteFile(t, "day.tst", token)
				if out := run(t, openssl, "ts", "-verify", "-in", tst, "-token_in", "-CAfile", root, "-data", data); !strings.Contains(out, "Verification: OK") {
					t.Errorf("bare token: %s", out)
				}
			})
		}
	}
}

func TestOpenSSLReadsOurRejection(t *testing.T) {
	t.Parallel()
	openssl := cmstest.Program(t, "openssl")
	u := newUnit(t)
	reply, err := u.authority(t).Respond([]byte("nonsense"))
	if err == nil {
		t.Fatal("no reason given")
	}
	out := run(t, openssl, "ts", "-reply", "-in", cmstest.WriteFile(t, "r.tsr", reply), "-text")
	if !strings.Contains(out, "Status: Rejected") || !strings.Contains(out, "wrong format") {
		t.Error(out)
	}
}

func TestWeAcceptOpenSSLTokens(t *testing.T) {
	t.Parallel()
	openssl := cmstest.Program(t, "openssl")
	for name, c := range map[string]struct {
		config []string
		check  func(*Check)
		want   string // check that fails
	}{
		"plain":           {},
		"fractions":       {config: []string{"clock_precision_digits = 6"}},
		"fine accuracy":   {config: []string{"accuracy = secs:0, millisecs:500, microsecs:100"}},
		"chain in ESS":    {config: []string{"ess_cert_id_chain = yes"}},
		"ESS of SHA-512":  {config: []string{"ess_cert_id_alg = sha512"}},
		"signed SHA-512":  {config: []string{"signer_digest = sha512"}},
		"ESS of SHA-1":    {config: []string{"ess_cert_id_alg = sha1"}, want: CheckESS},
		"ESS v1 accepted": {config: []string{"ess_cert_id_alg = sha1"}, check: func(c *Check) { c.AllowESSv1 = true }},
		"signed SHA-1":    {config: []string{"signer_digest = sha1"}, want: CheckAlgorithm},
		"no accuracy":     {config: []string{"accuracy ="}, want: CheckAccuracy},
		"coarse accuracy": {config: []string{"accuracy = secs:60"}, want: CheckAccuracy},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := unit{ca: cmstest.New(t), key: cmstest.RSA(t)}
			u.cert = u.ca.Issue(t, u.key.Public(), cmstest.TimeStamping)
			dir := t.TempDir()
			settings := map[string]string{
				"serial": filepath.Join(dir, "serial"), "crypto_device": "builtin", "signer_cert": cmstest.WritePEM(t, u.cert),
				"certs": cmstest.WritePEM(t, u.ca.Intermediate), "signer_key": cmstest.WriteKey(t, u.key), "signer_digest": "sha256",
				"default_policy": testPolicy.String(), "digests": "sha256", "accuracy": "secs:1", "ordering": "no", "tsa_name": "yes",
				"ess_cert_id_chain": "no", "ess_cert_id_alg": "sha256",
			}
			for _, line := range c.config {
				k, v, _ := strings.Cut(line, "=")
				settings[strings.TrimSpace(k)] = strings.TrimSpace(v)
			}
			config := "[tsa]\ndefault_tsa = t\n[t]\n"
			for k, v := range settings {
				if v != "" {
					config += k + " = " + v + "\n"
				}
			}
			data, tsq, tsr := cmstest.WriteFile(t, "day.log", testDay), filepath.Join(dir, "tsq"), filepath.Join(dir, "tsr")
			run(t, openssl, "ts", "-query", "-data", data, "-sha256", "-cert", "-no_nonce", "-out", tsq)
			run(t, openssl, "ts", "-reply", "-config", cmstest.WriteFile(t, "tsa.cnf", []byte(config)), "-queryfile", tsq, "-out", tsr)
			reply, err := os.ReadFile(tsr)
			if err != nil {
				t.Fatal(err)
			}
			check := u.check()
			check.Nonce = nil
			if c.check != nil {
				c.check(&check)
			}
			token, err := Verify(reply, check)
			if c.want != "" {
				if !isCheck(err, c.want) {
					t.Errorf("%+v, %v; want a failure of %s", token, err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := time.Since(token.Time); d < -time.Minute || d > time.Hour || !token.Certificate.Equal(u.cert) || token.Nonce != nil {
				t.Errorf("%+v", token)
			}
		})
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
