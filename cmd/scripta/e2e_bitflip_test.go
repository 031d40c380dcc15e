package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"scripta/internal/config"
	"scripta/merkle/checkpoint"
	"scripta/merkle/tiles"
)

// fileKinds are what a provider's folder holds, each with the files that it
// comprises. Which folder they are taken from: one that was stopped in order, or
// one whose process was killed.
var fileKinds = []struct {
	name    string
	killed  bool
	pattern string // of a path in the folder, without the folder
}{
	{"leaves", false, "log/db/leaves/*"},
	{"leaves of a killed one", true, "log/db/leaves/*"},
	{"log table", false, "log/db/*.sst"},
	{"log manifest", false, "log/db/MANIFEST"},
	{"log key registry", false, "log/db/KEYREGISTRY"},
	{"log value log", false, "log/db/*.vlog"},
	{"log discard", false, "log/db/DISCARD"},
	{"log write-ahead log", true, "log/db/*.mem"},
	{"checkpoint", false, "log/checkpoint"},
	{"index", false, "receipts/index/*"},
	{"index runs", false, "receipts/index/*/*"},
	{"receipts", false, "receipts/issued/*.seg"},
	{"receipts of a killed one", true, "receipts/issued/*.seg"},
	{"dictionary", false, "receipts/issued/dictionary"},
	{"contents", false, "receipts/contents/*/*"},
	{"spool", false, "spool/*"},
	{"spool of a killed one", true, "spool/*"},
	{"mail", false, "mail/*/*/new/*"},
	{"time stamps", false, "timestamps/*"},
	{"requests", false, "extracts/requests/*"},
	{"extracts", false, "extracts/evidence/*/*"},
	{"packages", false, "archive/*/*"},
	{"months", false, "keys/months/*"},
	{"keys", false, "keys/*"},
	{"accounts", false, "accounts"},
	{"configuration", false, "scripta.toml"},
	{"public", false, "public/*"},
	{"sums", false, "files.sum"},
}

// What a flip came to.
const (
	refused  = "refused"  // it does not open, and says why
	found    = "found"    // verify finds it
	harmless = "harmless" // nothing found, and everything served is as it was
)

