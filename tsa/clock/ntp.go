package clock

import (
	"context"
	"time"

	"github.com/beevik/ntp"
)

// queryTimeout is how long a server may take to answer.
const queryTimeout = 5 * time.Second

// query asks a server once by NTP version 4, with the kernel's own time stamps
// of the packets where it has them.
func query(ctx context.Context, server string) (*ntp.Response, error) {
	timeout := queryTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = max(time.Millisecond, min(timeout, time.Until(deadline)))
	}
	return ntp.QueryWithOptions(server, ntp.QueryOptions{Timeout: timeout})
}

// Kernel is what the kernel says of its clock (adjtimex(2)).
type Kernel struct {
	Synchronised bool          // somebody disciplines the clock
	MaxError     time.Duration // the kernel's own bound
	TAI          int           // seconds from UTC to TAI; 0 if nobody told it
}
