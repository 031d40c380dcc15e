// Package keys holds what is secret: private keys in files, the month
// secrets that seal the register, and the authorities of a quickstart.
//
// A private key is a PKCS#8 PEM file (RFC 5958) that only its owner can read;
// callers get a [crypto.Signer], so that a key in hardware fits as well.
//
// [Months] keeps one random secret of 32 bytes for each UTC month of the
// register. Everything personal in the register is sealed under keys derived
// from its month's secret ([Derive]), and only there: destroying the secret
// 30 months later (RFC 6109 §2.3 asks for 30 months of retention) destroys the
// data in every copy, while every proof still verifies. Hence three promises:
// a secret is on the disk before it is handed out for the first time; a secret
// is never replaced; and a clock that jumps cannot open a month by itself,
// because what is sealed under a wrong month is destroyed at the wrong time.
//
// [NewQuickstart] makes the certificates and keys that a provider needs to
// run without accreditation: for tests, without legal value, and saying so in
// every subject. The signing certificate has the profile of RFC 6109 §5.5.
//
// The package never writes a secret to a log or into an error.
package keys