// A single changed bit, wherever in a provider's folder, is noticed, or changes
// nothing that anybody sees. Nothing crashes.
func TestBitFlips(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("cp"); err != nil {
		missing(t, "cp is not installed")
	}
	n := size(28, 56, 600)
	workers := size(2, 2, 2)
	seed := seeded(t).Uint64()
	clean, killed := bitflipFolders(t)
	jobs := make(chan int, n)
	for i := range n {
		jobs <- i
	}
	close(jobs)
	var mu sync.Mutex
	table := map[string]map[string]int{}
	var wg sync.WaitGroup
	for range workers {
		c, k := newFlipper(t, clean), newFlipper(t, killed)
		wg.Go(func() {
			for i := range jobs {
				kind := fileKinds[i%len(fileKinds)]
				f := c
				if kind.killed {
					f = k
				}
				outcome := f.flip(t, kind.name, kind.pattern, rand.New(rand.NewPCG(seed, uint64(i))))
				mu.Lock()
				if table[kind.name] == nil {
					table[kind.name] = map[string]int{}
				}
				table[kind.name][outcome]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	var b strings.Builder
	fmt.Fprintf(&b, "%-26s %8s %8s %8s\n", "", refused, found, harmless)
	for _, kind := range fileKinds {
		row := table[kind.name]
		fmt.Fprintf(&b, "%-26s %8d %8d %8d\n", kind.name, row[refused], row[found], row[harmless])
	}
	t.Logf("%d flips\n%s", n, b.String())
}

// bitflipFolders makes a small provider with something of every kind, and returns
// its folder as it is after an orderly stop, and after a SIGKILL.
func bitflipFolders(t *testing.T) (clean, killed string) {
	t.Helper()
	p := newProvider(t, []string{"mario", "lucia"}, func(c *config.Config) { c.Archive.Automatic = false })
	letters := func(from, n int) {
		for i := range n {
			p.send(t, letter{id: fmt.Sprintf("<f%d@client>", from+i), from: address("mario"), to: []string{address("lucia")}, subject: "flip", body: strings.Repeat("Testo.\r\n", 40)})
		}
		p.idle(t, patience)
	}
	p.start(t)
	letters(0, 4)
	h := &exhibit{p: p}
	if code, body := h.ask(http.MethodPost, "/v1/extracts", "mario", `{}`); code/100 != 2 {
		t.Fatalf("%d %s", code, body)
	}
	eventually(t, patience, "the extract is produced", func() bool {
		_, body := h.ask(http.MethodGet, "/v1/extracts", "mario", "")
		return bytes.Contains(body, []byte(`"produced"`)) || bytes.Contains(body, []byte(`/file"`))
	})
	p.command(t, "archive", "close")
	p.stop(t)
	p.command(t, "log", "verify") // the sums of all files are kept
	clean = filepath.Join(t.TempDir(), "clean")
	copyFolder(t, string(p.dir), clean)
	p.start(t)
	letters(4, 3)
	p.daemon.kill()
	p.daemon = nil
	killed = filepath.Join(t.TempDir(), "killed")
	copyFolder(t, string(p.dir), killed)
	return clean, killed
}

// copyFolder copies a folder with the times of its files and their holes.
func copyFolder(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", "--sparse=always", "--reflink=auto", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// flipper flips bits in copies of a folder.
type flipper struct {
	original string
	host     string // of its own, so that its ports are free whenever it is started
	listen   config.Addresses
	files    map[string][]string
	want     map[string][]byte // what is served, by path
	leaves   [][]byte
	paths    []string
}

// newFlipper gives a copy of a folder an address of its own, and notes what it
// serves.
func newFlipper(t *testing.T, from string) *flipper {
	t.Helper()
	f := &flipper{original: filepath.Join(t.TempDir(), "original"), files: map[string][]string{},
		host: fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))}
	copyFolder(t, from, f.original)
	configured := &provider{domain: testDomain, dir: config.Dir(f.original)}
	configured.configure(t, func(c *config.Config) { c.Listen.Host = f.host })
	f.listen = configured.listen
	settled := time.Now().Add(-time.Second) // or its sum is not kept yet
	if err := os.Chtimes(configured.dir.Config(), settled, settled); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		// Of the original itself when it was stopped in order, else of a copy: to
		// open it puts it in order.
		p := f.copy(t)
		out, code := f.run(t, p, "log", "verify")
		if code != 0 {
			t.Fatalf("log verify of the unchanged folder: %s", out)
		}
		if b, err := os.ReadFile(p.dir.Sums()); err != nil {
			t.Fatal(err)
		} else if err := os.WriteFile(config.Dir(f.original).Sums(), b, 0o600); err != nil {
			t.Fatal(err)
		}
		f.remove(t, p)
	}
	for _, kind := range fileKinds {
		if kind.pattern == "" {
			continue
		}
		names, err := filepath.Glob(filepath.Join(f.original, kind.pattern))
		if err != nil {
			t.Fatal(err)
		}
		f.files[kind.pattern] = slices.DeleteFunc(names, func(name string) bool {
			st, err := os.Stat(name)
			return err != nil || !st.Mode().IsRegular() || st.Size() == 0 || filepath.Base(name) == "LOCK"
		})
	}
	p := f.copy(t)
	p.start(t)
	f.want, f.leaves = (&exhibit{p: p}).baseline(t)
	f.paths = slices.Sorted(maps.Keys(f.want))
	p.stop(t)
	f.remove(t, p)
	return f
}

// copy is a provider on a fresh copy.
func (f *flipper) copy(t *testing.T) *provider {
	t.Helper()
	dir, err := os.MkdirTemp(filepath.Dir(f.original), "copy")
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{domain: testDomain, dir: config.Dir(filepath.Join(dir, "pec")), log: filepath.Join(dir, "log")}
	copyFolder(t, f.original, string(p.dir))
	p.listen = f.listen
	return p
}

func (f *flipper) remove(t *testing.T, p *provider) {
	if err := os.RemoveAll(filepath.Dir(string(p.dir))); err != nil {
		t.Error(err)
	}
}

// run runs a command that must end by itself and not crash.
func (f *flipper) run(t *testing.T, p *provider, args ...string) (out string, code int) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b, err := exec.CommandContext(ctx, binary, append(args, "--dir", string(p.dir))...).CombinedOutput()
	out = string(b)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		t.Errorf("%v: %v", args, err)
	}
	for _, mark := range crashMarks {
		if strings.Contains(out, mark) {
			code = -1
		}
	}
	return out, code
}

