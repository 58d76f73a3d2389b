// Package fcgi serves HTTP handlers as a FastCGI responder whose requests and
// responses stream, both at once, for as long as both sides like.
//
//	s := &fcgi.Server{Handler: h}
//	err := s.Serve(listener) // until Shutdown or Close
//
// Its other half is [Relay]: an http.Handler whose requests another such server
// answers, streaming as well.
//
// The package reads and writes the records itself. What net/http/fcgi doesn't do:
//
//   - the handler starts when the params are complete, not at the first byte of the body;
//   - the request's context is cancelled when the web server closes the connection,
//     aborts the request or can't be written to; context.Cause says which;
//   - http.ResponseController works: Flush also sends a header that stands alone,
//     deadlines unblock a stuck Read or Write, full duplex is always on;
//   - a flush is one write, the header's with the first content in one record, and an
//     idle request holds no buffer, neither to read into nor to write from;
//   - a panic ends one request, a malformed record one connection, a failed Accept
//     nothing; what the handler left of the body delays nobody.
//
// Several requests may follow or overlap each other on one connection. They share
// its reader: a handler that leaves its body unread holds up the bodies of the
// others on that connection once [BodyBuffer] bytes wait (no web server that is
// tested here overlaps requests).
//
// Not supported: the roles Authorizer and Filter, and STDERR of the handler; log
// instead. The specification is at https://fastcgi-archives.github.io/.
package fcgi
