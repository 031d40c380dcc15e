// Package clock tells the time together with how far it can be trusted. The law
// wants the time reference of certified mail to stay within one second of UTC
// (DM 2 November 2005 art. 9 c. 2); this package measures whether it does.
//
// A [Clock] compares the system clock with NTP servers (RFC 5905), such as
// those of INRiM, the Italian time institute, and computes a bound: the largest
// error that the measures leave possible, not their mean. Between measures the
// bound grows with the worst drift of a quartz. It never sets the system clock,
// which is chronyd's or systemd's work, and never corrects a time: what it
// returns is what the machine says, with its [State].
//
// States: synced (the bound is under the warning limit), warning, out (the
// bound exceeds the limit, or too long has passed since the servers last
// agreed), unknown (nothing measured yet, or the clock was stepped since). What
// happens when out or unknown is a [Policy]: to refuse the time, or to go on and
// mark what carries it.
//
// Servers that smear leap seconds (some large clouds') differ from UTC by up to
// half a second on such days and must not be mixed with others.
package clock
