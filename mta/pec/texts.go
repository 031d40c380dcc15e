package pec

import "fmt"

// Every Italian text that goes into a message is in this file, so that it is easy to correct. Each says how sure we are of
// it:
//
//	confirmed  read in messages of providers in production, or quoted from one in a court ruling
//	recalled   the rule's wording as its English description (RFC 6109) and other software have it; no sample was seen
//	inferred   composed by us on the model of the others
//
// Programs never read these texts: they read daticert.xml.

// onBehalfOf precedes the sender in the From of an envelope (confirmed; the "On behalf of:" of RFC 6109).
const onBehalfOf = "Per conto di: "

// The words that tell the type of a recipient in an acceptance.
const (
	certifiedRecipient = `"posta certificata"` // confirmed
	ordinaryRecipient  = `"posta ordinaria"`   // recalled
)

// wording is the subject and the text of one type of message. In the text, {giorno}, {ora} and {zona} are the moment
// ("23/11/2026", "10:15:30", "+0100"), {oggetto}, {mittente}, {dest}, {errore} and {identificativo} what they say; a line
// {destinatari} stands for one line per recipient, {destinatari-tipo} for one that also says the type of each, {errori} for
// one per error.
type wording struct {
	subject string
	text    string
}

// variant is what one kind of message has several wordings for.
type variant uint8

const (
	plain     variant = iota
	brief             // of a delivery receipt
	concise           // of a delivery receipt
	forVirus          // of a non-acceptance or non-delivery
	lastDelay         // of a delay notice: after 24 hours
)

