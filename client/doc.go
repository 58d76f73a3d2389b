// Package client opens Tandem sessions: two-way messages with a program behind
// a classic web server, in one HTTP request at a time.
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
// It works over HTTP/1.1, HTTP/2 and forward proxies, with the transports single
// and pulse. A session whose transport is cut is resumed over another request, if
// the server grants a time for it: nothing is lost and nothing comes twice. Else
// the cut ends the session with [frame.CodeHeartbeat]. Not supported yet: the
// transports split and poll.
//
// The wire is that of docs/protocol.md, version 1.
package client
