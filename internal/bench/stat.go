package main

import (
	"cmp"
	"slices"
	"time"
)

// spread is what several measurements of one figure came to.
type spread struct{ median, min, max float64 }

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	return spread{median(sorted), sorted[0], sorted[len(sorted)-1]}
}

// median of sorted values.
func median(sorted []float64) float64 {
	half := len(sorted) / 2
	if len(sorted)%2 == 0 {
		return (sorted[half-1] + sorted[half]) / 2
	}
	return sorted[half]
}

// ratios are those of measurements that were made one right after the other.
func ratios(these, those []float64) spread {
	var all []float64
	for i := range min(len(these), len(those)) {
		if those[i] > 0 {
			all = append(all, these[i]/those[i])
		}
	}
	return spreadOf(all)
}

// quantile of sorted times.
func quantile[T cmp.Ordered](sorted []T, q float64) (zero T) {
	if len(sorted) == 0 {
		return zero
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func column(rates []rate, of func(rate) float64) []float64 {
	var c []float64
	for _, r := range rates {
		c = append(c, of(r))
	}
	return c
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