// texts is the table.
func texts(k Kind, v variant) wording {
	switch k {
	case Acceptance: // confirmed
		return wording{"ACCETTAZIONE: ", `Ricevuta di accettazione
Il giorno {giorno} alle ore {ora} ({zona}) il messaggio
"{oggetto}" proveniente da "{mittente}"
ed indirizzato a:
{destinatari-tipo}
è stato accettato dal sistema ed inoltrato.
Identificativo messaggio: {identificativo}
`}
	case NonAcceptance: // subject confirmed; text recalled, where it has a single error; the list of sentences is as another provider writes it
		if v == forVirus {
			return wording{"AVVISO DI NON ACCETTAZIONE PER VIRUS: ", `Errore nell'accettazione del messaggio per presenza di virus
Il giorno {giorno} alle ore {ora} ({zona}) nel messaggio
"{oggetto}" proveniente da "{mittente}"
ed indirizzato a:
{destinatari}
è stato rilevato un problema di sicurezza {errore}.
Il messaggio non è stato accettato.
Identificativo messaggio: {identificativo}
`}
		}
		return wording{"AVVISO DI NON ACCETTAZIONE: ", `Errore nell'accettazione del messaggio
Il giorno {giorno} alle ore {ora} ({zona}) nel messaggio
"{oggetto}" proveniente da "{mittente}"
ed indirizzato a:
{destinatari}
è stato rilevato un problema che ne impedisce l'accettazione
a causa delle seguenti anomalie:
{errori}
Il messaggio non è stato accettato.
Identificativo messaggio: {identificativo}
`}
	case TransportEnvelope: // confirmed
		return wording{"POSTA CERTIFICATA: ", `Messaggio di posta certificata
Il giorno {giorno} alle ore {ora} ({zona}) il messaggio
"{oggetto}" è stato inviato da "{mittente}"
indirizzato a:
{destinatari}
Il messaggio originale è incluso in allegato.
Identificativo messaggio: {identificativo}
`}
	case TakeCharge: // subject confirmed, text recalled
		return wording{"PRESA IN CARICO: ", `Ricevuta di presa in carico
Il giorno {giorno} alle ore {ora} ({zona}) il messaggio
"{oggetto}" proveniente da "{mittente}"
ed indirizzato a:
{destinatari}
è stato accettato dal sistema.
Identificativo messaggio: {identificativo}
`}
	case Delivery:
		title := "Ricevuta di avvenuta consegna" // confirmed
		switch v {
		case brief:
			title = "Ricevuta breve di avvenuta consegna" // inferred
		case concise:
			title = "Ricevuta sintetica di avvenuta consegna" // inferred
		}
		return wording{"CONSEGNA: ", title + `
Il giorno {giorno} alle ore {ora} ({zona}) il messaggio
"{oggetto}" proveniente da "{mittente}"
ed indirizzato a "{dest}"
è stato consegnato nella casella di destinazione.
Identificativo messaggio: {identificativo}
`}
	case NonDelivery: // confirmed; for a virus recalled
		if v == forVirus {
			return wording{"AVVISO DI MANCATA CONSEGNA PER VIRUS: ", `Avviso di mancata consegna per virus
Il giorno {giorno} alle ore {ora} ({zona}) nel messaggio
"{oggetto}"
destinato all'utente "{dest}"
è stato rilevato un problema di sicurezza {errore}.
Il messaggio non è stato consegnato.
Identificativo messaggio: {identificativo}
`}
		}
		return wording{"AVVISO DI MANCATA CONSEGNA: ", `Avviso di mancata consegna
Il giorno {giorno} alle ore {ora} ({zona}) nel messaggio
"{oggetto}" proveniente da "{mittente}"
e destinato all'utente "{dest}"
è stato rilevato un errore {errore}.
Il messaggio è stato rifiutato dal sistema.
Identificativo messaggio: {identificativo}
`}
	case DelayNotice: // subject confirmed; text recalled, for 24 hours confirmed in part
		wait := `non è stato consegnato nelle prime dodici ore dal suo invio. Non escludendo che questo possa avvenire in seguito, si ritiene utile considerare che l'invio potrebbe non andare a buon fine.
Il sistema provvederà comunque ad inviare un ulteriore avviso di mancata consegna se nelle prossime dodici ore non vi sarà la conferma della ricezione da parte del destinatario.`
		if v == lastDelay {
			wait = `non è stato consegnato nelle ventiquattro ore successive al suo invio. Si ritiene che la spedizione debba considerarsi non andata a buon fine.`
		}
		return wording{"AVVISO DI MANCATA CONSEGNA PER SUP. TEMPO MASSIMO: ", `Avviso di mancata consegna
Il giorno {giorno} alle ore {ora} ({zona}) il messaggio
"{oggetto}" proveniente da "{mittente}"
e destinato all'utente "{dest}"
` + wait + `
Identificativo messaggio: {identificativo}
`}
	case VirusDetection: // recalled
		return wording{"PROBLEMA DI SICUREZZA: ", `Avviso di rilevazione virus informatico
Il giorno {giorno} alle ore {ora} ({zona}) nel messaggio
"{oggetto}" proveniente da "{mittente}"
e destinato all'utente "{dest}"
è stato rilevato un problema di sicurezza {errore}.
Identificativo messaggio: {identificativo}
`}
	case AnomalyEnvelope: // subject confirmed, text recalled
		return wording{"ANOMALIA MESSAGGIO: ", `Anomalia nel messaggio
Il giorno {giorno} alle ore {ora} ({zona}) è stato ricevuto
il messaggio "{oggetto}" proveniente da "{mittente}"
ed indirizzato a:
{destinatari}
Tali dati non sono stati certificati per il seguente errore:
{errore}
Il messaggio originale è incluso in allegato.
`}
	}
	return wording{}
}

// Reasons for a non-acceptance, as the formal checks of RFC 6109 section 3.1.1 find them: sentences, to be read in a list.
// The first is confirmed (it is in another provider's log), the others are inferred.

// ReasonRecipientNotListed says that an address of the SMTP envelope is in neither To nor Cc.
func ReasonRecipientNotListed(address string) string {
	return "l'indirizzo email " + address + " non appare nei campi To o Cc"
}

