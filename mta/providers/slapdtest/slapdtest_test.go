package slapdtest

import (
	"bytes"
	"net"
	"testing"
	"time"
)

const root = "dn: o=postacert\nobjectClass: top\nobjectClass: organization\nobjectClass: LDIFLocationURLObject\no: postacert\n" +
	"LDIFLocationURL: https://igpec.example/igpec.ldif.p7m\n"

func TestServer(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{LDIF: []byte(root)})
	url := s.URL
	if got := s.Search(); !bytes.Contains(got, []byte("igpec.ldif.p7m")) {
		t.Errorf("ldapsearch says %s", got)
	}
	if got := s.Slapcat(); !bytes.Contains(got, []byte("igpec.ldif.p7m")) {
		t.Errorf("slapcat says %s", got)
	}
	s.Replace(bytes.ReplaceAll([]byte(root), []byte("igpec.ldif"), []byte("another.ldif")))
	if got := s.Search(); s.URL != url || !bytes.Contains(got, []byte("another.ldif.p7m")) {
		t.Errorf("%s, then ldapsearch says %s", s.URL, got)
	}
}

// A port that somebody else took is no server of ours.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{LDIF: []byte(root)})
	s.Stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := s.run(l.Addr().(*net.TCPAddr).Port, time.Now().Add(10*time.Second)); err == nil {
		t.Error("another server was taken for slapd")
	}
	s.Run()
	if got := s.Search(); !bytes.Contains(got, []byte("igpec.ldif.p7m")) {
		t.Errorf("ldapsearch says %s", got)
	}
}
