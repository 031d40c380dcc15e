package pec

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseAddresses(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`a@x.it`:   "a@x.it",
		`<a@x.it>`: "a@x.it",
		`Mario Rossi <a@x.it>, "Verdi, G." <b@y.it>`: "a@x.it b@y.it",
		`Rossi, Mario <a@x.it>`:                      "a@x.it",
		`"Mario Rossi <a@x.it>`:                      "a@x.it",
		`Mario Rossi a@x.it`:                         "a@x.it",
		`a@x.it; b@x.it;`:                            "a@x.it b@x.it",
		`a@x.it (Mario (detto "M")), b@x.it`:         "a@x.it b@x.it",
		`(fake@x.it) a@x.it`:                         "a@x.it",
		`"fake@x.it" <a@x.it>`:                       "a@x.it",
		`fake@x.it <a@x.it>`:                         "a@x.it",
		`"fake@x.it, other@x.it" <a@x.it>`:           "a@x.it",
		`"x fake@evil.it y" a@x.it`:                  "a@x.it",
		`=?utf-8?Q?Rossi,_Mario?= <a@x.it>`:          "a@x.it",
		`=?utf-8?Q?fake@x.it?= <a@x.it>`:             "a@x.it",
		`Ufficio: a@x.it, "B" <b@x.it>;, c@x.it`:     "a@x.it b@x.it c@x.it",
		`undisclosed-recipients:;`:                   "",
		`"john smith"@x.it`:                          `"john smith"@x.it`,
		`<"john smith"@x.it>`:                        `"john smith"@x.it`,
		`"mario"@x.it`:                               "mario@x.it",
		`"a@b"@x.it`:                                 `"a@b"@x.it`,
		`"a\"b"@x.it`:                                `"a\"b"@x.it`,
		`a @ x.it`:                                   "a@x.it",
		`Mario < a@x.it >`:                           "a@x.it",
		`<@relay.it,@b.it:a@x.it>`:                   "a@x.it",
		`<mailto:a@x.it>`:                            "a@x.it",
		`mailto:a@x.it`:                              "a@x.it",
		`a@[192.0.2.1]`:                              "a@[192.0.2.1]",
		`a@[IPv6:2001:db8::1]`:                       "a@[IPv6:2001:db8::1]",
		`<a@x.it> <b@x.it>`:                          "a@x.it b@x.it", // ambiguous: every reading
		`<a@x.it`:                                    "a@x.it",
		`a@x.it>`:                                    "a@x.it",
		"A\r\n <a@x.it>,\r\n\tb@x.it":                "a@x.it b@x.it",
		`Mario :-( <a@x.it>`:                         "a@x.it",
		`àè@x.it`:                                    "",
		`a@è.it`:                                     "",
		`a@x..it`:                                    "",
		`a@.it`:                                      "",
		`@x.it`:                                      "",
		`a@`:                                         "",
		`a`:                                          "",
		``:                                           "",
		"a\x00b@x.it":                                "",
		"\"a\x00b\"@x.it":                            "",
		"a@x.it\x00":                                 "",
		`a..b@docomo.example`:                        "a..b@docomo.example",
		strings.Repeat("a", 400) + `@x.it`:           "",
		`a@x.it, a@x.it`:                             "a@x.it a@x.it",
		`"\" <fake@x.it>" <a@x.it>`:                  "a@x.it",
		`"unclosed <a@x.it>, "closed" <b@x.it>`:      "b@x.it", // the first is inside quotes
		`a@x.it(comment)`:                            "a@x.it",
		`Mario Rossi <mario.rossi@x.it> via "Portale"`: "mario.rossi@x.it",
	} {
		var list []string
		if want != "" {
			list = strings.Split(strings.ReplaceAll(want, "john smith", "john\x00smith"), " ")
			for i := range list {
				list[i] = strings.ReplaceAll(list[i], "\x00", " ")
			}
		}
		if got := ParseAddresses(in); !reflect.DeepEqual(got, list) {
			t.Errorf("%.100q: got %q, want %q", in, got, list)
		}
	}
}

// A parser that looked ahead from every quote, parenthesis or bracket would not end here.
func TestParseAddressesIsLinear(t *testing.T) {
	t.Parallel()
	for _, unit := range []string{`"`, `\"`, `(`, `<`, `<"`, `[`, `,`, `:`, ` @`, `@ `, `(\`, `<"\"`, "a@x.it,"} {
		if n := len(ParseAddresses(strings.Repeat(unit, 1<<20/len(unit)))); n > 1<<20 {
			t.Errorf("%q gave %d addresses", unit, n)
		}
	}
}

func TestSameAddress(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"Mario@X.it", "mario@x.IT", true},
		{"<mario@x.it>", " mario@x.it", true},
		{`"mario"@x.it`, "mario@x.it", true},
		{`"mario rossi"@x.it`, `"Mario Rossi"@x.it`, true},
		{"mario@x.it", "maria@x.it", false},
		{"mario@x.it", "mario@x.it.", false},
		{"", "", false},
		{"mario", "mario", false},
		{"mariò@x.it", "mariò@x.it", false},
		{"K@x.it", "\u212a@x.it", false}, // the Kelvin sign folds to k in Unicode
	} {
		if got := SameAddress(test.a, test.b); got != test.same {
			t.Errorf("SameAddress(%q, %q) = %v", test.a, test.b, got)
		}
	}
}

func TestReceiptTypeFor(t *testing.T) {
	t.Parallel()
	to, cc := []string{"to@x.it", "both@x.it"}, []string{"CC@x.it", "both@x.it"}
	for _, test := range []struct {
		asked     ReceiptType
		recipient string
		want      ReceiptType
	}{
		{Complete, "to@x.it", Complete}, {Complete, "cc@x.it", Concise}, {Complete, "both@x.it", Complete}, {Complete, "other@x.it", Complete},
		{NoReceiptType, "to@x.it", Complete}, {Brief, "TO@x.it", Brief}, {Brief, "cc@x.it", Concise}, {Concise, "to@x.it", Concise},
	} {
		if got := test.asked.For(test.recipient, to, cc); got != test.want {
			t.Errorf("%s for %s: %s, want %s", test.asked, test.recipient, got, test.want)
		}
	}
	for value, want := range map[string]ReceiptType{"": Complete, "completa": Complete, " Breve ": Brief, "SINTETICA": Concise, "x": Complete} {
		if got := ParseReceiptType(value); got != want {
			t.Errorf("ParseReceiptType(%q) = %s", value, got)
		}
	}
}
