package bench

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// describe writes what the figures were measured on. dir lies on the disk that
// is measured.
func describe(w io.Writer, dir string) error {
	var t table
	t.head = []string{"machine", ""}
	t.add("date", time.Now().UTC().Format("2006-01-02 15:04 UTC"))
	t.add("commit", commit())
	t.add("CPU", fmt.Sprintf("%s, %d cores", cpuModel(), runtime.NumCPU()))
	t.add("kernel", firstLine("/proc/sys/kernel/osrelease"))
	t.add("file system", fileSystem(dir))
	t.add("Go", runtime.Version()+" "+runtime.GOARCH)
	t.add("load before", firstLine("/proc/loadavg"))
	return t.write(w)
}

// commit is the one that the program was built from; when the build did not
// note it, that of the working folder.
func commit() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		var rev, dirty string
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				rev = s.Value[:min(12, len(s.Value))]
			case "vcs.modified":
				if s.Value == "true" {
					dirty = ", modified"
				}
			}
		}
		if rev != "" {
			return rev + dirty
		}
	}
	out, err := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=12").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out)) + " (working folder)"
}

func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func firstLine(name string) string {
	b, err := os.ReadFile(name)
	line, _, _ := strings.Cut(string(b), "\n")
	if err != nil || line == "" {
		return "unknown"
	}
	return line
}

// fileSystem tells the type and options of the one that holds dir.
func fileSystem(dir string) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "unknown"
	}
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	best, found := "", ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		m := strings.Fields(lines.Text()) // device, folder, type, options
		if len(m) < 4 {
			continue
		}
		at := strings.TrimSuffix(m[1], "/")
		if (dir == m[1] || strings.HasPrefix(dir, at+"/")) && len(m[1]) >= len(best) {
			best, found = m[1], fmt.Sprintf("%s on %s (%s)", m[2], m[0], m[3])
		}
	}
	return cmp.Or(found, "unknown")
}
