package evidence

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"scripta/merkle/checkpoint"
)

// checkCosigned checks the note of a checkpoint that carries cosignatures: it is
// the checkpoint, and no cosignature in the name of a trusted witness is bad.
func (v *verifier) checkCosigned(cp *checkpoint.Signed) {
	name := checkpointName(cp.Size, "cosigned")
	if v.files[name] == nil {
		return
	}
	signed, err := v.read(name, checkpoint.MaxNoteSize)
	var stamped []byte
	if err == nil {
		stamped, err = checkpoint.Stamped(signed)
	}
	if err == nil && !bytes.Equal(stamped, cp.Stamped()) {
		err = errors.New("it is not of this checkpoint")
	}
	detail := "no witness is trusted: not checked"
	if policy := v.trust.Witnesses; err == nil && policy != nil {
		by, cerr := policy.Cosignatures(signed)
		err = cerr
		var seen []string
		for _, c := range by {
			seen = append(seen, c.Witness+" "+c.Time.Format(time.RFC3339))
		}
		detail = fmt.Sprintf("%d of %d: %s", len(by), len(policy.Members), strings.Join(seen, ", "))
		if err == nil && len(by) >= policy.Quorum {
			v.cosigned = max(v.cosigned, cp.Size)
		}
	}
	v.report.add(fmt.Sprintf("cosignatures %d", cp.Size), detail, err)
}

// checkWitnesses checks that a quorum of the trusted witnesses saw a history of the
// log with every record in it: each checkpoint of the file continues the one
// before, so that the largest one that they cosigned speaks for all below it.
func (v *verifier) checkWitnesses() {
	if v.inner { // a frozen log is not cosigned any more; the log that goes on, which commits its end, is
		return
	}
	policy := v.trust.Witnesses
	if policy == nil || policy.Quorum == 0 {
		return
	}
	var err error
	switch {
	case v.cosigned == 0:
		err = fmt.Errorf("%d of %d witnesses must have cosigned a checkpoint, and did not", policy.Quorum, len(policy.Members))
	case v.cosigned < v.covered:
		err = fmt.Errorf("the witnesses cosigned only %d leaves, and record %d is beyond", v.cosigned, v.covered-1)
	}
	v.report.add("witnesses", fmt.Sprintf("%d of %d must, and did, see a log with these records", policy.Quorum, len(policy.Members)), err)
}
