package tsa

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/digitorus/timestamp"

	"scripta/internal/cms/cmstest"
)

func (u unit) config() AuthorityConfig {
	return AuthorityConfig{
		Key: u.key, Certificate: u.cert, Chain: []*x509.Certificate{u.ca.Intermediate}, Policy: testPolicy,
		Now: func() (time.Time, error) { return testTime.Add(999 * time.Millisecond), nil },
	}
}

func (u unit) authority(t testing.TB) *Authority {
	t.Helper()
	a, err := NewAuthority(u.config())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func isCheck(err error, want string) bool {
	failed, ok := errors.AsType[*CheckError](err)
	return ok && failed.Check == want
}

func query(t testing.TB, change func(*timestamp.Request)) []byte {
	t.Helper()
	r := &timestamp.Request{HashAlgorithm: crypto.SHA256, HashedMessage: testDigest[:], Certificates: true, Nonce: testNonce}
	if change != nil {
		change(r)
	}
	b, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAuthorityGrants(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	a := u.authority(t)
	serials := map[string]bool{}
	for range 20 {
		reply, err := a.Respond(query(t, nil))
		if err != nil {
			t.Fatal(err)
		}
		token, err := Verify(reply, u.check())
		if err != nil {
			t.Fatal(err)
		}
		if !token.Time.Equal(testTime) || token.Accuracy != time.Second || token.Qualified || token.Ordering {
			t.Errorf("%+v", token)
		}
		if other, err := timestamp.ParseResponse(reply); err != nil || other.Qualified || !other.Time.Equal(testTime) || other.SerialNumber.Cmp(token.Serial) != 0 {
			t.Errorf("digitorus reads %+v, %v", other, err)
		}
		if token.Serial.BitLen() > 160 {
			t.Errorf("serial number of %d bits", token.Serial.BitLen())
		}
		serials[token.Serial.String()] = true
	}
	if len(serials) != 20 {
		t.Errorf("%d serial numbers for 20 tokens", len(serials))
	}
}

func TestAuthorityLeavesOutCertificatesNobodyAskedFor(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	reply, err := u.authority(t).Respond(query(t, func(r *timestamp.Request) { r.Certificates = false }))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(reply, u.check()); !isCheck(err, CheckSigner) {
		t.Errorf("without certificates: %v", err)
	}
	c := u.check()
	c.Certificates = []*x509.Certificate{u.cert, u.ca.Intermediate}
	if _, err := Verify(reply, c); err != nil {
		t.Error(err)
	}
}

func TestAuthorityRefuses(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	short := newUnit(t, func(c *x509.Certificate) { c.NotAfter = testTime.Add(-time.Hour) })
	for _, c := range []struct {
		name   string
		unit   unit
		query  []byte
		config func(*AuthorityConfig)
		want   timestamp.FailureInfo
	}{
		{name: "nothing", want: timestamp.BadDataFormat},
		{name: "text", query: []byte("GET / HTTP/1.1\r\n\r\n"), want: timestamp.BadDataFormat},
		{name: "trailing byte", query: append(query(t, nil), 0), want: timestamp.BadDataFormat},
		{name: "version 2", query: bytes.Replace(query(t, nil), []byte{2, 1, 1, 0x30}, []byte{2, 1, 2, 0x30}, 1), want: timestamp.BadRequest},
		{name: "SHA-1", query: query(t, func(r *timestamp.Request) { r.HashAlgorithm, r.HashedMessage = crypto.SHA1, make([]byte, 20) }), want: timestamp.BadAlgorithm},
		{name: "short imprint", query: query(t, func(r *timestamp.Request) { r.HashedMessage = make([]byte, 31) }), want: timestamp.BadDataFormat},
		{name: "imprint of another hash", query: query(t, func(r *timestamp.Request) { r.HashAlgorithm = crypto.SHA512 }), want: timestamp.BadDataFormat},
		{name: "other policy", query: query(t, func(r *timestamp.Request) { r.TSAPolicyOID = asn1.ObjectIdentifier{1, 2, 3} }), want: timestamp.UnacceptedPolicy},
		{name: "extension", query: queryWithExtension(t), want: timestamp.UnacceptedExtension},
		{name: "no time", query: query(t, nil), config: func(c *AuthorityConfig) {
			c.Now = func() (time.Time, error) { return testTime, errors.New("clock out") }
		}, want: timestamp.TimeNotAvailable},
		{name: "certificate expired", unit: short, query: query(t, nil), want: timestamp.SystemFailure},
		{name: "key lost", query: query(t, nil), config: func(c *AuthorityConfig) { c.Key = lostKey{c.Key} }, want: timestamp.SystemFailure},
	} {
		if c.unit.key == nil {
			c.unit = u
		}
		cfg := c.unit.config()
		if c.config != nil {
			c.config(&cfg)
		}
		a, err := NewAuthority(cfg)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		reply, reason := a.Respond(c.query)
		_, err = Verify(reply, u.check())
		rejected, ok := errors.AsType[*RejectedError](err)
		if reason == nil || !ok || rejected.Status != timestamp.Rejection || rejected.Failure != c.want || !isCheck(err, CheckStatus) {
			t.Errorf("%s: %v; reason %v; want %v", c.name, err, reason, c.want)
		}
	}
}

type lostKey struct{ crypto.Signer }

func (lostKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("token removed")
}

func queryWithExtension(t testing.TB) []byte {
	t.Helper()
	b := query(t, nil)
	ext := []byte{0xA0, 9, 0x30, 7, 6, 1, 0x2a, 4, 2, 5, 0}
	b = append(b, ext...)
	b[1] += byte(len(ext))
	return b
}

func TestNewAuthorityRefuses(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	mail := u.ca.Issue(t, u.key.Public())
	for name, change := range map[string]func(*AuthorityConfig){
		"no clock":             func(c *AuthorityConfig) { c.Now = nil },
		"no policy":            func(c *AuthorityConfig) { c.Policy = nil },
		"negative accuracy":    func(c *AuthorityConfig) { c.Accuracy = -1 },
		"no key":               func(c *AuthorityConfig) { c.Key = nil },
		"another's key":        func(c *AuthorityConfig) { c.Key = cmstest.ECDSA(t) },
		"a mail certificate":   func(c *AuthorityConfig) { c.Certificate = mail },
		"a chain that is none": func(c *AuthorityConfig) { c.Chain = []*x509.Certificate{u.cert} },
	} {
		cfg := u.config()
		change(&cfg)
		if a, err := NewAuthority(cfg); err == nil || a != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAuthorityOverHTTP(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	var log bytes.Buffer
	cfg := u.config()
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	a, err := NewAuthority(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, method, typ string
		body              []byte
		status            int
	}{
		{"granted", "POST", typeQuery, query(t, nil), 200},
		{"parameters in the type", "POST", typeQuery + "; charset=binary", query(t, nil), 200},
		{"refused", "POST", typeQuery, []byte("x"), 200},
		{"GET", "GET", "", nil, 405},
		{"other type", "POST", "text/plain", query(t, nil), 415},
		{"no type", "POST", "", query(t, nil), 415},
		{"too large", "POST", typeQuery, make([]byte, maxQuery+1), 413},
	} {
		r := httptest.NewRequest(c.method, "/", bytes.NewReader(c.body))
		r.Header.Set("Content-Type", c.typ)
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		if w.Code != c.status || (c.status == http.StatusOK) != (w.Header().Get("Content-Type") == typeReply) {
			t.Errorf("%s: HTTP %d, %v", c.name, w.Code, w.Header())
		}
	}
	if n := strings.Count(log.String(), "time stamp refused"); n != 1 {
		t.Errorf("%d refusals in the log:\n%s", n, log.String())
	}
}

func FuzzAuthority(f *testing.F) {
	u := newUnit(f)
	a := u.authority(f)
	f.Add(query(f, nil))
	f.Add(query(f, func(r *timestamp.Request) { r.Nonce = nil; r.Certificates = false; r.TSAPolicyOID = testPolicy }))
	f.Add(query(f, func(r *timestamp.Request) { r.HashAlgorithm, r.HashedMessage = crypto.SHA512, make([]byte, 64) }))
	f.Add(queryWithExtension(f))
	f.Fuzz(func(t *testing.T, q []byte) {
		reply, reason := a.Respond(q)
		c := u.check()
		c.Nonce = nil
		c.Certificates = []*x509.Certificate{u.cert, u.ca.Intermediate}
		req, _, err := parseRequest(q)
		if err == nil && req.imprint.hash == crypto.SHA256 {
			c.Digest, c.Nonce = [32]byte(req.imprint.digest), req.nonce
		}
		token, err := Verify(reply, c)
		_, rejected := errors.AsType[*RejectedError](err)
		switch {
		case reason != nil && !rejected:
			t.Fatalf("refused for %v, but the reply says %v", reason, err)
		case reason == nil && req.imprint.hash == crypto.SHA256 && err != nil:
			t.Fatalf("granted a token that is none: %v", err)
		case err == nil && token.Qualified:
			t.Fatal("claims to be qualified")
		}
	})
}

func TestStamp(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	a := u.authority(t)
	var got *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		a.ServeHTTP(w, r)
	}))
	defer server.Close()
	c := &Client{URL: server.URL, User: "lotto", Password: "segreto", Policy: testPolicy}
	resp, err := c.Stamp(t.Context(), testDigest, testNonce)
	if err != nil {
		t.Fatal(err)
	}
	if user, password, ok := got.BasicAuth(); !ok || user != "lotto" || password != "segreto" || got.Header.Get("Accept") != typeReply {
		t.Errorf("sent %v", got.Header)
	}
	for name, der := range map[string][]byte{"reply": resp.Reply, "token": resp.Token} {
		if token, err := Verify(der, u.check()); err != nil || !bytes.Equal(token.DER, resp.Token) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if req, err := timestamp.ParseRequest(resp.Request); err != nil || !bytes.Equal(req.HashedMessage, testDigest[:]) || !req.Certificates || req.Nonce.Cmp(testNonce) != 0 {
		t.Errorf("request %+v, %v", req, err)
	}
	if resp, err = c.Stamp(t.Context(), sha256.Sum256(nil), nil); err != nil {
		t.Fatal(err)
	}
	if req, err := timestamp.ParseRequest(resp.Request); err != nil || req.Nonce != nil {
		t.Errorf("request without nonce %+v, %v", req, err)
	}
}

func TestStampFailures(t *testing.T) {
	t.Parallel()
	reply := func(typ string, status int, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", typ)
			w.WriteHeader(status)
			_, _ = w.Write(body)
		}
	}
	refused := []byte("\x30\x17\x30\x15\x02\x01\x02\x30\x0c\x0c\x0alot is out\x03\x02\x05\x20") // badRequest
	refused[1], refused[3] = byte(len(refused)-2), byte(len(refused)-4)
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		client  Client
		check   func(error) bool
	}{
		{name: "rejected", handler: reply(typeReply, 200, refused), check: func(err error) bool {
			e, ok := errors.AsType[*RejectedError](err)
			return ok && e.Status == timestamp.Rejection && e.Failure == timestamp.BadRequest && e.Text == "lot is out" &&
				e.Error() == `tsa: the request is rejected: transaction not permitted or supported ("lot is out")`
		}},
		{name: "credentials refused", handler: reply("text/html", 401, []byte("<h1>no</h1>")), check: func(err error) bool {
			e, ok := errors.AsType[*HTTPError](err)
			return ok && e.Status == 401 && strings.Contains(err.Error(), "password")
		}},
		{name: "a web page", handler: reply("text/html", 200, []byte("<h1>welcome</h1>")), check: func(err error) bool {
			e, ok := errors.AsType[*HTTPError](err)
			return ok && e.Body == "<h1>welcome</h1>"
		}},
		{name: "redirected", handler: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, check: func(err error) bool {
			e, ok := errors.AsType[*HTTPError](err)
			return ok && e.Status == 307
		}},
		{name: "garbage", handler: reply(typeReply, 200, []byte("garbage")), check: func(err error) bool { return isCheck(err, CheckFormat) }},
		{name: "endless", handler: reply(typeReply, 200, make([]byte, MaxReply+10)), check: func(err error) bool { return isCheck(err, CheckFormat) }},
		{name: "slow", handler: func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() },
			client: Client{HTTP: &http.Client{Timeout: 50 * time.Millisecond}}, check: func(err error) bool {
				var timeout interface{ Timeout() bool }
				return errors.As(err, &timeout) && timeout.Timeout()
			}},
		{name: "bad address", client: Client{URL: "http://[::1"}, check: func(err error) bool { return err != nil }},
		{name: "password in the clear", client: Client{URL: "http://tsa.example/", User: "u"}, check: func(err error) bool { return errors.Is(err, ErrPlainPassword) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.handler != nil {
				server := httptest.NewServer(c.handler)
				defer server.Close()
				c.client.URL = server.URL
			}
			resp, err := c.client.Stamp(t.Context(), testDigest, big.NewInt(1))
			if resp != nil || !c.check(err) {
				t.Errorf("%+v, %v", resp, err)
			}
		})
	}
}
