// Package mercure is a hub's HTTP interface: the Mercure protocol
// (draft-dunglas-mercure-08), and what clients of its drafts 05 to 07 send.
//
// [New] makes a [Handler] of a [hub.Hub]: GET subscribes, and is answered with Server-Sent Events; POST
// publishes. [ParseKeys] reads the keys that access tokens are signed with. docs/mercure.md says what is
// configured how, and where the drafts leave it to the hub, what this one does.
//
// Not supported: encrypted tokens, keys that are fetched over the network, several topics in one update.
//
// A subscriber whose web server interface can detach requests (package fcgi with Server.Detach) takes no goroutine
// while it waits; others take the one of their handler.
package mercure
