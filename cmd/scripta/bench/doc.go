// Package bench measures the two things that a provider's capacity rests on:
// how many durable records the register takes a second ([Log]) and how many
// messages are certified a second ([Mail]).
//
// Every figure stands beside a limit that is measured in the same run, on the
// same disk and processors: a plain file with group commit for the register, the
// machine's RSA signatures for the mail. Ratios travel from one machine to
// another, rates do not. Each run also tells how much of the processors other
// programs took meanwhile: figures of a disturbed run mean little.
//
// Results are Markdown tables on the writer given, ready for docs/performance.md.
// Everything is written into a folder that is removed in the end.
package bench
