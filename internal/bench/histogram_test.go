package bench

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestHistogram: its quantiles are those of the sorted times, but for 1 %.
func TestHistogram(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, most := range []int64{5, 100, 1000, 1e6, 1e9, 1e13} {
		var h, other Histogram
		var times []time.Duration
		for i := range 5000 {
			d := time.Duration(random.Int64N(most))
			times = append(times, d)
			if i%2 == 0 {
				h.Add(d)
			} else {
				other.Add(d)
			}
		}
		h.Merge(&other)
		slices.Sort(times)
		for _, q := range []float64{0, 0.1, 0.5, 0.99, 0.999, 1} {
			got, want := h.Quantile(q), times[min(len(times)-1, int(q*float64(len(times))))]
			if d := (got - want).Abs(); d > want/100+1 {
				t.Errorf("up to %v, quantile %v: %v, want %v", time.Duration(most), q, got, want)
			}
		}
		if h.Max() != times[len(times)-1] || h.Count() != 5000 {
			t.Errorf("max %v of %d, want %v of 5000", h.Max(), h.Count(), times[len(times)-1])
		}
	}
	var empty Histogram
	if empty.Quantile(0.5) != 0 || empty.Mean() != 0 {
		t.Errorf("an empty one: %v, %v", empty.Quantile(0.5), empty.Mean())
	}
}

// TestPlace: each time is in a step whose middle is next to it, up to the largest.
func TestPlace(t *testing.T) {
	for v := time.Duration(1); v > 0; v *= 2 {
		for _, d := range []time.Duration{v - 1, v, v + v/3} {
			if d < 0 {
				continue
			}
			row, step := place(d)
			if diff := (middle(row, step) - d).Abs(); diff > d/128+1 {
				t.Errorf("%d is in row %d, step %d, whose middle is %d", d, row, step, middle(row, step))
			}
		}
	}
}