// flip flips one bit of a file of a kind in a copy, and looks what comes of it.
func (f *flipper) flip(t *testing.T, kind, pattern string, rnd *rand.Rand) (outcome string) {
	files := f.files[pattern]
	if len(files) == 0 {
		t.Errorf("%s: no file is %s", kind, pattern)
		return "none"
	}
	p := f.copy(t)
	defer f.remove(t, p)
	name, err := filepath.Rel(f.original, files[rnd.IntN(len(files))])
	if err != nil {
		t.Error(err)
		return "error"
	}
	at, bit := flipBit(t, filepath.Join(string(p.dir), name), rnd)
	say := func(format string, args ...any) {
		t.Errorf("%s, bit %d of byte %d of %s: %s\n%s", kind, bit, at, name, fmt.Sprintf(format, args...), p.logged(t))
	}
	// Served first, from a copy of its own: verify puts a killed one in order.
	q := f.copy(t)
	defer f.remove(t, q)
	copyFolder(t, filepath.Join(string(p.dir), name), filepath.Join(string(q.dir), name))
	started, changed := f.serve(t, q, say)
	out, code := f.run(t, p, "log", "verify")
	switch {
	case code != 0 && code != 1:
		say("log verify exits %d\n%s", code, out)
		return "crash"
	case changed != "" && started:
		say("%s is served and is another (verify exits %d)\n%s", changed, code, out)
		return "served"
	case code == 0 && !started:
		say("verify finds nothing and it does not start\n%s", out)
		return "refused without reason"
	case code == 0:
		return harmless
	case !started:
		if !strings.Contains(out, filepath.Base(name)) && !strings.Contains(out, "damaged") {
			say("the reason does not say where it is\n%s", out)
		}
		return refused
	}
	return found
}

// flipBit flips a bit of a file, whose time stays. Files that end in zeros for
// ever are hit in what they hold.
func flipBit(t *testing.T, name string, rnd *rand.Rand) (at, bit int) {
	b, err := os.ReadFile(name)
	if err != nil {
		t.Error(err)
		return 0, 0
	}
	st, err := os.Stat(name)
	if err != nil {
		t.Error(err)
		return 0, 0
	}
	holds := len(bytes.TrimRight(b, "\x00"))
	at, bit = rnd.IntN(min(len(b), holds+16)), rnd.IntN(8)
	out, err := os.OpenFile(name, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrPermission) {
		t.Error(err)
		return 0, 0
	}
	_, err = out.WriteAt([]byte{b[at] ^ 1<<bit}, int64(at))
	if err = cmp.Or(err, out.Close()); err == nil {
		err = os.Chtimes(name, st.ModTime(), st.ModTime())
	}
	if err != nil {
		t.Error(err)
	}
	return at, bit
}

// serve starts a provider, reads everything that it serves, and returns what is
// not as it was. A daemon that ends by itself must say why.
func (f *flipper) serve(t *testing.T, p *provider, say func(string, ...any)) (started bool, changed string) {
	d := p.spawn(t)
	defer func() { p.daemon = nil }()
	select {
	case <-d.ready:
	case <-d.ended:
		var exit *exec.ExitError
		log, _ := os.ReadFile(p.log)
		if !errors.As(d.err, &exit) || exit.ExitCode() != 1 || len(log) == 0 {
			say("serve ended with %v\n%s", d.err, log)
		}
		f.noCrash(p, say)
		return false, ""
	case <-time.After(time.Minute):
		d.kill()
		say("serve hangs")
		return false, ""
	}
	changed = (&exhibit{p: p}).compare(f)
	d.kill()
	f.noCrash(p, say)
	return true, changed
}

func (f *flipper) noCrash(p *provider, say func(string, ...any)) {
	log, err := os.ReadFile(p.log)
	if err != nil {
		say("%v", err)
	}
	for _, mark := range crashMarks {
		if i := bytes.Index(log, []byte(mark)); i >= 0 {
			say("serve crashed:\n%s", log[i:min(len(log), i+3000)])
		}
	}
}

// exhibit reads what a provider serves.
type exhibit struct{ p *provider }

func (x *exhibit) ask(method, path, local, body string) (code int, answer []byte) {
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}, Timeout: patience}
	req, err := http.NewRequest(method, "https://"+x.p.listen.HTTPS+path, strings.NewReader(body))
	if err != nil {
		return 0, nil
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if local != "" {
		req.SetBasicAuth(address(local), testPassword)
	}
	resp, err := h.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		return 0, nil // cut off: nobody takes it for whole
	}
	return resp.StatusCode, answer
}

