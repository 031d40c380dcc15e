package providers

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"scripta/mta/providers/slapdtest"
)

// files writes a certificate and its key as PEM.
func files(t testing.TB, c *x509.Certificate, key *ecdsa.PrivateKey) (certFile, keyFile string) {
	t.Helper()
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err == nil {
		err = errors.Join(os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o600),
			os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile
}

func poolOf(certs ...*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}

func TestHTTPS(t *testing.T) {
	t.Parallel()
	server, serverKey := pair(t, "server")
	client, clientKey := pair(t, "client")
	var answer atomic.Value
	answer.Store(http.HandlerFunc(http.NotFound))
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer.Load().(http.HandlerFunc)(w, r) }))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{server.Raw}, PrivateKey: serverKey}}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: poolOf(client)}
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	config := &tls.Config{RootCAs: poolOf(server), Certificates: []tls.Certificate{{Certificate: [][]byte{client.Raw}, PrivateKey: clientKey}}}
	source := HTTPS{URL: s.URL + "/igpec.ldif.p7m", TLS: func() (*tls.Config, error) { return config.Clone(), nil }}
	at := time.Now().Add(-time.Hour)
	answer.Store(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		http.ServeContent(w, r, "", at, strings.NewReader("the directory"))
	}))
	c, err := source.Fetch(t.Context(), Validators{})
	if err != nil || string(c.Data) != "the directory" || c.ETag != `"one"` || c.LastModified == "" {
		t.Fatalf("%+v %v", c, err)
	}
	for _, v := range []Validators{c.Validators, {LastModified: c.LastModified}, {ETag: c.ETag}} {
		if _, err := source.Fetch(t.Context(), v); !errors.Is(err, ErrUnchanged) {
			t.Errorf("with %v: %v", v, err)
		}
	}
	if _, err := source.Fetch(t.Context(), Validators{ETag: `"two"`}); err != nil {
		t.Error(err)
	}
	// Without our certificate, or at a server that another authority vouches for.
	bare := source
	bare.TLS = func() (*tls.Config, error) { return &tls.Config{RootCAs: poolOf(server)}, nil }
	if _, err := bare.Fetch(t.Context(), Validators{}); err == nil {
		t.Error("served without a client's certificate")
	}
	other := source
	other.TLS = func() (*tls.Config, error) {
		return &tls.Config{RootCAs: poolOf(client), Certificates: config.Certificates}, nil
	}
	if _, err := other.Fetch(t.Context(), Validators{}); err == nil {
		t.Error("a server that nobody vouches for was believed")
	}
	for name, h := range map[string]http.HandlerFunc{
		"redirect":     func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/other", http.StatusFound) },
		"not found":    http.NotFound,
		"304 unasked":  func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNotModified) },
		"says too big": func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Length", fmt.Sprint(maxFile+1)) },
		"cut short": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "the dir")
		},
	} {
		answer.Store(h)
		if c, err := source.Fetch(t.Context(), Validators{}); err == nil {
			t.Errorf("%s: %q", name, c.Data)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := source.Fetch(ctx, Validators{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "x.p7m")
	if _, err := (File{name}).Fetch(t.Context(), Validators{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := (File{name}).Fetch(t.Context(), Validators{}); err != nil || string(c.Data) != "x" {
		t.Error(err)
	}
	if err := os.Truncate(name, maxFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := (File{name}).Fetch(t.Context(), Validators{}); !errors.Is(err, errTooLarge) {
		t.Error(err)
	}
}

// many is a directory larger than an answer without paging may be.
func many(t testing.TB, n int) *Directory {
	cert := certificate(t, "many")
	d := &Directory{Root: true}
	for i := range n {
		d.Providers = append(d.Providers, of(cert, fmt.Sprintf("p%d", i)).Providers...)
	}
	return d
}

func TestLDAP(t *testing.T) {
	t.Parallel()
	d := reread(t, many(t, 450).LDIF())
	s := slapdtest.Start(t, slapdtest.Options{LDIF: d.LDIF(), SizeLimit: 250})
	source := LDAP{URL: s.URL}
	c, err := source.Fetch(t.Context(), Validators{})
	if err != nil {
		t.Fatal(err)
	}
	if got := reread(t, c.Data); got.Digest() != d.Digest() {
		t.Errorf("%d providers of %d came", len(got.Providers), len(d.Providers))
	}
	again, err := source.Fetch(t.Context(), Validators{})
	if err != nil || !bytes.Equal(again.Data, c.Data) {
		t.Errorf("the same directory came as other bytes: %v", err)
	}
	// A mirror over it, whose server goes away, and comes back with another content.
	o := newSetting(t).o
	o.Source, o.Trust = source, nil
	m, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Refresh(t.Context(), ""); err != nil || !known(m, "p449") {
		t.Fatal(err)
	}
	s.Stop()
	if _, err := m.Refresh(t.Context(), ""); err == nil || !known(m, "p449") {
		t.Errorf("without the server: %v", err)
	}
	s.Run()
	s.Replace(many(t, 451).LDIF())
	if u, err := m.Refresh(t.Context(), ""); err != nil || !u.Changed || !known(m, "p450") || u.Signer != "" {
		t.Errorf("%v", err)
	}
}

func TestLDAPS(t *testing.T) {
	t.Parallel()
	server, serverKey := pair(t, "server")
	client, clientKey := pair(t, "client")
	certFile, keyFile := files(t, server, serverKey)
	clientFile, _ := files(t, client, clientKey)
	d := reread(t, sample(t).LDIF())
	s := slapdtest.Start(t, slapdtest.Options{LDIF: d.LDIF(), Certificate: certFile, Key: keyFile, ClientCA: clientFile, Password: "segreta"})
	config := func() (*tls.Config, error) {
		return &tls.Config{RootCAs: poolOf(server), Certificates: []tls.Certificate{{Certificate: [][]byte{client.Raw}, PrivateKey: clientKey}}}, nil
	}
	password := func(p string) func() (string, error) { return func() (string, error) { return p, nil } }
	source := LDAP{URL: s.URL, TLS: config, User: slapdtest.Reader, Password: password("segreta")}
	c, err := source.Fetch(t.Context(), Validators{})
	if err != nil {
		t.Fatal(err)
	}
	if reread(t, c.Data).Digest() != d.Digest() {
		t.Error("another directory came")
	}
	wrong := source
	wrong.Password = password("sbagliata")
	if _, err := wrong.Fetch(t.Context(), Validators{}); err == nil || strings.Contains(err.Error(), "sbagliata") {
		t.Errorf("with a wrong password: %v", err)
	}
	anonymous := source
	anonymous.User = ""
	if c, err := anonymous.Fetch(t.Context(), Validators{}); err == nil && len(reread(t, c.Data).Providers) > 0 {
		t.Error("served without a password")
	}
	bare := source
	bare.TLS = func() (*tls.Config, error) { return &tls.Config{RootCAs: poolOf(server)}, nil }
	if _, err := bare.Fetch(t.Context(), Validators{}); err == nil {
		t.Error("served without a client's certificate")
	}
	other := source
	other.TLS = func() (*tls.Config, error) { return &tls.Config{RootCAs: poolOf(client)}, nil }
	if _, err := other.Fetch(t.Context(), Validators{}); err == nil {
		t.Error("a server that nobody vouches for was believed")
	}
}

// A server that says nothing, or nonsense, ends the attempt and nothing else.
func TestLDAPHostile(t *testing.T) {
	t.Parallel()
	for name, say := range map[string]string{"nothing": "", "nonsense": "HTTP/1.1 400 Bad Request\r\n\r\n", "a packet of 2 GiB": "\x30\x84\x7f\xff\xff\xff\x04\x84\x7f\xff\xff\xf0"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, say)
				_ = c.Close()
			}
		}()
		if _, err := (LDAP{URL: "ldap://" + l.Addr().String()}).Fetch(t.Context(), Validators{}); err == nil {
			t.Errorf("%s: believed", name)
		}
	}
	// One that never answers is left when the context ends.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			accepted <- c
			cancel()
		}
	}()
	if _, err := (LDAP{URL: "ldap://" + l.Addr().String()}).Fetch(ctx, Validators{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	_ = (<-accepted).Close()
}

func TestBoundedConn(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	defer a.Close()
	go func() { _, _ = b.Write(make([]byte, 100)); _ = b.Close() }()
	got, err := io.ReadAll(&boundedConn{Conn: a, left: 60})
	if len(got) != 60 || !errors.Is(err, errTooMuch) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// What openssl signs, in DER and in BER, we read; what we sign, openssl reads.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI_STRICT") != "" {
			t.Fatal(err)
		}
		t.Skip("openssl is not installed")
	}
	cert, key := pair(t, "Indice")
	certFile, keyFile := files(t, cert, key)
	sum := sha256.Sum256(cert.Raw)
	trust := &Trust{Roots: poolOf(cert), Signers: []string{hex.EncodeToString(sum[:])}}
	d := reread(t, sample(t).LDIF())
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain.ldif")
	if err := os.WriteFile(plain, d.LDIF(), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, more := range map[string][]string{"DER": nil, "BER": {"-stream"}} {
		out := filepath.Join(dir, name+".p7m")
		args := append([]string{"cms", "-sign", "-binary", "-nodetach", "-in", plain, "-signer", certFile, "-inkey", keyFile, "-outform", "DER", "-out", out, "-md", "sha256"}, more...)
		if said, err := exec.Command(openssl, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		p7m, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if indefinite := p7m[1] == 0x80; indefinite != (name == "BER") {
			t.Errorf("%s begins with % x", name, p7m[:2])
		}
		content, signature, err := trust.Open(p7m, time.Now())
		if err != nil || reread(t, content).Digest() != d.Digest() || signature.Time.IsZero() {
			t.Errorf("%s: %v", name, err)
		}
	}
	a := newAuthority(t)
	p := &Publisher{Own: d.Providers[:1], Sign: a.signer.SignAttached, Now: func() (time.Time, error) { return time.Now(), nil }}
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	resp, err := http.Get(s.URL + PublishedPath)
	if err != nil {
		t.Fatal(err)
	}
	p7m, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.Header.Get("Content-Type") != ContentType || resp.Header.Get("Last-Modified") == "" {
		t.Fatalf("%v %v", resp.Header, err)
	}
	in, ca := filepath.Join(dir, "own.p7m"), filepath.Join(dir, "ca.pem")
	if err := errors.Join(os.WriteFile(in, p7m, 0o600), os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.signer.Certificate().Raw}), 0o600)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(openssl, "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", in, "-CAfile", ca, "-purpose", "any").Output()
	if err != nil || reread(t, out).Providers[0].Name != d.Providers[0].Name {
		t.Errorf("openssl: %v\n%s", err, out)
	}
	if resp, err := http.Post(s.URL, "text/plain", nil); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %v", err)
	} else {
		_ = resp.Body.Close()
	}
}
