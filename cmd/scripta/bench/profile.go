package bench

import (
	"fmt"
	"os"
	"runtime/pprof"
)

// Profile writes a CPU profile of f to the file name; with "" it only runs f.
func Profile(name string, f func() error) (err error) {
	if name == "" {
		return f()
	}
	file, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("couldn't make the profile: %w", err)
	}
	defer func() {
		pprof.StopCPUProfile()
		if cerr := file.Close(); err == nil {
			err = cerr
		}
	}()
	if err := pprof.StartCPUProfile(file); err != nil {
		return fmt.Errorf("couldn't profile: %w", err)
	}
	return f()
}
