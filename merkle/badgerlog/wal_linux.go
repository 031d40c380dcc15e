package badgerlog

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// adviseWAL tells the kernel that Badger's write-ahead logs in dir, which are
// mapped into memory, are not read in sequence. Without that a page fault reads
// ahead, and file systems that keep read-ahead in large folios (ext4 and XFS in
// recent kernels) then write the whole folio, up to a megabyte, at each sync of
// a few kilobytes: twelve times the device writes at 64 concurrent writers, and
// stalls when the device falls behind.
//
// Badger keeps its mappings to itself, so they are looked up by name. A mapping
// may be gone by the time it is advised: the advice, which concerns read-ahead
// only, does no harm to whatever took its place. Nor does a failure.
func adviseWAL(dir string) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	// 7f3a4c000000-7f3a54000000 rw-s 00000000 fe:00 1234   /path/00001.mem
	for line := range bytes.Lines(maps) {
		slash := bytes.IndexByte(line, '/')
		if slash < 0 {
			continue
		}
		name := string(bytes.TrimSuffix(line[slash:], []byte("\n")))
		if filepath.Ext(name) != ".mem" || filepath.Dir(name) != dir {
			continue
		}
		span, _, _ := bytes.Cut(line, []byte(" "))
		lo, hi, _ := bytes.Cut(span, []byte("-"))
		from, err1 := strconv.ParseUint(string(lo), 16, 64)
		to, err2 := strconv.ParseUint(string(hi), 16, 64)
		if err1 == nil && err2 == nil {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(from), uintptr(to-from), unix.MADV_RANDOM)
		}
	}
}
