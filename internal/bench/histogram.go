package bench

import (
	"math/bits"
	"time"
)

// A Histogram counts times in steps of less than 1 % of their size, in some
// kilobytes, however many there are. The zero value is empty.
type Histogram struct {
	rows  [64 - subBits + 1]*[1 << subBits]uint32 // one for each power of two
	count uint64
	sum   time.Duration
	max   time.Duration
}

const subBits = 7 // 128 steps in a power of two

// place is where a time is counted: below 128 ns each has a step of its own.
func place(d time.Duration) (row, step int) {
	v := uint64(max(d, 0))
	row = max(0, bits.Len64(v)-subBits)
	if row == 0 {
		return 0, int(v)
	}
	return row, int(v>>(row-1)) & (1<<subBits - 1)
}

// middle is the time that a step stands for.
func middle(row, step int) time.Duration {
	if row == 0 {
		return time.Duration(step)
	}
	return time.Duration(1<<subBits+step)<<(row-1) + time.Duration(1<<(row-1)/2)
}

// Add counts d.
func (h *Histogram) Add(d time.Duration) {
	row, step := place(d)
	if h.rows[row] == nil {
		h.rows[row] = new([1 << subBits]uint32)
	}
	h.rows[row][step]++
	h.count++
	h.sum += d
	h.max = max(h.max, d)
}

// Merge adds what o counted.
func (h *Histogram) Merge(o *Histogram) {
	for row, steps := range o.rows {
		if steps == nil {
			continue
		}
		if h.rows[row] == nil {
			h.rows[row] = new([1 << subBits]uint32)
		}
		for step, n := range steps {
			h.rows[row][step] += n
		}
	}
	h.count += o.count
	h.sum += o.sum
	h.max = max(h.max, o.max)
}

// Count is how many times were added.
func (h *Histogram) Count() uint64 { return h.count }

// Max is the longest time, exactly.
func (h *Histogram) Max() time.Duration { return h.max }

// Mean is the average, exactly.
func (h *Histogram) Mean() time.Duration {
	if h.count == 0 {
		return 0
	}
	return h.sum / time.Duration(h.count)
}

// Quantile is the time that the share q of all is not above: 0.5 for the median.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := min(uint64(q*float64(h.count)), max(h.count, 1)-1)
	for row, steps := range h.rows {
		if steps == nil {
			continue
		}
		for step, n := range steps {
			if rank < uint64(n) {
				return min(middle(row, step), h.max)
			}
			rank -= uint64(n)
		}
	}
	return 0
}
