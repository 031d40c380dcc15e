package config

import (
	"fmt"
	"net/netip"
)

// Limits bound what is done in a time; see mta/rates.
type Limits struct {
	MessagesPerHour       int      `toml:"messages_per_hour" range:"0..100000000" doc:"Messages that one account hands in within an hour; beyond it SMTP answers 451, and when it fits again; 0 = no limit"`
	RecipientsPerDay      int      `toml:"recipients_per_day" range:"0..100000000" doc:"Recipients of one account's messages within 24 hours; 451 likewise; 0 = no limit. Not below mail.max_recipients"`
	InfectedPerDay        int      `toml:"infected_per_day" range:"0..1000000" doc:"Infected messages of one account within 24 hours by which its sending is suspended until a person lifts it; 0 = never"`
	ConnectionsPerMinute  int      `toml:"connections_per_minute" range:"0..1000000" doc:"Connections from one IP address (IPv6: /64) to port 25 within a minute; 421 beyond it; 0 = no limit"`
	TransactionsPerMinute int      `toml:"transactions_per_minute" range:"0..1000000" doc:"Transactions (MAIL FROM) from one IP address on port 25 within a minute; 451 beyond it; 0 = no limit"`
	Exempt                []string `toml:"exempt" doc:"Networks without the limits per minute, such as \"192.0.2.0/24\". An address that brought a provider's new envelope, or a receipt that is waited for, has none for a day"`
}

// defaultLimits leave room for large senders, who exist: three messages a second,
// all day. They are there for stolen passwords and runaway programs.
func defaultLimits() Limits {
	return Limits{MessagesPerHour: 10_000, RecipientsPerDay: 100_000, InfectedPerDay: 20, ConnectionsPerMinute: 300, TransactionsPerMinute: 600, Exempt: []string{}}
}

// Networks returns Exempt, which Check has checked.
func (l *Limits) Networks() []netip.Prefix {
	var all []netip.Prefix
	for _, s := range l.Exempt {
		if p, err := netip.ParsePrefix(s); err == nil {
			all = append(all, p)
		}
	}
	return all
}

func (c *Config) checkLimits(wrong func(key, problem, fix string)) {
	l := &c.Limits
	if l.RecipientsPerDay > 0 && l.RecipientsPerDay < c.Mail.MaxRecipients {
		wrong("limits.recipients_per_day", "below mail.max_recipients, so that a message of that many would use up the day",
			fmt.Sprintf("write 0, or at least %d", c.Mail.MaxRecipients))
	}
	for _, s := range l.Exempt {
		if _, err := netip.ParsePrefix(s); err != nil {
			wrong("limits.exempt", quote(s)+" is not a network", `write address and length, such as "192.0.2.0/24" or "2001:db8::/32"`)
		}
	}
}
