package pec

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// tree is the signed multipart/mixed of a message as Python's email package sees it, with the header of the top level.
type tree struct {
	Type    string
	Name    string
	Charset string
	Text    string // body, decoded
	Defects []string
	Header  map[string][]string
	Parts   []tree
}

const pythonScript = `
import sys, json, base64, email
from email import policy
def walk(m):
    t = {"Type": m.get_content_type(), "Name": m.get_filename() or "", "Charset": m.get_content_charset() or "",
         "Defects": [repr(d) for d in m.defects], "Header": {}, "Parts": []}
    for k in set(m.keys()):
        if k.lower() in sys.argv[1:]:
            continue
        for v in m.get_all(k):
            t["Header"].setdefault(k.lower(), []).append(str(v))
            t["Defects"] += [k + ": " + repr(d) for d in v.defects]
    if m.get_content_type() == "message/rfc822":
        pass
    elif m.is_multipart():
        t["Parts"] = [walk(p) for p in m.iter_parts()]
    elif m.get_content_maintype() == "text":
        t["Text"] = m.get_content()
    return t
messages = json.load(sys.stdin)
print(json.dumps({k: walk(email.message_from_bytes(base64.b64decode(v), policy=policy.SMTP)) for k, v in messages.items()}))
`

// pythonTrees returns the trees of the messages; python does not look at the fields to skip.
func pythonTrees(tb testing.TB, messages map[string]issued, skip ...string) map[string]tree {
	tb.Helper()
	raw := map[string][]byte{}
	for name, m := range messages {
		raw[name] = m.bytes(tb)
	}
	stdin, err := json.Marshal(raw)
	if err != nil {
		tb.Fatal(err)
	}
	out, err := run(tb, stdin, "python3", append([]string{"-c", pythonScript}, skip...)...)
	if err != nil {
		tb.Fatalf("%v\n%s", err, out)
	}
	var trees map[string]tree
	if err := json.Unmarshal([]byte(out), &trees); err != nil {
		tb.Fatal(err)
	}
	for name, root := range trees {
		if root.Type != "multipart/signed" || len(root.Parts) != 2 {
			tb.Fatalf("%s: python sees %s with %d parts", name, root.Type, len(root.Parts))
		}
		mixed := root.Parts[0]
		mixed.Header, mixed.Defects = root.Header, append(root.Defects, mixed.Defects...)
		if mixed.Type != "multipart/mixed" || root.Parts[1].Name != "smime.p7s" {
			tb.Fatalf("%s: python sees %s and %s", name, mixed.Type, root.Parts[1].Name)
		}
		for _, p := range mixed.Parts {
			mixed.Defects = append(mixed.Defects, p.Defects...)
		}
		trees[name] = mixed
	}
	return trees
}

// Python's parser agrees about the tree, for every message and for unfriendly originals.
func TestPythonParses(t *testing.T) {
	t.Parallel()
	c := testComposer(t)
	messages := map[string]issued{}
	for name, original := range map[string]string{
		"plain": testOriginal, "no final newline": strings.TrimSuffix(testOriginal, "\r\n"), "nothing": "", "8bit": testOriginal + "perché",
	} {
		for kind, m := range issueAll(t, c, original, nil) {
			messages[name+", "+kind] = m
		}
	}
	for name, tree := range pythonTrees(t, messages) {
		var types []string
		for _, p := range tree.Parts {
			types = append(types, p.Type+" "+p.Name)
		}
		want := []string{"text/plain ", "application/xml daticert.xml"}
		if messages[name].Original != nil {
			want = append(want, "message/rfc822 postacert.eml")
		}
		if !reflect.DeepEqual(types, want) || len(tree.Defects) > 0 {
			t.Errorf("%s: python sees %q, defects %q", name, types, tree.Defects)
		}
		if tree.Parts[0].Charset != "iso-8859-1" {
			t.Errorf("%s: charset %q", name, tree.Parts[0].Charset)
		}
		if subject := tree.Header["subject"][0]; strings.HasPrefix(name, "plain") && !strings.HasSuffix(subject, ": Città di prova") {
			t.Errorf("%s: subject %q", name, subject)
		}
	}
}
