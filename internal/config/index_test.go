package config

import (
	"strings"
	"testing"
)

func TestIndex(t *testing.T) {
	t.Parallel()
	const head = "domain = \"a.test\"\nprovider = \"P\"\nlog.id = \"x\"\ntsa.url = \"https://t.test\"\n[index]\n"
	const signer = "signers = ['CN=x,O=y,C=IT']\n"
	for text, want := range map[string]string{
		"":                                     "",
		"source = 'igpec.ldif.p7m'\n" + signer: "",
		"source = 'https://igpec.example.it/x.p7m'\nsigners = ['" + strings.Repeat("aB", 32) + "']\n": "",
		"source = 'ldaps://igpec.example.it'\n":                                                       "",
		"source = 'ldap://127.0.0.1:3890/'\nuser = 'cn=r'\npassword_file = 'p'\n":                     "",
		"source = 'https://igpec.example.it/x.p7m'\n":                                                 "index.signers: nobody may sign",
		"source = 'x.p7m'\n":                                   "index.signers: nobody may sign",
		"source = 'ldap://igpec.example.it'\n":                 "index.source: LDAP is not signed",
		"source = 'ldaps://igpec.example.it/o=other'\n":        "index.source: the base",
		"source = 'http://igpec.example.it/x'\n":               "index.source: a scheme",
		"source = 'https:///x'\n" + signer:                     "index.source: no host",
		"source = 'https://u:p@igpec.example.it/x'\n" + signer: "index.source: a password",
		"source = '../x'\n" + signer:                           "index.source: not a place",
		"source = 'https://%zz'\n" + signer:                    "index.source: not a place",
		"signers = ['somebody']\n":                             "index.signers: \"somebody\"",
		"client_certificate = 'x'\n":                           "index.client_key:",
		"user = 'x'\n":                                         "index.password_file:",
		"roots = '../x'\n":                                     "index.roots:",
		"warn_after = '1h'\n":                                  "index.warn_after:",
		"location = 'http://a.test/x'\n":                       "index.location:",
		"max_shrink = 101\n":                                   "index.max_shrink:",
	} {
		c, err := Parse("f", []byte(head+text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
		if err == nil && c.IndexLocation() != "https://a.test/provider.ldif.p7m" {
			t.Error(c.IndexLocation())
		}
	}
}
