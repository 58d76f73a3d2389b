// Package flow is one end of a session: two ordered sequences of messages,
// their fragments, windows and acks, the heartbeat, and the termination. Both
// ends of the wire use it, package session on the server and package client.
//
// Start with [New] and [Link.Attach]; then one goroutine feeds the link with
// [Link.Feed] while others call [Link.Receive] and [Link.Send].
//
// A Link knows nothing of HTTP. Its output is a [Carrier], what it reads is an
// io.Reader. A link without a carrier is detached: what is sent waits.
//
// See docs/protocol.md sections 3 and 4.
package flow
