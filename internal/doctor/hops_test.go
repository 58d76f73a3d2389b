package doctor_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"tandem/internal/doctor"
	"tandem/internal/probe"
	"tandem/session"
)

// hop is an endpoint in this process, behind something that does harm.
func hop(t *testing.T, harm func(http.Handler) http.Handler) *httptest.Server {
	t.Helper()
	probes := probe.New()
	endpoint := session.NewHandler(session.Echo, &session.Options{Grace: time.Second})
	s := httptest.NewUnstartedServer(harm(probes.Around(endpoint, true)))
	t.Cleanup(func() {
		probes.Close()
		if err := endpoint.Shutdown(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
		s.Close()
	})
	return s
}

func has(r *doctor.Report, s doctor.Symptom, v doctor.Verdict) bool {
	return slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool { return f.Symptom == s && f.Verdict == v })
}

// HTTP/2 that is missing is no fault.
func TestNoHTTP2(t *testing.T) {
	t.Parallel()
	s := hop(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Server", "nginx/1.27.0") // from 1.25.1 on the directive is another one
			h.ServeHTTP(w, r)
		})
	})
	s.StartTLS()
	r := examine(t, s.URL, doctor.Options{TLS: s.Client().Transport.(*http.Transport).TLSClientConfig})
	if r.Status != doctor.Healthy || r.Transport != "single" || !has(r, doctor.NoHTTP2, doctor.Note) {
		t.Errorf("status %d, transport %q, %+v", r.Status, r.Transport, r.Findings)
	}
	if f := r.Findings[0]; f.Directive != "http2" || !slices.Equal(f.Lines, []string{"http2 on;"}) {
		t.Errorf("got %+v", f)
	}
}

// A hop that drops a header of sessions is a fault, though nobody knows which it is.
func TestDroppedHeader(t *testing.T) {
	t.Parallel()
	s := hop(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Tandem-Attempt")
			h.ServeHTTP(w, r)
		})
	})
	s.Start()
	r := examine(t, s.URL, doctor.Options{})
	if r.Status == doctor.Healthy || !has(r, doctor.HeaderDropped, doctor.Fault) || !strings.Contains(r.Findings[0].Why, "Tandem-Attempt") {
		t.Errorf("status %d, %+v", r.Status, r.Findings)
	}
}

// A compressor that waits until it has a block is a fault, but not a response that is
// held back for everybody.
func TestCompressorHoldsBack(t *testing.T) {
	t.Parallel()
	s := hop(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
				h.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			defer z.Close()
			h.ServeHTTP(compressed{w, z}, r)
		})
	})
	s.Start()
	r := examine(t, s.URL, doctor.Options{})
	if r.Status != doctor.Degraded || r.Transport != "single" || !has(r, doctor.Compressed, doctor.Fault) || has(r, doctor.ResponseHeld, doctor.Fault) {
		t.Errorf("status %d, transport %q, %+v", r.Status, r.Transport, r.Findings)
	}
}

// compressed hides the Flush of its ResponseWriter.
type compressed struct {
	w http.ResponseWriter
	z io.Writer
}

func (c compressed) Header() http.Header         { return c.w.Header() }
func (c compressed) WriteHeader(status int)      { c.w.WriteHeader(status) }
func (c compressed) Write(p []byte) (int, error) { return c.z.Write(p) }
func (c compressed) Flush()                      {}

// An upload that stalls is a fault.
func TestStalledUpload(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	s := hop(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Body = &stalling{ReadCloser: r.Body, left: 300 << 10, over: over}
			h.ServeHTTP(w, r)
		})
	})
	s.Start()
	r := examine(t, s.URL, doctor.Options{})
	close(over)
	if r.Status != doctor.Degraded || !has(r, doctor.UploadStalled, doctor.Fault) {
		t.Errorf("status %d, %+v", r.Status, r.Findings)
	}
}

// stalling is a body of which only the beginning ever comes.
type stalling struct {
	io.ReadCloser
	left int
	over <-chan struct{}
}

func (s *stalling) Read(p []byte) (int, error) {
	if s.left == 0 {
		<-s.over
		return 0, io.ErrUnexpectedEOF
	}
	n, err := s.ReadCloser.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}
