package evidence

import (
	"fmt"
	"strings"
	"time"
)

// manifestFormat names the format of manifest.json, and so of the container.
const manifestFormat = "scripta/evidence/v1"

// Query is what an evidence file answers.
type Query struct {
	Mailbox     string     `json:"mailbox,omitempty"`
	MessageID   string     `json:"message_id,omitempty"`
	ReceiptID   string     `json:"receipt_id,omitempty"`
	Counterpart string     `json:"counterpart,omitempty"`
	Subject     string     `json:"subject,omitempty"`
	Kinds       []string   `json:"kinds,omitempty"` // names of kinds, any of them
	From        *time.Time `json:"from,omitempty"`
	To          *time.Time `json:"to,omitempty"`
}

// manifest is manifest.json.
type manifest struct {
	Format   string    `json:"format"`
	Notice   string    `json:"notice"` // what its legal value depends on
	Origin   string    `json:"origin"` // of the log
	Provider string    `json:"provider"`
	Created  time.Time `json:"created"` // by the provider's clock, UTC
	Query    Query     `json:"query"`
	Records  int       `json:"records"`
	// Gaps are what the register lost within the query's period, if anything: each
	// is committed by a record rollback-accepted.
	Gaps []gap `json:"gaps,omitempty"`
	// Disposed are the months of the query's period whose records were destroyed at
	// the end of their retention; what was held of them is still here.
	Disposed []string    `json:"disposed,omitempty"`
	Files    []fileEntry `json:"files"` // in the container's order
}

// gap is a record.Gap: between its sizes the log of its origin lost records.
type gap struct {
	Origin       string    `json:"origin"` // that was frozen
	Next         string    `json:"next"`   // whose first record commits the gap
	Kept         uint64    `json:"kept"`   // size up to which the frozen log is held
	Known        uint64    `json:"known"`  // largest size that it is known to have published, 0: none is known
	Contradicted bool      `json:"contradicted"`
	From         time.Time `json:"from"`
	To           time.Time `json:"to"`
	Lost         uint64    `json:"lost"`
	Statement    string    `json:"statement"`
}

// previousName is the evidence file of a log that was frozen, by its origin.
func previousName(origin string) string {
	return prefixPrevious + origin[strings.LastIndexByte(origin, '/')+1:] + ".zip"
}

type fileEntry struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Names of the container's fixed files.
const (
	nameReadme    = "LEGGIMI.txt"
	nameManifest  = "manifest.json"
	nameSignature = "manifest.json.p7s"
	nameSums      = "SHA256SUMS"

	prefixPrevious = "previous/"
)

func checkpointName(size uint64, ext string) string {
	return fmt.Sprintf("checkpoints/%012d.%s", size, ext)
}
func recordName(index uint64) string  { return fmt.Sprintf("records/%012d.json", index) }
func receiptName(index uint64) string { return fmt.Sprintf("receipts/%012d.eml", index) }

// sumsLine is one line of SHA256SUMS, as sha256sum writes it.
func sumsLine(digest, name string) string { return digest + "  " + name + "\n" }
