// Package bench puts load on a Tandem endpoint from the client's side and measures
// it: messages that come back ([Echo]), sessions that only are there ([Idle]),
// sessions that come and go ([Churn]), messages that only come ([Receive]).
//
// Each is given an [Opener]: [Wire] speaks the protocol by hand with next to no
// work and memory of its own, [Client] is package client as its users have it.
// Anything else that echoes messages can be compared with them by another Opener.
//
// The load of Echo is a closed loop: a session sends when something came back. While
// a server pauses nothing new is sent, so a pause shows as few slow messages and not
// as all those that would have been late (coordinated omission). The percentiles
// compare servers under the same load; they don't say what users see at a given rate.
package bench
