package upkeep

import "strings"

// DoorKey is the key in subjects.BucketState under which Guard says whether orders may be taken in.
// Every ingress process watches it.
const DoorKey = "door"

const (
	doorIsOpen   = "open"
	doorIsClosed = "closed: "
)

// DoorValue is what is stored under DoorKey: closed for the reason given, open without one.
func DoorValue(reason string) []byte {
	if reason == "" {
		return []byte(doorIsOpen)
	}
	return []byte(doorIsClosed + reason)
}

// ParseDoor reads a value of DoorKey; anything but a closed door is an open one.
func ParseDoor(value []byte) (reason string, closed bool) {
	reason, closed = strings.CutPrefix(string(value), doorIsClosed)
	if !closed {
		return "", false
	}
	return reason, true
}
