package main

import (
	"fmt"
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

// quotients are those of measurements that were made one right after the other.
func quotients(these, those []float64) (all []float64) {
	for i := range min(len(these), len(those)) {
		if those[i] > 0 {
			all = append(all, these[i]/those[i])
		}
	}
	return all
}

func ratios(these, those []float64) spread { return spreadOf(quotients(these, those)) }

// groups are the medians of as many groups of values that were measured one after the
// other: of hundreds of single events the smallest and the largest say nothing.
func groups(values []float64, n int) (medians []float64) {
	for i := range min(n, len(values)) {
		group := values[i*len(values)/n : max((i+1)*len(values)/n, i*len(values)/n+1)]
		medians = append(medians, spreadOf(group).median)
	}
	return medians
}

// format shows the median, and the smallest and the largest.
func (s spread) format(number string) string {
	return fmt.Sprintf("%s (%s–%s)", fmt.Sprintf(number, s.median), fmt.Sprintf(number, s.min), fmt.Sprintf(number, s.max))
}

// column is one figure of several measurements.
func column[T any](all []T, of func(T) float64) []float64 {
	var c []float64
	for _, r := range all {
		c = append(c, of(r))
	}
	return c
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
