package evidence

import (
	"fmt"
	"strings"
)

// readme is LEGGIMI.txt: for a reader who has openssl and sha256sum, and no
// program of ours.
func readme(b *Bundle) string {
	var s strings.Builder
	last := b.Checkpoints[len(b.Checkpoints)-1].Signed.Size
	stamped := last
	for _, c := range b.Checkpoints {
		if c.Reply != nil {
			stamped = c.Signed.Size
		}
	}
	fmt.Fprintf(&s, `FILE DI PROVA - estratto del registro legale di %[1]s (%[2]s)

Questo archivio contiene eventi del registro dei messaggi di posta elettronica
certificata, le prove che il registro li contiene, le marche temporali e i
messaggi emessi dal gestore, byte per byte. Si verifica senza rete e senza
fidarsi del gestore. Servono i certificati e la chiave del registro, ottenuti
per altra via (non quelli in questo archivio): ca.pem, tsa-ca.pem, log.vkey.

Con il programma (la CARTELLA contiene quei tre file e, volendo, "witnesses": i
testimoni indipendenti che devono aver firmato il registro insieme al gestore):
  scripta verify FILE --trust CARTELLA
Senza il programma, dopo aver estratto l'archivio e con quei tre file accanto:

1. integrità dei file
     sha256sum -c SHA256SUMS
2. firma del gestore sull'elenco dei file
     openssl cms -verify -cades -binary -inform DER -in manifest.json.p7s \
       -content manifest.json -CAfile ca.pem -out /dev/null
3. marca temporale sul checkpoint del registro
     openssl ts -verify -data checkpoints/%012[4]d.txt \
       -in checkpoints/%012[4]d.tsr -CAfile tsa-ca.pem
4. ogni ricevuta
     openssl cms -verify -cades -in receipts/NUMERO.eml -CAfile ca.pem -out /dev/null
5. appartenenza di un evento al registro: records/NUMERO.json contiene i campi
   con i loro "salt"; docs/format.md del progetto Scripta dice come si ricava la
   foglia e, con "proof", la radice scritta nel checkpoint.

VALORE LEGALE: dipende dall'accreditamento del gestore presso AgID e dalla
qualifica dei certificati e delle marche temporali. I certificati e le marche
di prova ("quickstart", "NOT QUALIFIED") non hanno valore legale.

Eventi nell'archivio: %[3]d; ultimo checkpoint di dimensione %[5]d.

---

EVIDENCE FILE - extract of the legal register of %[1]s (%[2]s)

This archive holds events of the register of certified e-mail, the proofs that
the register holds them, time stamps, and the messages that the provider
issued, byte for byte. It is checked offline, without trusting the provider,
against ca.pem, tsa-ca.pem and log.vkey, which you got by another way and not
from this archive: see the commands above, or put the three into a folder and
run: scripta verify FILE --trust FOLDER. If that folder also names witnesses, they
must have cosigned the log.
Legal value depends on the provider's accreditation and on qualified
certificates and time stamps; quickstart artefacts have none.

Events in this archive: %[3]d; last checkpoint of size %[5]d.
`, b.Provider, b.Origin, len(b.Records), stamped, last)
	if len(b.Disposed) > 0 {
		months := strings.Join(b.Disposed, ", ")
		fmt.Fprintf(&s, "\nSCARTO: le registrazioni di %[1]s sono state distrutte alla fine della conservazione (30 mesi).\nDISPOSED: the records of %[1]s were destroyed at the end of their retention (30 months).\n", months)
	}
	for _, g := range b.Gaps {
		italian, english := g.Statement()
		fmt.Fprintf(&s, "\n%s.\n%s.\nLo attesta la prima registrazione di / It is committed by the first record of %s.\n", italian, english, g.Next)
	}
	for _, p := range b.Previous {
		fmt.Fprintf(&s, "\n%[1]s: file di prova del registro precedente %[2]s, con la propria chiave.\n%[1]s: evidence file of the earlier log %[2]s, with its own key.\n", previousName(p.Origin), p.Origin)
	}
	return s.String()
}
