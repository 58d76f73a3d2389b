package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Post publishes by POST requests; body makes one of an event's data.
func Post(hc *http.Client, url string, header http.Header, body func(data string) string) Publisher {
	return func(ctx context.Context, data string) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body(data)))
		if err != nil {
			return err
		}
		r.Header = header
		answer, err := hc.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
		if err == nil && answer.StatusCode/100 != 2 {
			err = fmt.Errorf("expected a status of success, got %s: %.300s", answer.Status, text)
		}
		return err
	}
}

// Mercure publishes at a hub's URL as the Mercure protocol has it.
func Mercure(hc *http.Client, at, topic string, header http.Header) Publisher {
	header = header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	header.Set("Content-Type", "application/x-www-form-urlencoded")
	return Post(hc, at, header, func(data string) string { return url.Values{"topic": {topic}, "data": {data}}.Encode() })
}
