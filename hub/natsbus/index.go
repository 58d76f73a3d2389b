package natsbus

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// index finds an event by its ID. NATS can't: a stream is indexed by subject, and an event's subject is its topic's, so
// that followers know of each event which one of the topic was before it. So this process reads events from the
// newest back until the one is found, and remembers where each was, two numbers: an ID that isn't stored costs
// a read of the whole history once, later only of what is new. Most who resume were away for seconds.
type index struct {
	b    *Bus
	lock chan struct{} // that ctx can give up waiting for

	created time.Time         // of the stream
	lo, hi  uint64            // read are lo <= seq < hi
	seqs    map[uint64]uint64 // by the first bytes of the ID's hash
}

// firstChunk is how many of the newest events are read first; then twice as many, and so on.
const firstChunk = 512

func idKey(id string) uint64 {
	sum := sha256.Sum256([]byte(id))
	return binary.BigEndian.Uint64(sum[:])
}

// find returns the sequence of the event with this ID that is stored; 0: none. Of two, stored with more than the duplicate window
// between them, it may be either.
func (x *index) find(ctx context.Context, id string, st state, last uint64) (uint64, error) {
	select {
	case x.lock <- struct{}{}:
		defer func() { <-x.lock }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if st.created != x.created || x.hi == 0 {
		x.created, x.lo, x.hi = st.created, last+1, last+1
		clear(x.seqs)
	}
	x.prune(st.first)
	if last >= x.hi {
		if err := x.read(ctx, x.hi, last); err != nil {
			return 0, err
		}
		x.hi = last + 1
	}
	key := idKey(id)
	for chunk := uint64(firstChunk); ; chunk *= 2 {
		if seq := x.seqs[key]; seq >= st.first && seq > 0 {
			return seq, nil
		}
		if x.lo <= st.first {
			return 0, nil
		}
		from := st.first
		if x.lo-st.first > chunk {
			from = x.lo - chunk
		}
		if err := x.read(ctx, from, x.lo-1); err != nil {
			return 0, err
		}
		x.lo = from
	}
}

// read remembers the IDs of events from one sequence to another, both included. Read twice changes nothing.
func (x *index) read(ctx context.Context, from, to uint64) error {
	c := &cursor{s: x.b.events, subject: x.b.allStored(), from: from, asked: true}
	for c.from <= to {
		if err := c.fill(ctx); err != nil || c.done {
			return err
		}
		for _, m := range c.buf {
			sum, err := base64.RawURLEncoding.DecodeString(m.header.Get(jetstream.MsgIDHeader))
			if m.seq > to || err != nil || len(sum) < 8 {
				continue
			}
			key := binary.BigEndian.Uint64(sum)
			if old, ok := x.seqs[key]; !ok || m.seq < old {
				x.seqs[key] = m.seq
			}
		}
	}
	return nil
}

// prune forgets what isn't stored any more, when it is much.
func (x *index) prune(first uint64) {
	if x.hi < first {
		x.lo, x.hi = first, first
	}
	if stored := x.hi - min(first, x.hi); uint64(len(x.seqs)) < 2*stored+firstChunk {
		return
	}
	for key, seq := range x.seqs {
		if seq < first {
			delete(x.seqs, key)
		}
	}
}
