package fcgi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
)

var (
	errOverloaded = errors.New("fcgi: the server refused the request: overloaded")
	errBody       = errors.New("fcgi: the request's body was cut")
)

// exchange is one request and its response. ServeHTTP's goroutine carries the
// response, a second one the body.
type exchange struct {
	nc net.Conn
	w  http.ResponseWriter
	rc *http.ResponseController
	r  *http.Request

	uploaded  chan struct{} // closed when nothing reads the body any more
	uploadErr error         // valid then

	head  []byte // of the CGI header, until it is complete
	begun bool   // it was: the response has a status
}

// run returns when nothing reads or writes any more. An error says that the response
// is not complete.
func (e *exchange) run() error {
	stop := context.AfterFunc(e.r.Context(), func() { e.nc.Close() })
	defer stop()
	finite := e.r.Body == nil || e.r.Body == http.NoBody
	if _, err := e.nc.Write(appendRequest(nil, e.r, finite)); err != nil {
		close(e.uploaded)
		return err
	}
	if finite {
		close(e.uploaded)
	} else {
		go e.upload()
	}
	err := e.download()
	e.nc.Close() // a blocked write of the body returns
	select {
	case <-e.uploaded:
	default:
		// An answer may come before the body's end: nothing may be left reading that.
		if err == nil {
			_ = e.rc.Flush()
		}
		if e.rc.SetReadDeadline(longAgo) != nil {
			e.r.Body.Close()
		}
		<-e.uploaded
	}
	switch {
	case err == nil:
		return nil
	case e.r.Context().Err() != nil:
		return context.Cause(e.r.Context())
	case errors.Is(e.uploadErr, errBody):
		return e.uploadErr
	}
	return err
}

// upload passes the body on as STDIN, a record for each read. A body that was cut ends
// the connection: FastCGI has no other way to tell it from its end.
func (e *exchange) upload() {
	defer close(e.uploaded)
	buf := buffer(smallBuffer)
	defer func() { giveBack(buf) }()
	for {
		// Room for the record's header and its padding is left.
		n, err := e.r.Body.Read(buf[headerLen : len(buf)-headerLen])
		var rec []byte
		if n > 0 {
			rec = sealRecord(buf[:headerLen+n], 0, typeStdin, requestID)
		}
		switch {
		case err == io.EOF:
			_, e.uploadErr = e.nc.Write(appendRecord(rec, typeStdin, requestID, nil))
			return
		case err != nil:
			e.uploadErr = fmt.Errorf("%w: %w", errBody, err)
			e.nc.Close()
			return
		}
		if _, err := e.nc.Write(rec); err != nil {
			e.uploadErr = err
			return
		}
		// A large buffer is for bursts, not for waiting.
		full := n == len(buf)-2*headerLen
		giveBack(buf)
		if full {
			buf = buffer(largeBuffer)
		} else {
			buf = buffer(smallBuffer)
		}
	}
}

// download reads records until END_REQUEST, and passes STDOUT on. It flushes when
// no whole record waits: what the server flushed together leaves together.
func (e *exchange) download() error {
	in := newInput(e.nc)
	defer in.release()
	slow := newSlowWriter(e)
	defer slow.stop()
	for {
		h, err := nextRecord(in)
		if err != nil {
			return err
		}
		left := h.length
		switch {
		case h.typ == typeEndRequest:
			return e.end(in, h)
		case h.typ == typeStdout && left > 0:
			for left > 0 {
				b, err := in.next(left)
				if err != nil {
					return midRecord(err)
				}
				left -= len(b)
				slow.begin()
				err = e.stdout(b)
				slow.end()
				if err != nil {
					return err
				}
			}
		}
		if err := in.skip(left + h.padding); err != nil {
			return midRecord(err)
		}
		if h.typ == typeStdout && h.length > 0 && e.begun && !recordWaits(in) {
			slow.begin()
			err := e.rc.Flush()
			slow.end()
			if err != nil {
				return err
			}
		}
	}
}

// end is what END_REQUEST says of the response: nil for a complete one.
func (e *exchange) end(in *input, h recordHeader) error {
	content, err := in.peek(8)
	if err != nil {
		return midRecord(err)
	}
	switch status := content[4]; {
	case status == statusOverloaded:
		return errOverloaded
	case status != statusRequestComplete:
		return fmt.Errorf("fcgi: the server refused the request: protocol status %d", status)
	case !e.begun:
		return errors.New("fcgi: the server ended the request without an answer")
	}
	return nil
}

// nextRecord reads a record's header and checks what a responder may send.
func nextRecord(in *input) (recordHeader, error) {
	b, err := in.peek(headerLen)
	if err != nil {
		return recordHeader{}, midRecord(err)
	}
	h := parseHeader(b)
	switch {
	case h.version != version1:
		return h, protocolErrorf("version %d from the server, expected 1: it doesn't speak FastCGI", h.version)
	case h.id != requestID && h.id != 0:
		return h, protocolErrorf("request id %d from the server, expected %d", h.id, requestID)
	case h.typ == typeEndRequest && h.length != 8:
		return h, protocolErrorf("END_REQUEST of %d bytes, expected 8", h.length)
	}
	return h, in.skip(headerLen)
}

// recordWaits tells whether a whole record was read already.
func recordWaits(in *input) bool {
	b := in.buf[in.at:in.end]
	if len(b) < headerLen {
		return false
	}
	h := parseHeader(b)
	return len(b) >= headerLen+h.length
}

// maxHead is how large the header of a response may be, in bytes.
const maxHead = 64 << 10

// stdout passes on a part of the response: the CGI header (RFC 3875 section 6) first.
func (e *exchange) stdout(p []byte) error {
	if e.begun {
		_, err := e.w.Write(p)
		return err
	}
	e.head = append(e.head, p...)
	end := bytes.Index(e.head, []byte("\n\r\n"))
	if end < 0 {
		if len(e.head) > maxHead {
			return fmt.Errorf("fcgi: the response's header has no end within %d bytes", maxHead)
		}
		return nil
	}
	head, body := e.head[:end+3], e.head[end+3:]
	e.head = nil
	if err := e.begin(head); err != nil {
		return err
	}
	_, err := e.w.Write(body)
	return err
}

// begin gives the response its status and header. Fields that are set here already
// are replaced.
func (e *exchange) begin(head []byte) error {
	fields, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(head))).ReadMIMEHeader()
	if err != nil {
		return fmt.Errorf("fcgi: the response's header: %w", err)
	}
	status := http.StatusOK
	if s := fields.Get("Status"); s != "" {
		if status, err = strconv.Atoi(s[:min(3, len(s))]); err != nil || status < 200 || status > 999 {
			return fmt.Errorf("fcgi: the response's Status: expected one from 200 to 999, got %.20q", s)
		}
		delete(fields, "Status")
	}
	for name, values := range fields {
		e.w.Header()[name] = values
	}
	e.begun = true
	e.w.WriteHeader(status)
	return nil
}
