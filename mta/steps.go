package mta

import (
	"encoding/hex"

	"scripta/register/record"
)

// Steps of a transaction. With the transaction's id and an ordinal they make the
// ids of its records and the Message-IDs of what it issues, so they never change.
const (
	stepSubmitted     uint16 = 1
	stepAcceptance    uint16 = 2
	stepNonAcceptance uint16 = 3
	stepEnvelope      uint16 = 4
	stepNotified      uint16 = 5 // acceptance or non-acceptance put into the sender's mailbox

	// By recipient, about what became known of those who are not ours.
	stepDelay            uint16 = 6
	stepDelayNotified    uint16 = 7
	stepTimeout          uint16 = 8
	stepTimeoutNotified  uint16 = 9
	stepRefused          uint16 = 10
	stepRefusedNotified  uint16 = 11
	stepInfected         uint16 = 12
	stepInfectedNotified uint16 = 13
	// A report about ordinary recipients; the ordinal is the place of its first one.
	stepReturned         uint16 = 14 // the report itself
	stepReturnedEnvelope uint16 = 15
	stepReturnedNotified uint16 = 20

	stepReceived           uint16 = 16
	stepTakeCharge         uint16 = 17
	stepTakeChargeNotified uint16 = 18

	stepVirusFound  uint16 = 24 // of a message that came in, at either point
	stepQuarantined uint16 = 25

	// By recipient: the ordinal is the recipient's place.
	stepDelivered       uint16 = 32
	stepDelivery        uint16 = 33
	stepNonDelivery     uint16 = 34
	stepOutcomeNotified uint16 = 35

	// Of a relay job: the ordinal counts attempts and, in each, answers.
	stepRelayed  uint16 = 64
	stepDeferred uint16 = 65
	stepBounced  uint16 = 66
	// Of what came in on the port of other mail servers.
	stepNotificationReceived uint16 = 48
	stepUncertifiedReceived  uint16 = 49
	stepAnomaly              uint16 = 50
	stepReached              uint16 = 51 // put into a mailbox; by recipient
	stepOrdinaryRefused      uint16 = 52
	// By recipient, too.
	stepVirusDetection         uint16 = 53
	stepVirusDetectionNotified uint16 = 54
)

// fileName is the unique part of a message's name in a mailbox: the id of the
// record that tells of its issue, so that a rerun finds what it prepared.
func fileName(id record.ID) string { return hex.EncodeToString(id[:]) }

// transactionOf returns the transaction whose message has this name.
func transactionOf(name string) (tx [16]byte, ok bool) {
	b, err := hex.DecodeString(name)
	if err != nil || len(b) != len(record.ID{}) {
		return tx, false
	}
	return record.ID(b).Transaction(), true
}