// ReasonSenderNotFrom says that the sender of the SMTP envelope is not the address in From.
func ReasonSenderNotFrom(sender string) string {
	return "il mittente " + sender + " non coincide con l'indirizzo del campo From"
}

// ReasonMoreNotListed says the same of n further addresses, or of one.
func ReasonMoreNotListed(n int) string {
	if n == 1 {
		return "un altro destinatario non appare nei campi To o Cc"
	}
	return fmt.Sprintf("altri %d destinatari non appaiono nei campi To o Cc", n)
}

// ReasonTooManyRecipients says that the message has n recipients and may have fewer.
func ReasonTooManyRecipients(n, limit int) string {
	return fmt.Sprintf("il numero dei destinatari (%d) supera il limite di %d", n, limit)
}

// The other reasons for a non-acceptance.
const (
	ReasonNoFrom   = "il campo From non contiene un indirizzo valido"
	ReasonNoTo     = "il campo To non contiene alcun indirizzo valido"
	ReasonBcc      = "il campo Bcc contiene un valore"
	ReasonTooLarge = "la dimensione del messaggio moltiplicata per il numero dei destinatari supera il limite ammesso"
	// ReasonFactsTooLarge is of what every receipt repeats.
	ReasonFactsTooLarge = "la lunghezza dei destinatari e dell'oggetto moltiplicata per il numero dei destinatari supera il limite ammesso"
)

// ErrorText is why a message could not be delivered, by the codes that AgID's "Nota integrativa" 12 made mandatory from
// 1 April 2016.
type ErrorText struct {
	Code string // enhanced status code in the manner of RFC 3463
	Text string
}

// InvalidAddress is for a mailbox that does not exist or is closed (confirmed).
func InvalidAddress() ErrorText { return ErrorText{"5.1.1", "indirizzo non valido"} }

// MailboxDisabled is for a mailbox that exists and may not receive (inferred).
func MailboxDisabled() ErrorText { return ErrorText{"5.2.1", "casella inibita alla ricezione"} }

// MailboxFull is for a mailbox over its quota (confirmed).
func MailboxFull() ErrorText { return ErrorText{"5.2.2", "casella piena"} }

// VirusFound is for a message in which a virus scanner found something, which it calls id (code and wording confirmed, the
// name of the virus in it inferred).
func VirusFound(id string) ErrorText {
	return ErrorText{"5.5.1", "presenza di un virus nel messaggio (" + id + ")"}
}

// NotDeliveredIn12Hours is what a delay notice says (inferred).
func NotDeliveredIn12Hours() ErrorText {
	return ErrorText{"4.4.1", "il messaggio non è stato consegnato nelle prime dodici ore dal suo invio"}
}

// TimeoutCode is the code of the notice after 24 hours, by which senders' programs know that it is the last word.
const TimeoutCode = "5.4.1"

// NotDeliveredIn24Hours is what a timeout notice says (confirmed).
func NotDeliveredIn24Hours() ErrorText {
	return ErrorText{TimeoutCode, "il messaggio non è stato consegnato nelle ventiquattro ore successive al suo invio"}
}

// Why a received message has no certification data that could be relied on: what an anomaly envelope says. The first two are
// confirmed, the others inferred.
const (
	AnomalyNotSigned   = "il messaggio non è firmato digitalmente"
	AnomalySignature   = "la firma digitale del messaggio non risulta attendibile"
	AnomalyOrdinary    = "il dominio mittente non è di posta certificata"
	AnomalyMalformed   = "il messaggio non è conforme alle regole tecniche della posta certificata"
	AnomalyUnsupported = "il messaggio è un avviso del sistema di posta riferito a un invio precedente"
)

// Extended returns the value of errore-esteso, "<code> - <provider> - <text>", where provider is the name of the provider
// that states the error.
func (e ErrorText) Extended(provider string) string {
	return e.Code + " - " + provider + " - " + e.Text
}
