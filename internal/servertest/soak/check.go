package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"tandem/client"
	"tandem/session/frame"
)

// A check is one session: it opens it, is silent, and says how it went.
type check struct {
	route route
	codec string
	run   func(ctx context.Context, r *row) error
}

// checks are the sessions of a route.
func (r route) checks() []check {
	var all []check
	for _, codec := range []string{"json", "binary"} {
		if r.finite {
			break
		}
		all = append(all, check{r, codec, func(ctx context.Context, row *row) error { return r.framed(ctx, codec, row) }})
	}
	if r.finite {
		all = append(all, check{r, "json", func(ctx context.Context, row *row) error { return r.halfDuplex(ctx, "json", row) }})
	}
	// A client without heartbeats needs what the shipped files say.
	if r.config != "defaults" && r.finite {
		all = append(all, check{r, "lines", func(ctx context.Context, row *row) error { return r.halfDuplex(ctx, "lines", row) }})
	} else if r.config != "defaults" {
		all = append(all, check{r, "lines", r.lines})
	}
	return all
}

// framed holds a session with package client.
func (r *route) framed(ctx context.Context, codec string, row *row) error {
	dialling, cancel := context.WithTimeout(ctx, 3*patience)
	defer cancel()
	c, err := client.Dial(dialling, r.url, &client.Options{Codec: codec, Heartbeat: r.heartbeat, TLS: r.tls})
	if err != nil {
		return err
	}
	defer c.CloseNow()
	start := time.Now()
	row.how = c.Path().Transport + ", " + c.Path().Body()
	if c.Path().Proto == "HTTP/2.0" {
		row.how = c.Path().Transport + ", HTTP/2"
	}
	quiet := time.NewTimer(r.idle)
	defer quiet.Stop()
	select {
	case <-quiet.C:
	case <-c.Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	row.open = time.Since(start)
	if err := c.Err(); err != nil {
		return fmt.Errorf("cut after %.1f s: %w", row.open.Seconds(), err)
	}
	ending, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	sent := time.Now()
	if err := c.Send(ending, frame.Text("after the silence")); err != nil {
		return err
	}
	m, err := c.Receive(ending)
	if err != nil || string(m.Data) != "after the silence" {
		return fmt.Errorf("expected the echo, got %q, %w", m.Data, err)
	}
	row.echo = time.Since(sent)
	return c.Close(frame.CodeNormal, "")
}

// lines holds a session as curl does, without a byte either way.
func (r *route) lines(ctx context.Context, row *row) error {
	in, body := io.Pipe()
	defer body.Close()
	// Behind Apache even the header comes only when the client sends something.
	answered := make(chan struct{})
	knocked := make(chan struct{})
	go func() {
		defer close(knocked)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := io.WriteString(body, "\n"); err != nil {
				return
			}
			select {
			case <-answered:
				return
			case <-tick.C:
			}
		}
	}()
	resp, err := r.post(ctx, "text/plain", in, -1)
	close(answered)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	<-knocked
	start := time.Now()
	row.how = "chunked"
	if r.declared {
		row.how = "declared"
	}
	got := make(chan error, 1)
	go func() { // ends with the response
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			if lines.Text() == "after the silence" {
				got <- nil
				return
			}
		}
		got <- fmt.Errorf("the response ended: %v", lines.Err())
	}()
	quiet := time.NewTimer(r.idle)
	defer quiet.Stop()
	select {
	case <-quiet.C:
	case err := <-got:
		row.open = time.Since(start)
		return fmt.Errorf("cut after %.1f s: %w", row.open.Seconds(), err)
	}
	row.open = time.Since(start)
	sent := time.Now()
	if _, err := io.WriteString(body, "after the silence\n"); err != nil {
		return err
	}
	if !r.declared {
		body.Close() // behind Apache the body's end lets the answer through
	}
	select {
	case err := <-got:
		row.echo = time.Since(sent)
		return err
	case <-time.After(patience):
		return errors.New("expected the echo of a line after the silence, nothing came")
	}
}

// halfDuplex sends a whole body, then watches a program that is quiet.
func (r *route) halfDuplex(ctx context.Context, codec string, row *row) error {
	row.how = "finite body"
	media, body := "text/plain", "x\n"
	if codec == "json" {
		media = "application/x-ndjson"
		body = fmt.Sprintf("{\"type\":\"open\",\"version\":1,\"heartbeat\":%d,\"window\":65536,\"messages\":64,\"max_message\":65536}\n{\"type\":\"end\",\"seq\":0}\n", r.heartbeat.Milliseconds())
	}
	start := time.Now()
	resp, err := r.post(ctx, media, strings.NewReader(body), int64(len(body)))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	row.open = time.Since(start)
	if err != nil {
		return fmt.Errorf("cut after %.1f s: %w", row.open.Seconds(), err)
	}
	text := string(all)
	begin, end := strings.Index(text, "begin"), strings.LastIndex(text, "end")
	if begin < 0 || end < begin || row.open < r.idle {
		return fmt.Errorf("cut after %.1f s: expected begin, %v of silence, end; got %q", row.open.Seconds(), r.idle, text)
	}
	if codec == "json" && !strings.Contains(text, `"code":1000`) {
		return fmt.Errorf("expected a close frame with code 1000, got %q", text)
	}
	return nil
}

// post sends a request whose body has this length, or stays open (-1), and returns
// with the response's header.
func (r *route) post(ctx context.Context, media string, body io.Reader, length int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = length
	if length < 0 && r.declared {
		req.ContentLength = 1 << 40
	}
	req.Header.Set("Content-Type", media)
	t := &http.Transport{TLSClientConfig: r.tls.Clone(), DisableKeepAlives: true, DisableCompression: true, ForceAttemptHTTP2: true}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		resp.Body.Close()
		return nil, fmt.Errorf("expected status 200, got %s: %s", resp.Status, text)
	}
	return resp, nil
}