// Paths of a mailbox are written "mailbox path".
func (x *exhibit) get(path string) (int, []byte) {
	local, rest, ok := strings.Cut(path, " ")
	if !ok {
		return x.ask(http.MethodGet, path, "", "")
	}
	return x.ask(http.MethodGet, rest, local, "")
}

// baseline reads everything that stays as it is while the log grows.
func (x *exhibit) baseline(t *testing.T) (all map[string][]byte, leaves [][]byte) {
	t.Helper()
	all = map[string][]byte{}
	read := func(path string) []byte {
		code, body := x.get(path)
		if code != 200 {
			t.Fatalf("%s: %d %s", path, code, body)
		}
		all[path] = body
		return body
	}
	_, note := x.get("/checkpoint")
	verifier, err := loadLogKey(x.p.dir.PublicLogKey())
	if err != nil {
		t.Fatal(err)
	}
	cp, err := checkpoint.Open(note, verifier)
	if err != nil || cp.Size < 10 || cp.Size > 250 {
		t.Fatalf("%v: %s", err, note)
	}
	n := int(cp.Size) - 3 // the last ones are of this start
	read("/log.vkey")
	read(fmt.Sprintf("/tile/0/000.p/%d", n))
	if leaves, err = tiles.ParseBundle(read(fmt.Sprintf("/tile/entries/000.p/%d", n)), n); err != nil {
		t.Fatal(err)
	}
	for from := 1; from < n; from += 7 {
		read(fmt.Sprintf("/v1/log/consistency?from=%d&to=%d", from, n))
	}
	stamped, err := filepath.Glob(filepath.Join(x.p.dir.Stamps(), "*.tsr"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stamped {
		size := strings.TrimSuffix(filepath.Base(s), ".tsr")
		read("/timestamp/" + size + ".tsr")
		read("/timestamp/" + size + ".txt")
	}
	for _, local := range []string{"mario", "lucia"} {
		var list struct {
			Messages []struct{ ID string } `json:"messages"`
		}
		if err := json.Unmarshal(read(local+" /v1/messages"), &list); err != nil || len(list.Messages) == 0 {
			t.Fatalf("%v: %s", err, all[local+" /v1/messages"])
		}
		for _, m := range list.Messages {
			var message any
			if err := json.Unmarshal(read(local+" /v1/messages/"+m.ID), &message); err != nil {
				t.Fatal(err)
			}
			for _, href := range hrefs(message) {
				if strings.HasPrefix(href, "/v1/receipts/") {
					read(local + " " + href)
				}
			}
		}
	}
	var extracts any
	if err := json.Unmarshal(read("mario /v1/extracts"), &extracts); err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, href := range hrefs(extracts) {
		if strings.HasSuffix(href, "/file") {
			files++
			read("mario " + href)
			delete(all, "mario /v1/extracts") // it says when the file was fetched first
		}
	}
	if files == 0 || len(all) < 25 {
		t.Fatalf("%d files of extracts, %d paths", files, len(all))
	}
	return all, leaves
}

// hrefs are all paths that stand in a JSON document.
func hrefs(v any) (all []string) {
	switch v := v.(type) {
	case string:
		if strings.HasPrefix(v, "/v1/") {
			all = append(all, v)
		}
	case []any:
		for _, e := range v {
			all = append(all, hrefs(e)...)
		}
	case map[string]any:
		for _, e := range v {
			all = append(all, hrefs(e)...)
		}
	}
	return all
}

// compare returns the first path whose answer is neither what it was nor an
// error.
func (x *exhibit) compare(f *flipper) (changed string) {
	for _, path := range f.paths {
		if code, body := x.get(path); code == 200 && !bytes.Equal(body, f.want[path]) {
			return fmt.Sprintf("%s (%d bytes instead of %d)", path, len(body), len(f.want[path]))
		}
	}
	verifier, err := loadLogKey(filepath.Join(f.original, "public", "log.vkey"))
	if err != nil {
		return err.Error()
	}
	for i := 0; i < len(f.leaves); i += 5 {
		path := fmt.Sprintf("/v1/records/%d/proof", i)
		code, body := x.get(path)
		if code != 200 {
			continue
		}
		p, err := checkpoint.ParseProof(body)
		if err == nil {
			_, err = p.Verify(tiles.LeafHash(f.leaves[i]), verifier)
		}
		if err != nil {
			return fmt.Sprintf("%s: %v", path, err)
		}
	}
	return ""
}
