// Package scan asks others what is in a message: clamd (ClamAV) whether there is
// a virus, which a provider of certified mail must look for wherever a message
// enters (RFC 6109 §5.4), and rspamd how much ordinary mail looks like spam.
//
// Viruses ([Scanner]). A message is streamed to clamd by INSTREAM, so that it is
// never held in memory and clamd needs no access to our files, over TCP or a
// local socket, one connection for each message. What clamd says is a [Finding],
// with the signatures it was made with and how old these were.
//
// A message that could not be scanned is an error, never a clean one:
// [ErrUnavailable] when there is no answer, or none that can be understood, within
// the time for it, and [ErrTooLarge] when clamd does not take messages of this
// size. What happens then is the caller's policy.
//
// What clamd itself leaves out it does not say: files above its MaxFileSize and
// MaxScanSize count as clean, unless its AlertExceedsMax says otherwise (then they
// are found, as Heuristics.Limits.Exceeded). docs/operating.md tells what to set.
//
// Spam ([Rspamd]). Only ordinary mail is judged: a certified message is never
// spam, whatever it says. An engine that does not answer costs nothing but the
// judgement.
package scan
