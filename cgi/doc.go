// Package cgi serves the one request of a CGI process, whose body and response
// stream, both at once, for as long as both sides like.
//
//	if cgi.IsCGI() {
//		err := cgi.Serve(h, nil) // then exit
//	}
//
// The request is made by net/http/cgi of the environment. What net/http/cgi alone
// does not do is done here: the body is the live stdin, also without a
// CONTENT_LENGTH; the request's context is cancelled when the web server signals, goes away, or
// can't be written to (context.Cause says which); http.ResponseController works as
// in an HTTP server; a panic, or an environment that is no request, is still answered.
//
// Serve takes the process over: it handles SIGTERM, SIGINT, SIGHUP and SIGPIPE, and
// makes stdin and stdout non-blocking while it runs. The response ends when the process
// exits, so that should be next.
//
// Not supported: NPH scripts, and POSTed bodies of GET and HEAD requests.
package cgi
