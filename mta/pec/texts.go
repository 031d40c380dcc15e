package pec

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
// {destinatari} stands for one line per recipient, {destinatari-tipo} for one that also says the type of each.
type wording struct {
	subject string
	text    string
}

// texts is the table.
func texts(k Kind, t ReceiptType) wording {
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
	case NonAcceptance: // subject confirmed, text recalled
		return wording{"AVVISO DI NON ACCETTAZIONE: ", `Errore nell'accettazione del messaggio
Il giorno {giorno} alle ore {ora} ({zona}) nel messaggio
"{oggetto}" proveniente da "{mittente}"
ed indirizzato a:
{destinatari}
è stato rilevato un problema che ne impedisce l'accettazione
a causa di {errore}.
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
		switch t {
		case Brief:
			title = "Ricevuta breve di avvenuta consegna" // inferred
		case Concise:
			title = "Ricevuta sintetica di avvenuta consegna" // inferred
		}
		return wording{"CONSEGNA: ", title + `
Il giorno {giorno} alle ore {ora} ({zona}) il messaggio
"{oggetto}" proveniente da "{mittente}"
ed indirizzato a "{dest}"
è stato consegnato nella casella di destinazione.
Identificativo messaggio: {identificativo}
`}
	case NonDelivery: // confirmed
		return wording{"AVVISO DI MANCATA CONSEGNA: ", `Avviso di mancata consegna
Il giorno {giorno} alle ore {ora} ({zona}) nel messaggio
"{oggetto}" proveniente da "{mittente}"
e destinato all'utente "{dest}"
è stato rilevato un errore {errore}.
Il messaggio è stato rifiutato dal sistema.
Identificativo messaggio: {identificativo}
`}
	}
	return wording{}
}

// Reasons for a non-acceptance, as the formal checks of RFC 6109 section 3.1.1 find them. The first is confirmed (it is in
// another provider's log), the others are inferred.

// ReasonRecipientNotListed says that an address of the SMTP envelope is in neither To nor Cc.
func ReasonRecipientNotListed(address string) string {
	return "l'indirizzo email " + address + " non appare nei campi To o Cc"
}

// ReasonSenderNotFrom says that the sender of the SMTP envelope is not the address in From.
func ReasonSenderNotFrom(sender string) string {
	return "il mittente " + sender + " non coincide con l'indirizzo del campo From"
}

// The other reasons for a non-acceptance.
const (
	ReasonNoFrom   = "il campo From non contiene un indirizzo valido"
	ReasonNoTo     = "il campo To non contiene alcun indirizzo valido"
	ReasonBcc      = "il campo Bcc contiene un valore"
	ReasonTooLarge = "la dimensione del messaggio moltiplicata per il numero dei destinatari supera il limite ammesso"
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

// Extended returns the value of errore-esteso, "<code> - <provider> - <text>", where provider is the name of the provider
// that states the error.
func (e ErrorText) Extended(provider string) string {
	return e.Code + " - " + provider + " - " + e.Text
}
