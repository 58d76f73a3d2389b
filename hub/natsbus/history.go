package natsbus

import (
	"context"

	"tandem/hub"
)

// manyTopics is how many topics of a query are read one by one; of more, all events are read, and others left out.
const manyTopics = 32

// History passes stored events on; see hub.Bus.
func (b *Bus) History(ctx context.Context, q hub.Query, yield func(*hub.Event) bool) (hub.Span, error) {
	var span hub.Span
	if b.ctx.Err() != nil {
		return span, b.unavailable(ctx, "history can't be read", b.ctx.Err())
	}
	newest, err := b.events.last(ctx, b.allStored())
	if err != nil {
		return span, err
	}
	st, err := b.events.state(ctx)
	if err != nil {
		return span, err
	}
	if newest != nil {
		span.LastSeq = newest.seq
		if e, err := decode(newest.header, newest.data, newest.seq); err == nil {
			span.LastID = e.ID
		}
	}
	r := reader{b: b, to: span.LastSeq, yield: yield}
	var from uint64
	switch {
	case q.After != "":
		seq, err := b.ids.find(ctx, q.After, st, span.LastSeq)
		switch {
		case err != nil:
			return span, err
		case seq > 0:
			from = seq + 1
			span.Complete = true
		case q.Earliest:
			from = st.first
		default:
			return span, nil
		}
	case q.Earliest:
		from = st.first
		span.Complete = st.first <= st.begin
	default:
		span.Complete = true
		return span, nil
	}
	if r.to < from {
		return span, nil
	}
	r.open(q.Topics, from)
	err = r.run(ctx)
	span.Complete = span.Complete && !r.pruned
	return span, err
}

// reader merges the events of several subjects.
type reader struct {
	b       *Bus
	to      uint64
	yield   func(*hub.Event) bool
	topics  map[string]bool // nil: all
	cursors []*cursor
	pruned  bool // the stream lost events before they were read
}

func (r *reader) open(topics []string, from uint64) {
	switch {
	case topics == nil:
		r.cursors = []*cursor{{s: r.b.events, subject: r.b.allStored(), from: from}}
		return
	case len(topics) > manyTopics:
		r.cursors = []*cursor{{s: r.b.events, subject: r.b.allStored(), from: from}}
	}
	r.topics = make(map[string]bool, len(topics))
	for _, t := range topics {
		if !r.topics[t] && len(topics) <= manyTopics {
			r.cursors = append(r.cursors, &cursor{s: r.b.events, subject: r.b.stored(t), from: from})
		}
		r.topics[t] = true
	}
}

// run passes events on until the end, an error, or until yield has enough.
func (r *reader) run(ctx context.Context) error {
	for {
		if err := r.fill(ctx); err != nil {
			return err
		}
		var first *cursor
		for _, c := range r.cursors {
			if !c.done && (first == nil || c.buf[0].seq < first.buf[0].seq) {
				first = c
			}
		}
		if first == nil {
			return nil
		}
		m := first.buf[0]
		first.buf = first.buf[1:]
		if m.seq > r.to {
			first.done = true
			continue
		}
		e, err := decode(m.header, m.data, m.seq)
		if err != nil {
			r.b.log.Error("natsbus: an event can't be read", "subject", m.subject, "error", err)
			r.pruned = true
			continue
		}
		if (r.topics == nil || r.topics[e.Topic]) && !r.yield(e) {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// fill reads for the cursors that have nothing left, and then looks whether all was there when it was read.
func (r *reader) fill(ctx context.Context) error {
	from := uint64(0)
	for _, c := range r.cursors {
		if c.done || len(c.buf) > 0 {
			continue
		}
		if c.from > r.to {
			c.done = true
			continue
		}
		if from == 0 || c.from < from {
			from = c.from
		}
		if err := c.fill(ctx); err != nil {
			return err
		}
	}
	if from == 0 || r.pruned {
		return nil
	}
	st, err := r.b.events.state(ctx)
	r.pruned = st.first > from
	return err
}
