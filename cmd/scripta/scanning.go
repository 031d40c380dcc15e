package main

import (
	"fmt"
	"time"

	"scripta/internal/config"
	"scripta/mta"
	"scripta/mta/scan"
	"scripta/register/record"
)

// openScanner makes the virus scanner and the spam scorer, if they are configured.
func (d *daemon) openScanner() {
	c := d.cfg.Scan
	if c.Rspamd != "" {
		d.rspamd = &scan.Rspamd{URL: c.Rspamd, Timeout: c.Timeout.Duration}
	}
	if c.Clamd == "" {
		d.log.Warn("NO message is scanned for viruses: [scan] clamd names no engine")
		return
	}
	d.scanner = scan.New(scan.Options{Clamd: c.Clamd, Timeout: c.Timeout.Duration, Concurrency: c.Concurrency, MaxAge: c.MaxSignatureAge.Duration,
		Largest: d.cfg.Mail.MaxMessageBytes + envelopeOverhead, Logger: d.log})
}

// virusScanner is the one that the pipeline asks: none, if none is configured.
func (d *daemon) virusScanner() mta.VirusScanner {
	if d.scanner == nil {
		return nil
	}
	return d.scanner
}

// scanDetail says in the record of the start whether messages are scanned: where
// no engine is configured, no record of a message does.
func scanDetail(c config.Scan) []record.Pair {
	how := "off: messages are not scanned for viruses"
	if c.Clamd != "" {
		how = "clamd, on failure " + c.OnFailure
	}
	return []record.Pair{{Name: "scan", Value: how}}
}

// spamRole tells how the spam scorer is.
func (d *daemon) spamRole() (string, error) {
	m := d.pipeline.Metrics()
	detail := fmt.Sprintf("%d ordinary messages scored, %d not", m.Scored.Load(), m.NotScored.Load())
	if err := d.rspamd.Err(); err != nil {
		return "", warn("ordinary mail passes without a score: %v", err)
	}
	return detail, nil
}

// scanRole tells how the virus scanner is.
func (d *daemon) scanRole() (string, error) {
	if d.scanner == nil {
		return "", warn("messages are NOT scanned for viruses: [scan] clamd names no engine (DPR 68/2005 art. 12, RFC 6109 5.4)")
	}
	s, missed := d.scanner.State(), d.pipeline.Metrics().NotScanned.Load()
	signatures := s.Version.Signatures(time.Now())
	switch {
	case s.Err != nil && d.cfg.Scan.OnFailure == config.ScanPass:
		return "", fmt.Errorf("messages pass that are NOT scanned (scan.on_failure): %w", s.Err)
	case s.Err != nil:
		return "", fmt.Errorf("messages are put off with 451: %w", s.Err)
	case s.Checked.IsZero():
		return "not asked yet", nil
	case s.Small:
		return "", warn("%s does not take messages of mail.max_message_bytes, so that these are put off: raise its StreamMaxLength", s.Version.Engine)
	case d.scanner.Old():
		return "", warn("%s works with old signatures (%s): see that freshclam runs", s.Version.Engine, signatures)
	}
	return fmt.Sprintf("%s, signatures: %s; %d messages could not be scanned since the start", s.Version.Engine, signatures, missed), nil
}
