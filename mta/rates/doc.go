// Package rates bounds how much one account may hand in, and how often one
// address may come to port 25, in any stretch of time of a given length.
//
// What it promises: in no window of the configured length does a key do more than
// its limit; the window is counted in parts, and what happened in a part that is
// not wholly past still counts, so that a limit errs by one part on the strict
// side. Memory is bounded: beyond a number of keys the one unused for longest is
// forgotten, and begins anew.
//
// What it never does: to drop what was accepted, or to split a message. A message
// is taken or put off whole, with all of its recipients.
//
// The counts of accounts and the addresses known as providers' outlive the
// process ([Limiter.State]); those of a minute do not, because a minute is what a
// restart takes.
package rates
