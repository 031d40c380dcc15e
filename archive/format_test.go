package archive

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestInterval(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"20261123T000000Z_20261124T000000Z", "20261123T100000Z_20261123T100001Z", "20261231T235959Z_20270101T000000Z", "20240229T000000Z_20240301T000000Z"} {
		i, err := ParseInterval(name)
		if err != nil || i.String() != name {
			t.Errorf("%s: %v, %v", name, i, err)
		}
	}
	for _, name := range []string{
		"", "x", "20261123T000000Z", "20261123T000000Z_", "20261124T000000Z_20261123T000000Z", "20261123T000000Z_20261123T000000Z",
		"20261123T000000Z_20261124T000001Z", "20261123T120000Z_20261124T120000Z", "20261123T000000Z_20261124T000000Z_", "20261123T000000_20261124T000000",
		"20261123T000000Z_20261131T000000Z", ".making-20261123T000000Z_20261124T000000Z", "20261123T000000.5Z_20261124T000000Z",
	} {
		if i, err := ParseInterval(name); err == nil {
			t.Errorf("%q is taken for %v", name, i)
		}
	}
}

// testIndex is an index that agrees with itself.
func testIndex() *Index {
	at := day(20).Add(time.Hour)
	return &Index{Format: Format, Notice: notice, Origin: testOrigin, Provider: "Esempio <PEC>", Package: "20261120T000000Z_20261121T000000Z",
		Start: day(20), End: day(21), Created: day(21), StartSize: 4, EndSize: 7, Checkpoint: 9, Timestamp: Granted, Stamps: []uint64{5, 9},
		Records: Counts{Total: 3, Personal: 2, Service: 1, Oldest: &at, Newest: &at},
		Months:  []MonthSum{{Month: service, Records: 1}, {Month: "2026-10", Records: 1, Disposed: true}, {Month: "2026-11", Records: 1}}, Previous: &Link{Package: "x"},
		Files: []FileSum{{Name: nameRecords}, {Name: nameLeaves}, {Name: nameCheckpoint}, {Name: nameFrontier}, {Name: nameConsistency},
			{Name: stampName(5, "txt")}, {Name: stampName(5, "tsr")}, {Name: stampName(9, "txt")}, {Name: stampName(9, "tsq")}, {Name: stampName(9, "tsr")}, {Name: "certificates/ca.pem"}}}
}

