package merkle

import (
	"errors"
	"testing"
)

func TestAppend(t *testing.T) {
	t.Parallel()
	onEngines(t, testAppend)
}

func testAppend(t *testing.T, opt Options) {
	l := open(t, opt)
	mustAdd(t, l, 0, 10)
	// Some are there already, in any order.
	leaves := []Leaf{testLeaf(10), testLeaf(3), testLeaf(11), testLeaf(0), testLeaf(12)}
	at, err := l.Append(t.Context(), leaves)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []uint64{10, 3, 11, 0, 12} {
		if at[i] != want {
			t.Errorf("leaf %d of the call is at %d, not %d", i, at[i], want)
		}
	}
	if f := reference(13); l.Size() != 13 || mustPublish(t, l).Root != f.Root() {
		t.Errorf("%d leaves", l.Size())
	}
	changed := testLeaf(5)
	changed.Value = []byte("another")
	var conflict *ConflictError
	if _, err := l.Append(t.Context(), []Leaf{testLeaf(13), changed}); !errors.As(err, &conflict) || conflict.At != 5 || !conflict.SameIdentity || conflict.SameValue {
		t.Errorf("an identity with another value: %v", err)
	}
	if _, err := l.Append(t.Context(), []Leaf{testLeaf(14), testLeaf(14)}); err == nil {
		t.Error("a leaf twice in one call was added")
	}
	if at, err := l.Append(t.Context(), nil); err != nil || len(at) != 0 {
		t.Errorf("nothing: %v, %v", at, err)
	}
}
