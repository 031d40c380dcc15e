// Package receipts keeps the bytes of every message that the provider issued,
// so that a lost receipt comes back byte for byte, and the content of the
// messages that were submitted.
//
// An issued message is stored as the bytes before and after the author's
// message that it includes, and a reference to the latter: the author's content
// is kept once, however many envelopes and receipts include it. Both are sealed
// under the secret of their month, so that its destruction disposes of them.
//
// Issued messages lie in append-only segment files (durable.Journal), compressed
// with zstd against a dictionary of the provider's own synthetic messages.
// Contents lie in one sealed stream each, written as the message comes in and
// complete when its last chunk is there.
package receipts
