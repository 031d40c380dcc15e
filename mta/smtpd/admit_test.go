package smtpd

import (
	"bufio"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A connection that is not admitted hears 421 and takes no place.
func TestNotAdmitted(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	_, clear := serve(t, &backend{}, func(c *Config) {
		c.Connections = 2
		c.Admit = func(remote string) error {
			if _, _, err := net.SplitHostPort(remote); err != nil {
				t.Errorf("asked for %q", remote)
			}
			if asked.Add(1) <= 5 {
				return errors.New("too often")
			}
			return nil
		}
	})
	for i := range 7 {
		c, err := net.DialTimeout("tcp", clear, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		line, err := bufio.NewReader(c).ReadString('\n')
		if want := map[bool]string{true: "421 4.7.0 Troppe connessioni", false: "220 "}[i < 5]; err != nil || !strings.HasPrefix(line, want) {
			t.Errorf("connection %d hears %q, %v", i+1, line, err)
		}
	}
	if n := asked.Load(); n != 7 {
		t.Errorf("asked %d times", n)
	}
}
