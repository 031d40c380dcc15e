package bench

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of processor times in /proc (USER_HZ, 100 on every Linux).
const tick = 10 * time.Millisecond

// usage is the processor time spent so far: by some processes of ours and by the
// whole machine.
type usage struct {
	user, sys time.Duration // of the process measured
	ours      time.Duration // of that process and of this one
	machine   time.Duration // of everything
	idle      time.Duration // of all cores, waiting for the disk included
	at        time.Time
}

// measure reads the processor time of a process of ours.
func measure(pid int) (u usage, err error) {
	u.at = time.Now()
	if u.user, u.sys, err = processTime(pid); err != nil {
		return u, err
	}
	u.ours = u.user + u.sys
	if pid != os.Getpid() {
		user, sys, err := processTime(os.Getpid())
		if err != nil {
			return u, err
		}
		u.ours += user + sys
	}
	u.machine, u.idle, err = machineTime()
	return u, err
}

// since tells what was spent from an earlier measure on.
func (u usage) since(v usage) usage {
	return usage{u.user - v.user, u.sys - v.sys, u.ours - v.ours, u.machine - v.machine, u.idle - v.idle, u.at}
}

// others is how many cores other programs kept busy during took.
func (u usage) others(took time.Duration) float64 {
	return max(0, (u.machine-u.ours).Seconds()/took.Seconds())
}

// processTime reads utime and stime (proc_pid_stat(5)).
func processTime(pid int) (user, sys time.Duration, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The second field is the program's name, in brackets, and may hold spaces.
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 13 {
		return 0, 0, fmt.Errorf("/proc/%d/stat is unreadable", pid)
	}
	return ticks(string(f[11])), ticks(string(f[12])), nil
}

func ticks(s string) time.Duration {
	n, _ := strconv.ParseInt(s, 10, 64)
	return time.Duration(n) * tick
}

// machineTime is the time that all cores were busy (proc_stat(5): user, nice,
// system, irq and softirq) and that they were idle (idle and iowait).
func machineTime() (busy, idle time.Duration, err error) {
	f := strings.Fields(firstLine("/proc/stat"))
	if len(f) < 8 || f[0] != "cpu" {
		return 0, 0, fmt.Errorf("/proc/stat is unreadable")
	}
	return ticks(f[1]) + ticks(f[2]) + ticks(f[3]) + ticks(f[6]) + ticks(f[7]), ticks(f[4]) + ticks(f[5]), nil
}

// memory is what a process holds, bytes.
type memory struct {
	resident  int64 // with mapped files
	anonymous int64 // without them: heap, stacks
	peak      int64 // of resident
}

func memoryOf(pid int) (m memory, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "VmRSS":
			m.resident = n << 10
		case "RssAnon":
			m.anonymous = n << 10
		case "VmHWM":
			m.peak = n << 10
		}
	}
	return m, nil
}

func mib(n int64) string { return strconv.FormatInt(n>>20, 10) }

// diskUsage adds up the blocks that the files below dir occupy, bytes.
func diskUsage(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			total += st.Blocks * 512
		} else {
			total += info.Size()
		}
		return nil
	})
	return total, err
}
