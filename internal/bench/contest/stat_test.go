package main

import (
	"slices"
	"testing"
)

func TestSpread(t *testing.T) {
	if got := spreadOf([]float64{3, 1, 2}); got != (spread{2, 1, 3}) {
		t.Error(got)
	}
	if got := spreadOf([]float64{4, 1, 2, 3}); got != (spread{2.5, 1, 4}) {
		t.Error(got)
	}
	if got := groups([]float64{1, 2, 3, 40, 50, 60}, 2); !slices.Equal(got, []float64{2, 50}) {
		t.Error(got)
	}
	if got := groups([]float64{7}, 10); !slices.Equal(got, []float64{7}) {
		t.Error(got)
	}
	if got := ratios([]float64{1, 4, 9}, []float64{2, 2, 3}); got != (spread{2, 0.5, 3}) {
		t.Error(got)
	}
}
