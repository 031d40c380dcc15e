package clock

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// readKernel reads the kernel's clock state and changes nothing.
func readKernel() (Kernel, error) {
	var tx unix.Timex // modes 0: read only
	if _, err := unix.Adjtimex(&tx); err != nil {
		return Kernel{}, fmt.Errorf("adjtimex: %w", err)
	}
	return Kernel{
		Synchronised: tx.Status&unix.STA_UNSYNC == 0,
		MaxError:     time.Duration(tx.Maxerror) * time.Microsecond,
		TAI:          int(tx.Tai),
	}, nil
}
