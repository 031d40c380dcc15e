package slapdtest

import (
	"bytes"
	"testing"
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
