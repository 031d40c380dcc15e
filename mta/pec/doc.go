// Package pec builds and parses the messages of certified e-mail (PEC, Posta Elettronica Certificata): the transport
// envelope, the receipts, and the certification data (daticert.xml) inside them.
//
// It is for the three points of a provider: the Access Point reads a submitted message with ReadOriginal, patches its
// Message-ID with Original.Patch and issues an acceptance and a transport envelope with a Composer; the Incoming Point
// reads what arrives with ReadSigned and issues a take-charge; the Delivery Point issues delivery and non-delivery
// receipts.
//
// What it promises:
//
//   - The same inputs give the same bytes. Message-IDs and MIME boundaries are derived from the transaction, so a
//     transaction that is run again after a crash issues the identical message, up to what the Signer returns.
//   - Messages are streamed: neither a submitted nor an issued nor a received message is ever held whole in memory.
//   - The bytes of the original travel unchanged, apart from the edits that Original.Patch lists.
//   - A hostile subject, address or header never breaks a header, the XML or the text of an issued message.
//   - Parsers are bounded by Limits and never fetch anything: XML is read without entities.
//
// It never does I/O of its own, never reads a clock or a source of randomness, and does not verify signatures: it splits
// a signed message into the exact signed octets' digests and the signature, for a CMS verifier to judge.
//
// Sources: RFC 6109 sections 2 to 4 and the Italian technical rules it describes (annex to DM 2 November 2005), with the
// wire constants that providers in production use ("daticert.xml", "Per conto di:", "posta-certificata@"); RFC 5322,
// RFC 2045 to 2047, RFC 1847 and RFC 8551 for the mail format; AgID's "Nota integrativa" 12 of 2015 for error codes.
package pec
