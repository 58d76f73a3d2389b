package sqlitebus

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"tandem/hub"
)

// reader has the connection that reads, for one at a time.
type reader struct {
	lock chan struct{} // holds one while the file is in use
	file file
}

// read calls f with the connection. Who reads holds up neither who writes nor, for long, others who
// read: f must be short, and not wait for anybody.
func (b *Bus) read(ctx context.Context, f func(*file) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := b.open(); err != nil {
		return err
	}
	r := &b.reader
	select {
	case r.lock <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-b.closing:
		return errClosed
	}
	defer func() { <-r.lock }()
	err := b.insist(func() error {
		if err := r.file.ready(b); err != nil {
			return err
		}
		return f(&r.file)
	})
	if err != nil {
		r.file.drop(err)
	}
	return b.fault(err)
}

// A page of history is at most so many events and, but for its last event, bytes.
const (
	pageEvents = 256
	pageBytes  = 1 << 20
)

const columns = "SELECT seq, time, start, id, topic, type, private, retry, data FROM events "

// An item is an event of the file, and its start.
type item struct {
	hub.Event
	start int64
}

func scanItem(scan func(...any) error) (*item, error) {
	e := new(item)
	var at, retry int64
	err := scan(&e.Seq, &at, &e.start, &e.ID, &e.Topic, &e.Type, &e.Private, &retry, &e.Data)
	e.Time, e.Retry = time.UnixMicro(at), uint64(retry)
	return e, err
}

// History is hub.Bus's. It reads a page at a time, so that a yield that blocks keeps no
// transaction open.
func (b *Bus) History(ctx context.Context, q hub.Query, yield func(*hub.Event) bool) (hub.Span, error) {
	var p plan
	if err := b.read(ctx, func(f *file) (err error) {
		p, err = b.plan(f, q)
		return err
	}); err != nil {
		return hub.Span{}, err
	}
	for !p.done {
		var page []*hub.Event
		if err := b.read(ctx, func(f *file) (err error) {
			page, err = p.next(f)
			return err
		}); err != nil {
			return hub.Span{}, err
		}
		for _, e := range page {
			if !yield(e) {
				return p.span, nil
			}
		}
	}
	return p.span, nil
}

// A plan is what is left to read for a query.
type plan struct {
	span hub.Span
	from uint64   // all of the span behind this one, or
	some []uint64 // these, if the query has topics
	all  bool
	done bool
}

func (b *Bus) plan(f *file, q hub.Query) (p plan, err error) {
	if _, err := f.row([]any{&p.span.LastSeq, &p.span.LastID}, "SELECT seq, id FROM events ORDER BY seq DESC LIMIT 1"); err != nil {
		return p, err
	}
	// first is the oldest that isn't over the bound of age, and is to be had; lost, whether there were others.
	first, start := p.span.LastSeq+1, int64(0)
	found, err := f.row([]any{&first, &start}, "SELECT seq, start FROM events WHERE time >= ? ORDER BY seq LIMIT 1", b.oldest())
	if err != nil {
		return p, err
	}
	lost := start > 0 || !found && p.span.LastSeq > 0

	known := false
	if q.After != "" {
		if known, err = f.row([]any{&p.from}, "SELECT seq FROM events WHERE id = ?", q.After); err != nil {
			return p, err
		}
	}
	switch {
	case known:
		p.span.Complete = p.from+1 >= first
	case q.Earliest:
		p.span.Complete = q.After == "" && !lost
	default:
		p.span.Complete = q.After == ""
		p.done = true
		return p, nil
	}
	p.from = max(p.from, first-1)
	p.done = p.from >= p.span.LastSeq
	if p.all = q.Topics == nil; p.all || p.done {
		return p, nil
	}
	for _, topic := range q.Topics {
		err := f.rows(func(scan func(...any) error) (bool, error) {
			var seq uint64
			err := scan(&seq)
			p.some = append(p.some, seq)
			return true, err
		}, "SELECT seq FROM events WHERE topic = ? AND seq > ? AND seq <= ?", topic, int64(p.from), int64(p.span.LastSeq))
		if err != nil {
			return p, err
		}
	}
	slices.Sort(p.some)
	p.some = slices.Compact(p.some)
	p.done = len(p.some) == 0
	return p, nil
}

// next reads a page. What has been pruned since makes the span incomplete.
func (p *plan) next(f *file) ([]*hub.Event, error) {
	var page []*hub.Event
	bytes := 0
	// A try that fails is made again from the start: so p changes only at the end.
	now := *p
	each := func(scan func(...any) error) (bool, error) {
		e, err := scanItem(scan)
		if err != nil {
			return false, err
		}
		page = append(page, &e.Event)
		bytes += len(e.Data)
		return len(page) < pageEvents && bytes < pageBytes, nil
	}
	if p.all {
		if err := f.rows(each, columns+"WHERE seq > ? AND seq <= ? ORDER BY seq", int64(p.from), int64(p.span.LastSeq)); err != nil {
			return nil, err
		}
		for _, e := range page {
			now.span.Complete = now.span.Complete && e.Seq == now.from+1
			now.from = e.Seq
		}
		now.done = len(page) == 0 || now.from == now.span.LastSeq
	} else {
		some := now.some[:min(len(now.some), pageEvents)]
		list, err := json.Marshal(some)
		if err != nil {
			return nil, err
		}
		if err := f.rows(each, columns+"WHERE seq IN (SELECT value FROM json_each(?)) ORDER BY seq", string(list)); err != nil {
			return nil, err
		}
		n := len(some)
		if bytes >= pageBytes {
			n, _ = slices.BinarySearch(some, page[len(page)-1].Seq+1)
		}
		now.span.Complete = now.span.Complete && n == len(page)
		now.some = now.some[n:]
		now.done = len(now.some) == 0
	}
	*p = now
	return page, nil
}
