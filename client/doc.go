// Package client opens Tandem sessions: two-way messages with a program behind
// a classic web server, in ordinary HTTP requests.
//
// Start with [Dial], then [Conn.Receive] and [Conn.Send]:
//
//	c, err := client.Dial(ctx, "https://www.example.org/tandem", nil)
//	if err != nil {
//		return err
//	}
//	defer c.CloseNow()
//	if err := c.Send(ctx, frame.Text("hello")); err != nil {
//		return err
//	}
//	m, err := c.Receive(ctx)
//
// It works over HTTP/1.1, HTTP/2 and forward proxies. Dial finds the best transport
// that passes: [Single] and [Pulse] carry both ways in one request, [Split] and [Poll] in
// several, down to proxies that let nothing stream; and remembers it ([Memory]). The
// program is started once, whatever was tried.
//
// A session whose transport is cut is resumed over other requests, over another transport
// if need be, where the server grants a time for it: nothing is lost and nothing
// comes twice. Else the cut ends the session with [frame.CodeHeartbeat], and
// [Conn.Unacked] tells what the server may not have got. Opening another session then is the
// caller's decision; [RetryAfter] says when.
//
// The wire is that of docs/protocol.md, version 1.
package client