func TestIndex(t *testing.T) {
	t.Parallel()
	good, err := testIndex().encode()
	must(t, err)
	x, err := ParseIndex(good)
	if err != nil || !reflect.DeepEqual(x, testIndex()) {
		t.Fatalf("%+v, %v", x, err)
	}
	for name, bad := range map[string]string{
		"spaces":        strings.Replace(string(good), ": ", ":  ", 1),
		"upper case":    strings.Replace(string(good), "0000000000", "000000000A", 1),
		"no line feed":  strings.TrimSuffix(string(good), "\n"),
		"more":          string(good) + "{}",
		"unknown":       strings.Replace(string(good), `"format"`, `"size": 1, "format"`, 1),
		"escaped":       strings.Replace(string(good), "<PEC>", `\u003cPEC\u003e`, 1),
		"nothing":       "",
		"another order": strings.Replace(strings.Replace(string(good), `"start_size": 4`, `"X": 7`, 1), `"end_size": 7`, `"start_size": 4`, 1),
	} {
		if _, err := ParseIndex([]byte(bad)); !errors.Is(err, ErrIndex) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(x *Index){
		"format":              func(x *Index) { x.Format = "scripta/package/v2" },
		"name":                func(x *Index) { x.Package = "20261120T000000Z_20261121T000001Z" },
		"a longer interval":   func(x *Index) { x.End = day(22); x.Created = day(22); x.Package = x.Interval().String() },
		"made too early":      func(x *Index) { x.Created = x.End.Add(-time.Second) },
		"fractions":           func(x *Index) { x.Created = x.Created.Add(time.Millisecond) },
		"another zone":        func(x *Index) { x.Created = x.Created.In(time.FixedZone("", 3600)) },
		"sizes":               func(x *Index) { x.EndSize = 3 },
		"checkpoint":          func(x *Index) { x.Checkpoint = 6; x.Stamps = []uint64{5, 6} },
		"total":               func(x *Index) { x.Records.Total = 4 },
		"classes":             func(x *Index) { x.Records.Personal = 1 },
		"first":               func(x *Index) { x.Previous = nil },
		"months":              func(x *Index) { x.Months[0].Records = 2 },
		"months' order":       func(x *Index) { x.Months[1], x.Months[2] = x.Months[2], x.Months[1] },
		"month":               func(x *Index) { x.Months[1].Month = "2026-1" },
		"disposed and summed": func(x *Index) { x.Months[1].Plaintext[0] = 1 },
		"service's month":     func(x *Index) { x.Months = x.Months[1:]; x.Records.Total = 2; x.EndSize = 6 },
		"stamps' order":       func(x *Index) { x.Stamps = []uint64{9, 5} },
		"stamp before":        func(x *Index) { x.Stamps = []uint64{4, 9} },
		"stamp after":         func(x *Index) { x.Stamps = []uint64{8, 9} },
		"pending":             func(x *Index) { x.Timestamp = Pending },
		"granted":             func(x *Index) { x.Stamps = x.Stamps[:1] },
		"file missing":        func(x *Index) { x.Files = x.Files[1:] },
		"file twice":          func(x *Index) { x.Files = append(x.Files, x.Files[0]) },
		"file of no stamp":    func(x *Index) { x.Files[10].Name = stampName(6, "tsq") },
		"file outside":        func(x *Index) { x.Files[10].Name = "certificates/../../x" },
		"file hidden":         func(x *Index) { x.Files[10].Name = "certificates/.x" },
		"itself":              func(x *Index) { x.Files[10].Name = nameIndex },
	} {
		x := testIndex()
		change(x)
		b, err := x.encode()
		must(t, err)
		if _, err := ParseIndex(b); !errors.Is(err, ErrIndex) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSteps(t *testing.T) {
	t.Parallel()
	in := []step{{0, 5, nil}, {5, 9, [][32]byte{{1}, {2}}}}
	out, err := decodeSteps(encodeSteps(in...))
	if err != nil || !reflect.DeepEqual(in, out) {
		t.Fatalf("%v, %v", out, err)
	}
	for _, bad := range []string{"x\n", "consistency 1\n", "consistency 1 2", "consistency 01 2\n", "consistency 1  2\n", strings.Repeat("0", 64) + "\n",
		"consistency 1 2\n" + strings.Repeat("A", 64) + "\n", "consistency 1 2\n\n", "consistency 1 2 3\n"} {
		if s, err := decodeSteps([]byte(bad)); err == nil {
			t.Errorf("%q is %v", bad, s)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(frame{7, 24322, []byte("body")}.append(frame{index: 1}.append(nil)))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newFrameReader(bytes.NewReader(b))
		var again []byte
		for {
			fr, err := r.next()
			if err == io.EOF {
				break
			} else if err != nil {
				if !errors.Is(err, errFrame) {
					t.Fatal(err)
				}
				return
			}
			again = fr.append(again)
		}
		if !bytes.Equal(again, b) {
			t.Fatal("reading and writing gives other bytes")
		}
	})
}

func FuzzParseIndex(f *testing.F) {
	good, err := testIndex().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := ParseIndex(b)
		if err != nil {
			return
		}
		if again, err := x.encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatal("decoding and encoding gives other bytes")
		}
	})
}

func FuzzDecodeSteps(f *testing.F) {
	f.Add(encodeSteps(step{0, 5, nil}, step{5, 9, [][32]byte{{1}, {2}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := decodeSteps(b); err == nil && !bytes.Equal(encodeSteps(s...), b) {
			t.Fatal("decoding and encoding gives other bytes")
		}
	})
}
