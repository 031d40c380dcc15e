package mta

import "scripta/mta/spool"

// UnderWay tells which transactions the jobs of a spool belong to: they may have
// stored what they have not recorded yet.
func UnderWay(jobs []*spool.Job) (func(transaction [16]byte) bool, error) {
	all := map[[16]byte]bool{}
	for _, j := range jobs {
		s, err := decodeSubmission(j)
		if err != nil {
			return nil, err
		}
		all[[16]byte(j.ID)], all[[16]byte(s.Incoming)] = true, true
	}
	return func(tx [16]byte) bool { return all[tx] }, nil
}
