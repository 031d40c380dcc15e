// Package tsa asks for time stamps, verifies them and, for tests and
// quickstarts, makes them (RFC 3161, RFC 5816; profile of ETSI EN 319 422).
//
// [Client] sends the request and returns the bytes that came back; nothing it
// returns is verified. [Verify] does that: a token counts only once Verify has
// returned it. It needs no network and no clock, so that the same checks run
// when a token arrives and, from an evidence file, years later. It promises
// that every check listed with [CheckError] held; revocation, the uniqueness
// of serial numbers, and the comparison of the token's time with a local clock
// are left to the caller.
//
// A time stamp has legal value only if a qualified provider made it
// (eIDAS art. 41 and 42). [Authority] is not one, and its tokens never say
// that they are.
package tsa
