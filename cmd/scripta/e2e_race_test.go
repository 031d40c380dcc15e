//go:build race

package main

// raceEnabled has the program under test built with the race detector, too.
const raceEnabled = true
