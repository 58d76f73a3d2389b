// Package session serves two-way message sessions inside HTTP requests: it is
// the http.Handler between a web server's interface and an [App].
//
// Start with [NewHandler], and write an App; within it, [Session.Receive] and
// [Session.Send]:
//
//	h := session.NewHandler(session.AppFunc(func(ctx context.Context, s *session.Session) error {
//		for {
//			m, err := s.Receive(ctx)
//			if err != nil {
//				return err
//			}
//			if err := s.Send(ctx, m); err != nil {
//				return err
//			}
//		}
//	}), nil)
//	http.ListenAndServe("127.0.0.1:8080", h)
//
// A session runs over one request (single, and pulse behind Apache's
// mod_proxy_fcgi), or over several, in halves (split, poll). With Options.Grace it
// outlives a request that was cut, and another request resumes it.
//
// The wire is that of docs/protocol.md, version 1.
package session
