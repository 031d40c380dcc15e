package clock

import (
	"encoding/binary"
	"fmt"
	"net"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scripta/internal/cms/cmstest"
)

// serve answers NTP on loopback with the machine's time plus offset.
func serve(t *testing.T, offset time.Duration) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		var b [256]byte
		for {
			n, from, err := conn.ReadFrom(b[:])
			if err != nil {
				return
			}
			if n < 48 {
				continue
			}
			now := time.Now().Add(offset)
			stamp := uint64(now.Unix()+2208988800)<<32 | uint64(now.Nanosecond())<<32/1e9
			reply := make([]byte, 48)
			reply[0], reply[1], reply[3] = 4<<3|4, 1, 0xE9 // version 4, server; stratum 1; precision 2^-23
			binary.BigEndian.PutUint32(reply[8:], 66)      // root dispersion: 1 ms
			copy(reply[12:], "CTD")
			binary.BigEndian.PutUint64(reply[16:], stamp-16<<32)
			copy(reply[24:32], b[40:48]) // origin: the client's transmit time
			binary.BigEndian.PutUint64(reply[32:], stamp)
			binary.BigEndian.PutUint64(reply[40:], stamp)
			if _, err := conn.WriteTo(reply, from); err != nil {
				return
			}
		}
	}()
	return conn.LocalAddr().String()
}

func TestRealPackets(t *testing.T) {
	t.Parallel()
	for _, offset := range []time.Duration{0, 2500 * ms, -2500 * ms} {
		c, err := New(Config{Servers: []string{serve(t, offset)}, SampleGap: time.Nanosecond})
		if err != nil {
			t.Fatal(err)
		}
		m := c.Measure(t.Context())
		if !m.OK || (m.Offset-offset).Abs() > 200*ms || m.Servers[0].Samples != 4 || m.Servers[0].Reference != ".CTD." {
			t.Errorf("offset %v: %+v", offset, m)
		}
		if r, err := c.Now(); (r.State == Out) != (offset != 0) || (err != nil) != (offset != 0) || time.Since(r.Time).Abs() > time.Minute {
			t.Errorf("offset %v: %+v, %v", offset, r, err)
		}
	}
}

// chronyd starts a real server on loopback that never touches the machine's
// clock; env may give it a clock of its own.
func chronyd(t *testing.T, env []string, lines ...string) string {
	t.Helper()
	program := cmstest.Program(t, "chronyd")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.LocalAddr().(*net.UDPAddr)
	free.Close()
	dir := t.TempDir()
	conf := append([]string{"allow 127.0.0.1", "bindaddress 127.0.0.1", "cmdport 0", "bindcmdaddress /",
		fmt.Sprintf("port %d", addr.Port), "pidfile " + filepath.Join(dir, "pid")}, lines...)
	cmd := exec.Command(program, "-x", "-U", "-d", "-u", me.Username, "-f", cmstest.WriteFile(t, "chrony.conf", []byte(strings.Join(conf, "\n")+"\n")))
	cmd.Env = append(cmd.Environ(), env...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(out.String())
		}
	})
	return addr.String()
}

// answering waits until the server talks, whatever it says.
func answering(t *testing.T, server string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		_, err := query(t.Context(), server)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer: %v", server, err)
		}
	}
}

func TestChronyd(t *testing.T) {
	t.Parallel()
	faketime := cmstest.Program(t, "faketime")
	libraries, err := filepath.Glob(filepath.Join(filepath.Dir(faketime), "../lib/*/faketime/libfaketime.so.1"))
	if err != nil || len(libraries) == 0 {
		t.Fatalf("faketime is installed without its library: %v", err)
	}
	shifted := []string{"LD_PRELOAD=" + libraries[0], "FAKETIME=+2.5s", "FAKETIME_DONT_FAKE_MONOTONIC=1"}
	right, wrong, lost := chronyd(t, nil, "local stratum 1"), chronyd(t, shifted, "local stratum 1"), chronyd(t, nil)
	for _, s := range []string{right, wrong, lost} {
		answering(t, s)
	}
	for _, c := range []struct {
		name    string
		servers []string
		state   State
		offset  time.Duration
	}{
		{"in step", []string{right}, Synced, 0},
		{"2.5 s apart", []string{wrong}, Out, 2500 * ms},
		{"not synchronised", []string{lost}, Unknown, 0},
		{"two disagree", []string{right, wrong}, Unknown, 0},
		{"one of three lies", []string{right, wrong, right}, Synced, 0},
	} {
		k, err := New(Config{Servers: c.servers, SampleGap: ms})
		if err != nil {
			t.Fatal(err)
		}
		m := k.Measure(t.Context())
		if m.State != c.state || (m.OK && (m.Offset-c.offset).Abs() > 200*ms) {
			t.Errorf("%s: %+v", c.name, m)
		}
	}
}
