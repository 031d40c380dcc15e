package cms_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"scripta/internal/cms"
	"scripta/internal/cms/cmstest"
)

var (
	content = []byte("Subject: prova\r\n\r\nTesto di prova.\r\n")
	at      = time.Date(2026, 3, 4, 10, 20, 30, 0, time.UTC)
)

// kit is a signer of each kind, and how to verify what it makes.
type kit struct {
	ca     *cmstest.CA
	cert   *x509.Certificate
	signer *cms.Signer
}

func newKit(t testing.TB, key crypto.Signer, changes ...func(*x509.Certificate)) kit {
	t.Helper()
	ca := cmstest.New(t)
	cert := ca.Issue(t, key.Public(), changes...)
	s, err := cms.NewSigner(key, cert, ca.Intermediate)
	if err != nil {
		t.Fatal(err)
	}
	return kit{ca, cert, s}
}

func (k kit) policy() cms.Policy {
	return cms.Policy{Roots: k.ca.Roots, At: at, EKU: x509.ExtKeyUsageEmailProtection, RequireESS: true}
}

func p384(t testing.TB) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// keys are the kinds of key that a signer takes.
func keys(t testing.TB) map[string]crypto.Signer {
	return map[string]crypto.Signer{
		"RSA-2048": cmstest.RSA(t), "opaque RSA-2048": cmstest.Opaque(cmstest.RSA(t)),
		"P-256": cmstest.ECDSA(t), "opaque P-256": cmstest.Opaque(cmstest.ECDSA(t)), "P-384": p384(t),
	}
}

func TestSignedIsVerified(t *testing.T) {
	t.Parallel()
	for name, key := range keys(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, key)
			sig, err := k.signer.Sign(sha256.Sum256(content), at)
			if err != nil {
				t.Fatal(err)
			}
			if len(sig) > k.signer.MaxSize() || len(sig) < k.signer.MaxSize()-12 {
				t.Errorf("signature of %d bytes, MaxSize %d", len(sig), k.signer.MaxSize())
			}
			s, err := cms.Verify(sig, cms.DigestOf(content), k.policy())
			if err != nil {
				t.Fatal(err)
			}
			if !s.Certificate.Equal(k.cert) || !s.SigningTime.Equal(at) || s.Hash != crypto.SHA256 || !s.ESS || len(s.Chain) != 3 {
				t.Errorf("wrong result: %+v", s)
			}
			p7m, err := k.signer.SignAttached(content, at)
			if err != nil {
				t.Fatal(err)
			}
			got, _, err := cms.VerifyAttached(p7m, k.policy())
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("attached: %q, %v", got, err)
			}
		})
	}
}

func TestOtherLibrariesAcceptOurSignatures(t *testing.T) {
	t.Parallel()
	for name, key := range keys(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, key)
			sig, err := k.signer.Sign(sha256.Sum256(content), at)
			if err != nil {
				t.Fatal(err)
			}
			p7, err := pkcs7.Parse(sig)
			if err != nil {
				t.Fatal(err)
			}
			p7.Content = content
			if err := p7.VerifyWithChainAtTime(k.ca.Roots, at); err != nil {
				t.Error("smallstep/pkcs7:", err)
			}
		})
	}
}

func TestOpenSSLAcceptsOurSignatures(t *testing.T) {
	t.Parallel()
	openssl := cmstest.Program(t, "openssl")
	for name, key := range keys(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, key)
			sig, err := k.signer.Sign(sha256.Sum256(content), at)
			if err != nil {
				t.Fatal(err)
			}
			p7m, err := k.signer.SignAttached(content, at)
			if err != nil {
				t.Fatal(err)
			}
			root, file := cmstest.WritePEM(t, k.ca.Root), cmstest.WriteFile(t, "content", content)
			verify := func(sig []byte, more ...string) (string, error) {
				args := append([]string{"cms", "-verify", "-cades", "-binary", "-purpose", "smimesign", "-inform", "DER",
					"-in", cmstest.WriteFile(t, "sig", sig), "-CAfile", root}, more...)
				out, err := exec.Command(openssl, args...).CombinedOutput()
				return string(out), err
			}
			if out, err := verify(sig, "-content", file, "-out", os.DevNull); err != nil || !strings.Contains(out, "Verification successful") {
				t.Errorf("detached: %v\n%s", err, out)
			}
			if out, err := verify(p7m); err != nil || !strings.Contains(out, string(content)) {
				t.Errorf("attached: %v\n%s", err, out)
			}
			other := cmstest.WriteFile(t, "other", append([]byte("x"), content...))
			if out, err := verify(sig, "-content", other, "-out", os.DevNull); err == nil {
				t.Errorf("openssl accepts another content: %s", out)
			}
		})
	}
}

