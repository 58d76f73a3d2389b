// Package app is the hub as the app of a session: requests and events are JSON text messages (docs/hub.md).
//
// [New] makes a [session.App] of a [hub.Hub]. A request is an object with one of subscribe, unsubscribe, publish and
// presence, and an optional ref, which its answer has too. What is wrong with a request is answered, and
// ends nothing.
//
// Back-pressure: requests are done one by one, in order, and the next one is read when the answer to the last is on its
// way. Events wait in the hub's queue while the client's window is full.
package app
