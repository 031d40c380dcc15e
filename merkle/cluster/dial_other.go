//go:build !linux

package cluster

import (
	"syscall"
	"time"
)

// giveUpAfter leaves it to the system.
func giveUpAfter(time.Duration) func(network, address string, c syscall.RawConn) error { return nil }
