package tsa

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/digitorus/pkcs7"
	"github.com/digitorus/timestamp"

	"scripta/internal/cms"
	"scripta/internal/cms/cmstest"
)

var (
	testDay    = []byte("il registro di un giorno\n")
	testDigest = sha256.Sum256(testDay)
	testPolicy = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1, 1}
	testTime   = time.Date(2026, 3, 4, 10, 20, 30, 0, time.UTC)
	testNonce  = big.NewInt(0x5eed_5eed)
)

// unit is a time-stamping unit below a CA of its own.
type unit struct {
	ca   *cmstest.CA
	key  crypto.Signer
	cert *x509.Certificate
}

func newUnit(t testing.TB, changes ...func(*x509.Certificate)) unit {
	t.Helper()
	u := unit{ca: cmstest.New(t), key: cmstest.ECDSA(t)}
	u.cert = u.ca.Issue(t, u.key.Public(), append([]func(*x509.Certificate){cmstest.TimeStamping}, changes...)...)
	return u
}

func (u unit) check() Check {
	return Check{Digest: testDigest, Nonce: testNonce, Roots: u.ca.Roots, Policies: []asn1.ObjectIdentifier{testPolicy}}
}

func testImprint(t testing.TB, hash crypto.Hash, digest []byte) imprint {
	t.Helper()
	req, err := (&timestamp.Request{HashAlgorithm: hash, HashedMessage: digest}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	// SEQUENCE { INTEGER 1, MessageImprint }
	return imprint{raw: req[5:]}
}

func testInfo(t testing.TB) *tstInfo {
	second := time.Second
	return &tstInfo{policy: testPolicy, imprint: testImprint(t, crypto.SHA256, testDigest[:]), serial: big.NewInt(42), time: testTime, accuracy: &second, nonce: testNonce}
}

// token signs a TSTInfo as our authority does.
func (u unit) token(t testing.TB, tstInfo []byte, certificates bool) []byte {
	t.Helper()
	s, err := cms.NewSigner(u.key, u.cert, u.ca.Intermediate)
	if err != nil {
		t.Fatal(err)
	}
	token, err := s.Encapsulate(oidTSTInfo(), tstInfo, testTime, certificates)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func marshal(t testing.TB, i *tstInfo) []byte {
	t.Helper()
	b, err := i.marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// otherToken is made by the library digitorus/timestamp.
func (u unit) otherToken(t testing.TB, change func(*timestamp.Timestamp)) []byte {
	t.Helper()
	ts := timestamp.Timestamp{
		HashAlgorithm: crypto.SHA256, HashedMessage: testDigest[:], Time: testTime, Policy: testPolicy, Accuracy: time.Second,
		Nonce: testNonce, AddTSACertificate: true, Certificates: []*x509.Certificate{u.ca.Intermediate},
	}
	change(&ts)
	reply, err := ts.CreateResponseWithOpts(u.cert, u.key, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// bareToken signs a TSTInfo with chosen signing-certificate attributes.
func (u unit) bareToken(t testing.TB, attrs ...pkcs7.Attribute) []byte {
	t.Helper()
	sd, err := pkcs7.NewSignedData(marshal(t, testInfo(t)))
	if err != nil {
		t.Fatal(err)
	}
	sd.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	sd.SetContentType(oidTSTInfo())
	if err := sd.AddSignerChain(u.cert, u.key, []*x509.Certificate{u.ca.Intermediate}, pkcs7.SignerInfoConfig{ExtraSignedAttributes: attrs}); err != nil {
		t.Fatal(err)
	}
	token, err := sd.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// ess is a signing-certificate attribute that holds hash.
func ess(t testing.TB, last int, hash []byte) pkcs7.Attribute {
	t.Helper()
	type id struct{ Hash []byte }
	b, err := asn1.Marshal(struct{ IDs []id }{[]id{{hash}}})
	if err != nil {
		t.Fatal(err)
	}
	return pkcs7.Attribute{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, last}, Value: asn1.RawValue{FullBytes: b}}
}

func digest(h crypto.Hash, b []byte) []byte {
	d, _ := cms.DigestOf(b)(h)
	return d
}

func TestVerify(t *testing.T) {
	t.Parallel()
	usage := func(critical bool, uses ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.ExtraExtensions = nil
			c.ExtKeyUsage = uses
			if critical { // let crypto/x509 encode it, then mark it
				b := cmstest.New(t).Issue(t, cmstest.ECDSA(t).Public(), func(d *x509.Certificate) { d.ExtKeyUsage = uses })
				for _, e := range b.Extensions {
					if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 37}) {
						e.Critical = true
						c.ExtraExtensions, c.ExtKeyUsage = []pkix.Extension{e}, nil
					}
				}
			}
		}
	}
	ours := func(change func(*tstInfo)) func(*testing.T, unit) []byte {
		return func(t *testing.T, u unit) []byte {
			info := testInfo(t)
			change(info)
			return u.token(t, marshal(t, info), true)
		}
	}
	theirs := func(change func(*timestamp.Timestamp)) func(*testing.T, unit) []byte {
		return func(t *testing.T, u unit) []byte { return u.otherToken(t, change) }
	}
	right := ours(func(*tstInfo) {})
	accuracy := func(d time.Duration) func(*tstInfo) { return func(i *tstInfo) { i.accuracy = &d } }
	qc := func(statement asn1.ObjectIdentifier, critical bool) func(*timestamp.Timestamp) {
		return func(ts *timestamp.Timestamp) {
			type qcStatement struct{ ID asn1.ObjectIdentifier }
			b, err := asn1.Marshal([]qcStatement{{statement}})
			if err != nil {
				t.Fatal(err)
			}
			ts.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 3}, Critical: critical, Value: b}}
		}
	}
	etsi := asn1.ObjectIdentifier{0, 4, 0, 19422, 1, 1}
	sha384 := func(ts *timestamp.Timestamp) {
		ts.HashAlgorithm, ts.HashedMessage = crypto.SHA384, digest(crypto.SHA384, testDay)
	}
	for _, c := range []struct {
		name  string
		cert  func(*x509.Certificate)
		make  func(*testing.T, unit) []byte
		check func(unit, *Check)
		want  string // the check that fails; "" if none
		cause error
	}{
		{name: "our token", make: right},
		{name: "our reply", make: func(t *testing.T, u unit) []byte {
			b, err := grant(right(t, u))
			if err != nil {
				t.Fatal(err)
			}
			return b
		}},
		{name: "digitorus' reply", make: theirs(func(*timestamp.Timestamp) {})},
		{name: "granted with modifications", make: func(t *testing.T, u unit) []byte {
			b := u.otherToken(t, func(*timestamp.Timestamp) {})
			i := bytes.Index(b, []byte{0x30, 0x03, 0x02, 0x01, 0x00})
			b[i+4] = 1
			return b
		}},
		{name: "no nonce expected", make: right, check: func(_ unit, c *Check) { c.Nonce = nil }},
		{name: "any policy", make: right, check: func(_ unit, c *Check) { c.Policies = nil }},
		{name: "finest accuracy", make: ours(accuracy(time.Microsecond))},
		{name: "qualified", make: theirs(qc(etsi, false)), check: func(_ unit, c *Check) { c.RequireQualified = true }},
		{name: "certificate at hand, not in the token", make: func(t *testing.T, u unit) []byte { return u.token(t, marshal(t, testInfo(t)), false) },
			check: func(u unit, c *Check) { c.Certificates = []*x509.Certificate{u.cert, u.ca.Intermediate} }},
		{name: "both signing-certificate attributes", make: func(t *testing.T, u unit) []byte {
			return u.bareToken(t, ess(t, 47, digest(crypto.SHA256, u.cert.Raw)), ess(t, 12, digest(crypto.SHA1, u.cert.Raw)))
		}},

		{name: "nothing", make: func(*testing.T, unit) []byte { return nil }, want: CheckFormat, cause: cms.ErrMalformed},
		{name: "too large", make: func(*testing.T, unit) []byte { return make([]byte, MaxReply+1) }, want: CheckFormat, cause: cms.ErrTooLarge},
		{name: "trailing byte after a token", make: func(t *testing.T, u unit) []byte { return append(right(t, u), 0) }, want: CheckFormat, cause: cms.ErrTrailing},
		{name: "trailing byte after a reply", make: func(t *testing.T, u unit) []byte { return append(u.otherToken(t, func(*timestamp.Timestamp) {}), 0) }, want: CheckFormat, cause: cms.ErrTrailing},
		{name: "two tokens in a reply", make: func(t *testing.T, u unit) []byte {
			b, err := grant(append(right(t, u), right(t, u)...))
			if err != nil {
				t.Fatal(err)
			}
			return b
		}, want: CheckFormat, cause: cms.ErrTrailing},
		{name: "trailing byte in TSTInfo", make: func(t *testing.T, u unit) []byte { return u.token(t, append(marshal(t, testInfo(t)), 0), true) }, want: CheckFormat},
		{name: "granted without token", make: func(t *testing.T, _ unit) []byte { return []byte{0x30, 5, 0x30, 3, 2, 1, 0} }, want: CheckFormat},
		{name: "rejected", make: func(t *testing.T, _ unit) []byte {
			b, err := refuse(timestamp.TimeNotAvailable)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}, want: CheckStatus},
		{name: "another kind of content", make: func(t *testing.T, u unit) []byte {
			s, err := cms.NewSigner(u.key, u.cert)
			if err != nil {
				t.Fatal(err)
			}
			b, err := s.SignAttached(marshal(t, testInfo(t)), testTime)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}, want: CheckAttributes, cause: cms.ErrContentType},
		{name: "no certificate", make: func(t *testing.T, u unit) []byte { return u.token(t, marshal(t, testInfo(t)), false) }, want: CheckSigner, cause: cms.ErrNoCertificate},
		{name: "tampered time", make: func(t *testing.T, u unit) []byte {
			return bytes.Replace(right(t, u), []byte("20260304102030Z"), []byte("20010304102030Z"), 1)
		}, want: CheckAttributes, cause: cms.ErrMessageDigest},
		{name: "tampered time and digest", make: func(t *testing.T, u unit) []byte {
			info := marshal(t, testInfo(t))
			forged := bytes.Replace(info, []byte("20260304102030Z"), []byte("20010304102030Z"), 1)
			b := bytes.Replace(right(t, u), info, forged, 1)
			return bytes.Replace(b, digest(crypto.SHA256, info), digest(crypto.SHA256, forged), 1)
		}, want: CheckSignature, cause: cms.ErrSignature},
		{name: "no signing-certificate", make: func(t *testing.T, u unit) []byte { return u.bareToken(t) }, want: CheckESS, cause: cms.ErrNoSigningCertificate},
		{name: "wrong signing-certificate", make: func(t *testing.T, u unit) []byte { return u.bareToken(t, ess(t, 47, make([]byte, 32))) }, want: CheckESS, cause: cms.ErrSigningCertificate},
		{name: "wrong old signing-certificate beside the right new one", make: func(t *testing.T, u unit) []byte {
			return u.bareToken(t, ess(t, 47, digest(crypto.SHA256, u.cert.Raw)), ess(t, 12, make([]byte, 20)))
		}, want: CheckESS, cause: cms.ErrSigningCertificate},
		{name: "old signing-certificate", make: func(t *testing.T, u unit) []byte { return u.bareToken(t, ess(t, 12, digest(crypto.SHA1, u.cert.Raw))) }, want: CheckESS},
		{name: "old signing-certificate, accepted", make: func(t *testing.T, u unit) []byte { return u.bareToken(t, ess(t, 12, digest(crypto.SHA1, u.cert.Raw))) },
			check: func(_ unit, c *Check) { c.AllowESSv1 = true }},
		{name: "old signing-certificate wrong, accepted if right", make: func(t *testing.T, u unit) []byte { return u.bareToken(t, ess(t, 12, make([]byte, 20))) },
			check: func(_ unit, c *Check) { c.AllowESSv1 = true }, want: CheckESS},
		{name: "web server's certificate", make: right, cert: usage(false, x509.ExtKeyUsageServerAuth), want: CheckUsage},
		{name: "web server's certificate, critical", make: right, cert: usage(true, x509.ExtKeyUsageServerAuth), want: CheckUsage},
		{name: "use not critical", make: right, cert: usage(false, x509.ExtKeyUsageTimeStamping), want: CheckUsage},
		{name: "two uses", make: right, cert: usage(true, x509.ExtKeyUsageTimeStamping, x509.ExtKeyUsageEmailProtection), want: CheckUsage},
		{name: "any use", make: right, cert: usage(true, x509.ExtKeyUsageAny), want: CheckUsage},
		{name: "a CA", make: right, cert: func(c *x509.Certificate) { c.IsCA = true }, want: CheckUsage},
		{name: "before the certificate existed", make: ours(func(i *tstInfo) { i.time = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC) }), want: CheckValidity},
		{name: "a second before the certificate was valid", make: ours(func(i *tstInfo) { i.time = cmstest.NotBefore.Add(-time.Second) }), want: CheckValidity},
		{name: "after the certificate expired", make: right, cert: func(c *x509.Certificate) { c.NotAfter = testTime.Add(-time.Second) }, want: CheckValidity},
		{name: "issuer expired at that time", make: ours(func(i *tstInfo) { i.time = cmstest.NotAfter.Add(time.Hour) }),
			cert: func(c *x509.Certificate) { c.NotAfter = cmstest.NotAfter.Add(24 * time.Hour) }, want: CheckChain},
		{name: "untrusted", make: right, check: func(_ unit, c *Check) { c.Roots = cmstest.New(t).Roots }, want: CheckChain, cause: cms.ErrUntrusted},
		{name: "no roots", make: right, check: func(_ unit, c *Check) { c.Roots = nil }, want: CheckChain, cause: cms.ErrUntrusted},
		{name: "key may not sign", make: right, cert: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }, want: CheckChain, cause: cms.ErrUsage},
		{name: "other imprint", make: right, check: func(_ unit, c *Check) { c.Digest[0] ^= 1 }, want: CheckImprint},
		{name: "imprint of another hash", make: theirs(sha384), want: CheckImprint},
		{name: "imprint of SHA-1", make: ours(func(i *tstInfo) { i.imprint = testImprint(t, crypto.SHA1, make([]byte, 20)) }), want: CheckAlgorithm},
		{name: "missing nonce", make: ours(func(i *tstInfo) { i.nonce = nil }), want: CheckNonce},
		{name: "other nonce", make: ours(func(i *tstInfo) { i.nonce = big.NewInt(1) }), want: CheckNonce},
		{name: "other policy", make: right, check: func(_ unit, c *Check) { c.Policies = []asn1.ObjectIdentifier{{0, 4, 0, 2023, 1, 1}} }, want: CheckPolicy},
		{name: "no accuracy", make: ours(func(i *tstInfo) { i.accuracy = nil }), want: CheckAccuracy},
		{name: "coarse accuracy", make: ours(accuracy(time.Second + time.Microsecond)), want: CheckAccuracy},
		{name: "coarse accuracy, accepted", make: ours(accuracy(60*time.Second + 5*time.Millisecond)), check: func(_ unit, c *Check) { c.MaxAccuracy = 61 * time.Second }},
		{name: "not qualified", make: right, check: func(_ unit, c *Check) { c.RequireQualified = true }, want: CheckQualified},
		{name: "another qcStatement", make: theirs(qc(asn1.ObjectIdentifier{0, 4, 0, 1862, 1, 1}, false)), check: func(_ unit, c *Check) { c.RequireQualified = true }, want: CheckQualified},
		{name: "unknown critical extension", make: theirs(func(ts *timestamp.Timestamp) {
			ts.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}), want: CheckFormat},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var changes []func(*x509.Certificate)
			if c.cert != nil {
				changes = append(changes, c.cert)
			}
			u := newUnit(t, changes...)
			check := u.check()
			if c.check != nil {
				c.check(u, &check)
			}
			token, err := Verify(c.make(t, u), check)
			if c.want == "" {
				if err != nil || !token.Certificate.Equal(u.cert) || len(token.Chain) != 3 || !token.Time.Equal(testTime) || token.Policy != testPolicy.String() {
					t.Fatalf("%+v, %v", token, err)
				}
				if again, err := Verify(token.DER, check); err != nil || again.Serial.Cmp(token.Serial) != 0 {
					t.Errorf("its bare token: %v", err)
				}
				return
			}
			failed, ok := errors.AsType[*CheckError](err)
			if !ok || failed.Check != c.want || token != nil || (c.cause != nil && !errors.Is(err, c.cause)) {
				t.Errorf("%+v, %v; want a failure of %s", token, err, c.want)
			}
		})
	}
}

