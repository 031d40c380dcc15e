//go:build linux

package powerfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// asked names the folder to a process that is to serve a disk; strictly says that
// the disk is strict.
const (
	asked    = "SCRIPTA_TEST_POWERFS"
	strictly = "SCRIPTA_TEST_POWERFS_STRICT"
)

// Disk is a disk of this package and the process that serves it. Its methods are
// for one goroutine; programs use the folder as they like.
type Disk struct {
	folder string
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
}

// Mount makes an empty disk and lets it appear in a folder. A strict disk keeps
// no name without a sync of its folder. It needs /dev/fuse and the right to
// mount, and a binary that calls [ServeIfAsked].
func Mount(folder string, strict bool) (*Disk, error) {
	d := &Disk{folder: folder, cmd: exec.Command("/proc/self/exe")}
	d.cmd.Env = append(os.Environ(), asked+"="+folder)
	if strict {
		d.cmd.Env = append(d.cmd.Env, strictly+"=1")
	}
	d.cmd.Stderr = os.Stderr
	// A signal for the test's process group is not for the disk, which must
	// outlive those that use it.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if d.in, err = d.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	d.out = bufio.NewReader(out)
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("couldn't start what serves the disk: %w", err)
	}
	if err := d.answer(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Folder is where the disk's files appear.
func (d *Disk) Folder() string { return d.folder }

// Cut cuts the power: from now on every call fails with EIO, and nothing that
// is written reaches the disk. The programs that use it are then to be killed,
// and [Disk.Restore] called.
func (d *Disk) Cut() error { return d.ask("cut") }

// Restore takes away what the cut did not leave and mounts the disk again.
func (d *Disk) Restore(loss Loss, random *rand.Rand) error {
	return d.ask(fmt.Sprintf("restore %d %d", loss, random.Uint64()))
}

// Close takes the disk away, with all that is on it.
func (d *Disk) Close() error {
	return errors.Join(d.in.Close(), d.cmd.Wait())
}

func (d *Disk) ask(what string) error {
	if _, err := io.WriteString(d.in, what+"\n"); err != nil {
		return fmt.Errorf("what serves the disk is gone: %w", err)
	}
	return d.answer()
}

// patience bounds the wait for what serves the disk.
const patience = time.Minute

// answer reads "ok" or an error.
func (d *Disk) answer() error {
	defer time.AfterFunc(patience, func() { _ = d.cmd.Process.Kill() }).Stop()
	line, err := d.out.ReadString('\n')
	if err != nil {
		return fmt.Errorf("what serves the disk is gone: %w", err)
	}
	if line = strings.TrimSuffix(line, "\n"); line != "ok" {
		return errors.New(line)
	}
	return nil
}

// ServeIfAsked serves a disk and ends the process, if the process was started by
// [Mount]; otherwise it does nothing. The disk goes away when standard input ends.
func ServeIfAsked() {
	folder := os.Getenv(asked)
	if folder == "" {
		return
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM)
	d := newDisk(folder, os.Getenv(strictly) != "")
	say := func(err error) {
		text := "ok"
		if err != nil {
			text = strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		fmt.Println(text)
	}
	say(d.mount())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var loss Loss
		var seed uint64
		switch n, _ := fmt.Sscanf(lines.Text(), "restore %d %d", &loss, &seed); {
		case n == 2:
			say(d.restore(loss, rand.New(rand.NewPCG(seed, 0))))
		default:
			d.cut()
			say(nil)
		}
	}
	if err := d.unmount(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}
