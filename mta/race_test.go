//go:build race

package mta

// raceDetector says that the race detector is on.
const raceDetector = true
