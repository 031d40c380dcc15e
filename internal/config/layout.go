package config

import "path/filepath"

// Dir is the folder of a provider. Its methods name what lies in it; they
// touch no file.
type Dir string

func (d Dir) join(parts ...string) string {
	return filepath.Join(append([]string{string(d)}, parts...)...)
}

// Config is the configuration file. `scripta init` makes it last: a folder
// without it was never finished.
func (d Dir) Config() string { return d.join("scripta.toml") }

// Accounts is the passwd file of mailboxes (argon2id hashes, 0600).
func (d Dir) Accounts() string { return d.join("accounts") }

// Mail is the root of the Maildirs, Mail/<domain>/<local part>.
func (d Dir) Mail() string { return d.join("mail") }

// Keys is the folder (0700) of everything secret.
func (d Dir) Keys() string { return d.join("keys") }

// PECKey is the key (PKCS#8) that signs envelopes and receipts.
func (d Dir) PECKey() string { return d.join("keys", "pec.key") }

// PECCertificate is the signing certificate, then its intermediates without
// the root (PEM).
func (d Dir) PECCertificate() string { return d.join("keys", "pec.pem") }

// PECCertificates is the folder of every certificate that this provider ever
// signed with (PEM, named by its SHA-256).
func (d Dir) PECCertificates() string { return d.join("keys", "pec") }

// Index is the folder of the last good copy of the directory of providers.
func (d Dir) Index() string { return d.join("index") }

// TLSKey is the key of SMTPS and HTTPS.
func (d Dir) TLSKey() string { return d.join("keys", "tls.key") }

// TLSCertificate is the TLS certificate, then its intermediates.
func (d Dir) TLSCertificate() string { return d.join("keys", "tls.pem") }

// TSUKey is the key of the embedded time-stamp authority.
func (d Dir) TSUKey() string { return d.join("keys", "tsu.key") }

// TSUCertificate is the embedded authority's certificate.
func (d Dir) TSUCertificate() string { return d.join("keys", "tsu.pem") }

// LogKey is the Ed25519 key that signs checkpoints (C2SP signed note key).
func (d Dir) LogKey() string { return d.join("keys", "log.key") }

// MasterKey wraps the month secrets. Losing it loses every sealed record;
// copying it into the data's backup defeats disposal.
func (d Dir) MasterKey() string { return d.join("keys", "master.key") }

// Months is the folder of the wrapped month secrets.
func (d Dir) Months() string { return d.join("keys", "months") }

// QuickstartKeys is the folder of the keys of the quickstart's own three
// certification authorities, kept to renew what they issued.
func (d Dir) QuickstartKeys() string { return d.join("keys", "quickstart") }

// Public is the folder of what others need to verify; it holds no secret.
func (d Dir) Public() string { return d.join("public") }

// PublicCA holds the roots that PEC signatures are checked against.
func (d Dir) PublicCA() string { return d.join("public", "ca.pem") }

// PublicTLSCA holds the root of the TLS certificate.
func (d Dir) PublicTLSCA() string { return d.join("public", "tls-ca.pem") }

// PublicTSACA holds the roots that time stamps are checked against.
func (d Dir) PublicTSACA() string { return d.join("public", "tsa-ca.pem") }

// PublicLogKey is the log's verifier key (C2SP signed note vkey).
func (d Dir) PublicLogKey() string { return d.join("public", "log.vkey") }

// PublicWitnesses is the policy of the log's witnesses (C2SP tlog-policy): who
// they are, and how many must cosign a checkpoint. It is there once a provider
// with witnesses was served.
func (d Dir) PublicWitnesses() string { return d.join("public", "witnesses") }

// Spool is the folder of accepted messages and their jobs.
func (d Dir) Spool() string { return d.join("spool") }

// RelayHolds is the file that says what operators hold of the relay's queue.
func (d Dir) RelayHolds() string { return d.join("relay.held") }

// Log is the folder of the verifiable log's database.
func (d Dir) Log() string { return d.join("log") }

// Frozen is the folder of the logs that were given up when a rollback was
// accepted, one folder for each, by log id.
func (d Dir) Frozen() string { return d.join("frozen") }

// NextLogKey is where the key of a new log waits while its predecessor is being
// frozen.
func (d Dir) NextLogKey() string { return d.join("keys", "log.key.next") }

// Holds is the folder of records that outlive the disposal of their month.
func (d Dir) Holds() string { return d.join("holds") }

// Stamps is the folder of the time stamps over the log's checkpoints.
func (d Dir) Stamps() string { return d.join("timestamps") }

// Extracts is the folder of the extracts that holders asked for, sealed.
func (d Dir) Extracts() string { return d.join("extracts") }

// Receipts is the folder of the sealed receipts and originals.
func (d Dir) Receipts() string { return d.join("receipts") }

// Sums is the file of the sums of those files that have no checksum of their own.
func (d Dir) Sums() string { return d.join("files.sum") }

// AuditState is where log verify keeps its place.
func (d Dir) AuditState() string { return d.join("verify.state") }

// ScrubState is where the daemon's own reading of everything keeps its place, and
// what it found.
func (d Dir) ScrubState() string { return d.join("scrub.state") }

// LimitsState is where the counts of the limits outlive the process.
func (d Dir) LimitsState() string { return d.join("limits.state") }

// Lock is the file whose lock a running daemon or a writing command holds.
func (d Dir) Lock() string { return d.join("lock") }

// Control is the socket (0600) that commands reach a running daemon by.
func (d Dir) Control() string { return d.join("control.sock") }

// Path returns name, which the configuration gives relative to the folder,
// as a path; an absolute name is returned as it is.
func (d Dir) Path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return d.join(name)
}