func TestSigningTimeEncoding(t *testing.T) {
	t.Parallel()
	k := newKit(t, cmstest.ECDSA(t))
	rome := time.FixedZone("CET", 3600)
	for _, when := range []time.Time{
		at.Add(999 * time.Millisecond), at.In(rome), time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		sig, err := k.signer.Sign(sha256.Sum256(content), when)
		if err != nil {
			t.Fatal(err)
		}
		if len(sig) > k.signer.MaxSize() {
			t.Errorf("%v: %d bytes, MaxSize %d", when, len(sig), k.signer.MaxSize())
		}
		s, err := cms.Verify(sig, cms.DigestOf(content), k.policy())
		if err != nil || !s.SigningTime.Equal(when.Truncate(time.Second)) {
			t.Errorf("signed at %v: %+v, %v", when, s, err)
		}
	}
	if _, err := k.signer.Sign(sha256.Sum256(content), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)); err == nil {
		t.Error("a time without an encoding was signed")
	}
}

func TestSignerIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	k := newKit(t, cmstest.ECDSA(t))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			body := bytes.Repeat([]byte{byte(i)}, i)
			sig, err := k.signer.Sign(sha256.Sum256(body), at)
			if err == nil {
				_, err = cms.Verify(sig, cms.DigestOf(body), k.policy())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestNewSignerRefuses(t *testing.T) {
	t.Parallel()
	ca, other := cmstest.New(t), cmstest.New(t)
	key := cmstest.ECDSA(t)
	cert := ca.Issue(t, key.Public())
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key   crypto.Signer
		cert  *x509.Certificate
		chain []*x509.Certificate
		want  error
	}{
		"no key":              {cert: cert},
		"no certificate":      {key: key},
		"another's key":       {key: cmstest.ECDSA(t), cert: cert},
		"weak RSA":            {key: weak, cert: ca.Issue(t, weak.Public()), want: cms.ErrWeakKey},
		"small curve":         {key: small, cert: ca.Issue(t, small.Public()), want: cms.ErrWeakKey},
		"another's authority": {key: key, cert: cert, chain: []*x509.Certificate{other.Intermediate}},
		"chain out of order":  {key: key, cert: cert, chain: []*x509.Certificate{ca.Root, ca.Intermediate}},
	} {
		if s, err := cms.NewSigner(c.key, c.cert, c.chain...); err == nil || s != nil || (c.want != nil && !errors.Is(err, c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// brokenKey answers what an HSM in trouble might.
type brokenKey struct {
	crypto.Signer
	sig []byte
	err error
}

func (b brokenKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return b.sig, b.err }

func TestSignReportsABrokenKey(t *testing.T) {
	t.Parallel()
	key := cmstest.ECDSA(t)
	lost := errors.New("token removed")
	for name, broken := range map[string]brokenKey{
		"error": {key, nil, lost}, "nothing": {key, nil, nil}, "too much": {key, make([]byte, 300), nil},
	} {
		k := newKit(t, broken)
		sig, err := k.signer.Sign(sha256.Sum256(content), at)
		if err == nil || sig != nil || (broken.err != nil && !errors.Is(err, lost)) {
			t.Errorf("%s: %x, %v", name, sig, err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	for name, key := range map[string]crypto.Signer{"RSA-2048": cmstest.RSA(b), "P-256": cmstest.ECDSA(b)} {
		k := newKit(b, key)
		digest := sha256.Sum256(content)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := k.signer.Sign(digest, at); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/key alone", func(b *testing.B) {
			for b.Loop() {
				if _, err := key.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	k := newKit(b, cmstest.RSA(b))
	sig, err := k.signer.Sign(sha256.Sum256(content), at)
	if err != nil {
		b.Fatal(err)
	}
	cached := k.policy()
	cached.Chains = new(cms.ChainCache)
	for name, p := range map[string]cms.Policy{"": k.policy(), "cached chain": cached} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := cms.Verify(sig, cms.DigestOf(content), p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
