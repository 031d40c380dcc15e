package clock

import "testing"

func TestKernelIsReadable(t *testing.T) {
	t.Parallel()
	if k, err := readKernel(); err != nil || k.MaxError < 0 {
		t.Errorf("%+v, %v", k, err)
	}
}
