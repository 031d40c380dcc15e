package api

import (
	"strings"

	"scripta/mta/pec"
	"scripta/register"
	"scripta/register/record"
)

// fate is what became of a message for one recipient.
type fate uint8

const (
	unknown fate = iota
	failed       // also: there was none in time, and one may come yet
	done
)

// fates are those of the recipients that count, by address in lower case.
type fates map[string]fate

// settle gives recipients a fate. That one has the message is the last word.
func (o fates) settle(of fate, recipients ...string) {
	for _, a := range recipients {
		a = strings.ToLower(a)
		if was, counts := o[a]; counts && was != done {
			o[a] = of
		}
	}
}

// state reads off the events what became of the message.
func state(mailbox string, m *message, events []*register.Found) string {
	of := fates{}
	ordinary := map[string]bool{}
	if m.Direction == received {
		of[strings.ToLower(mailbox)] = unknown
	} else {
		for _, r := range m.Recipients {
			of[strings.ToLower(r.Address)] = unknown
			ordinary[strings.ToLower(r.Address)] = !r.Certified
		}
	}
	way, anomaly := stateSubmitted, false
	for _, e := range events {
		switch r := e.Record; r.Kind {
		case record.NonAcceptanceIssued, record.OrdinaryRefused:
			return stateNotAccepted
		case record.AcceptanceIssued:
			if way == stateSubmitted {
				way = stateAccepted
			}
		case record.Received, record.TakeChargeIssued, record.Deferred:
			way = stateInTransit
		case record.UncertifiedReceived:
			way, anomaly = stateInTransit, true
		case record.Relayed:
			way = stateInTransit
			for _, a := range r.About { // of an ordinary recipient nothing more will be known
				if ordinary[strings.ToLower(a)] && detail(r, "type") == pec.TransportEnvelope.String() {
					of.settle(done, a)
				}
			}
		case record.Bounced:
			if detail(r, "type") == pec.TransportEnvelope.String() {
				of.settle(failed, r.About...)
			}
		case record.NotificationReceived:
			switch detail(r, "type") {
			case pec.TakeCharge.String():
				way = stateInTransit
			case pec.Delivery.String():
				of.settle(done, r.About...)
			case pec.NonDelivery.String(), pec.VirusDetection.String():
				of.settle(failed, r.About...)
			}
		case record.Delivered, record.DeliveryIssued:
			of.settle(done, r.About...)
		case record.NonDeliveryIssued, record.TimeoutNoticeIssued, record.VirusDetectionIssued:
			of.settle(failed, r.About...)
		case record.NotificationDelivered:
			if anomaly { // nothing else tells of it
				of.settle(done, r.About...)
			}
		case record.NotificationFailed:
			if anomaly {
				of.settle(failed, r.About...)
			}
		}
	}
	n := map[fate]int{}
	for _, o := range of {
		n[o]++
	}
	switch {
	case n[done] > 0 && n[failed]+n[unknown] == 0:
		return stateDelivered
	case n[done] > 0:
		return statePartlyDelivered
	case n[failed] > 0 && n[unknown] == 0:
		return stateNotDelivered
	case m.Direction == received:
		return stateInTransit
	}
	return way
}

// detail is the value of a record's detail, or "".
func detail(r *record.Record, name string) string {
	for _, p := range r.Detail {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}
