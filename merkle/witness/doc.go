// Package witness lets logs watch each other (c2sp.org/tlog-witness): a witness
// cosigns a log's checkpoint after it has verified that it continues the last
// one it cosigned, so that a log which shows two histories, or goes back to an
// older one, can't get both of them cosigned.
//
//   - Server is the witness. It remembers the last checkpoint of each log in a
//     file, on the disk before the cosignature is given to anyone.
//   - Client asks one witness and verifies its answer; LatestSeen asks what
//     witnesses saw last.
//   - Policy says which witnesses, and how many, must have cosigned
//     (c2sp.org/tlog-policy).
//   - Gatherer asks the witnesses of a log about its checkpoints, until a quorum
//     cosigned, and keeps and serves the cosigned notes.
//
// Cosignatures are cosignature/v1 of Ed25519 keys (c2sp.org/tlog-cosignature,
// type 0x04). They cover the note's text, never the log's signature; time stamps
// cover the text and the log's signature, never cosignatures.
//
// What a witness never does: answer while it is not certain what it cosigned
// before. A state that can't be read or written is an error, for ever, until a
// person repairs it. What it can't notice is the loss of its whole folder, or an
// older copy of it brought back.
package witness
