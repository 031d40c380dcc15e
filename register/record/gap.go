package record

import (
	"fmt"
	"time"
)

// Gap is what the register lost when a rollback was accepted: between Kept and
// Known records of Origin, which had been published, are not in it any more.
type Gap struct {
	Origin string `json:"origin"` // that was frozen
	Next   string `json:"next"`   // origin that went on; its first record commits the gap
	Kept   uint64 `json:"kept"`   // size up to which the frozen log is held and proved
	Known  uint64 `json:"known"`  // largest size that it is known to have published; 0: none is known
	// Contradicted says that the log held here had another history than the one
	// published: what is missing has no figure.
	Contradicted bool `json:"contradicted,omitempty"`
	// From is the time of the last record that is held, To when the rollback was
	// accepted: events between them may be missing.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Lost is how many records are known to be missing.
func (g Gap) Lost() uint64 { return max(g.Known, g.Kept) - g.Kept }

// Overlaps says whether events between two times may be missing; a zero time is
// no bound.
func (g Gap) Overlaps(from, to time.Time) bool {
	return (to.IsZero() || !to.Before(g.From)) && (from.IsZero() || !from.After(g.To))
}

// Statement says it to a reader, in Italian and in English.
func (g Gap) Statement() (italian, english string) {
	const layout = "2006-01-02 15:04:05 UTC"
	when := fmt.Sprintf("%s - %s", g.From.UTC().Format(layout), g.To.UTC().Format(layout))
	switch {
	case g.Contradicted:
		return fmt.Sprintf("LACUNA: il registro %s conservava una storia diversa da quella pubblicata (ultima dimensione nota %d, provata fino a %d): eventi di questo periodo possono mancare (%s)", g.Origin, g.Known, g.Kept, when),
			fmt.Sprintf("GAP: the register %s held another history than the published one (last known size %d, proved up to %d): events of this period may be missing (%s)", g.Origin, g.Known, g.Kept, when)
	case g.Known == 0:
		return fmt.Sprintf("LACUNA: del registro %s, provato fino alla dimensione %d, non si conosce l'ultimo checkpoint pubblicato: eventi di questo periodo possono mancare (%s)", g.Origin, g.Kept, when),
			fmt.Sprintf("GAP: the last published checkpoint of the register %s, proved up to size %d, is not known: events of this period may be missing (%s)", g.Origin, g.Kept, when)
	}
	return fmt.Sprintf("LACUNA: tra la dimensione %d e la dimensione %d di %s il registro ha perduto %d registrazioni (%s)", g.Kept, g.Known, g.Origin, g.Lost(), when),
		fmt.Sprintf("GAP: between size %d and size %d of %s the register lost %d records (%s)", g.Kept, g.Known, g.Origin, g.Lost(), when)
}