func TestQualifiedIsReported(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	for _, want := range []bool{true, false} {
		token, err := Verify(u.otherToken(t, func(ts *timestamp.Timestamp) { ts.Qualified = want }), u.check())
		if err != nil || token.Qualified != want {
			t.Errorf("%+v, %v; want qualified %v", token, err, want)
		}
	}
}

func TestGenTime(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]time.Time{
		"20260304102030Z":       testTime,
		"20260304102030.5Z":     testTime.Add(500 * time.Millisecond),
		"20260304102030.71107Z": testTime.Add(711070 * time.Microsecond),
		"20260304102030+0100":   {},
		"20260304102030,5Z":     {},
		"20260304102030":        {},
		"202603041020Z":         {},
		"20260230102030Z":       {},
		"20260304102030Z ":      {},
		"":                      {},
	} {
		got, err := parseGenTime(s)
		if (err == nil) != !want.IsZero() || (err == nil && !got.Equal(want)) {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	if _, err := parseGenTime("20161231235960Z"); !errors.Is(err, errLeapSecond) {
		t.Errorf("leap second: %v", err)
	}
}

func TestTSTInfoSurvivesEncoding(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{time.Microsecond, time.Millisecond, 999 * time.Millisecond, time.Second, 1500400 * time.Microsecond, 3 * time.Hour} {
		info := testInfo(t)
		info.accuracy, info.ordering = &d, true
		got, err := parseTSTInfo(marshal(t, info))
		if err != nil || *got.accuracy != d || !got.ordering || got.nonce.Cmp(testNonce) != 0 || got.serial.Int64() != 42 {
			t.Errorf("%v: %+v, %v", d, got, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	u := newUnit(f)
	reply := u.otherToken(f, func(ts *timestamp.Timestamp) { ts.Qualified = true })
	bare := u.token(f, marshal(f, testInfo(f)), true)
	f.Add(reply, true)
	f.Add(bare, true)
	f.Add(marshal(f, testInfo(f)), false)
	rejected, err := refuse(timestamp.BadAlgorithm)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(rejected, true)
	c := u.check()
	signer, err := cms.NewSigner(u.key, u.cert, u.ca.Intermediate)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte, whole bool) {
		if !whole { // reach the parser of TSTInfo with a good signature
			if _, err := parseTSTInfo(b); err != nil {
				return
			}
			var err error
			if b, err = signer.Encapsulate(oidTSTInfo(), b, testTime, true); err != nil {
				t.Fatal(err)
			}
		}
		token, err := Verify(b, c)
		if _, ok := errors.AsType[*CheckError](err); err != nil && !ok {
			t.Fatalf("untyped error: %v", err)
		}
		if err == nil && (token.Accuracy > DefaultMaxAccuracy || token.Nonce.Cmp(testNonce) != 0) {
			t.Fatalf("accepted %+v", token)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	u := newUnit(b)
	token := u.token(b, marshal(b, testInfo(b)), true)
	c := u.check()
	for b.Loop() {
		if _, err := Verify(token, c); err != nil {
			b.Fatal(err)
		}
	}
}

func TestNewNonceIsRandom(t *testing.T) {
	t.Parallel()
	a, err := NewNonce()
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewNonce()
	if err != nil || a.Cmp(b) == 0 {
		t.Errorf("%v twice, %v", a, err)
	}
}
