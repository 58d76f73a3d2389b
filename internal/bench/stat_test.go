package main

import (
	"os"
	"testing"
	"time"
)

func TestSpread(t *testing.T) {
	if got := spreadOf([]float64{3, 1, 2}); got != (spread{2, 1, 3}) {
		t.Error(got)
	}
	if got := spreadOf([]float64{4, 1, 2, 3}); got != (spread{2.5, 1, 4}) {
		t.Error(got)
	}
	if got := ratios([]float64{1, 4, 9}, []float64{2, 2, 3}); got != (spread{2, 0.5, 3}) {
		t.Error(got)
	}
	if got := quantile([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 0.99); got != 9 {
		t.Error(got)
	}
	if got := quantile([]int{0, 1, 2, 3}, 0.5); got != 2 {
		t.Error(got)
	}
}

// TestCPUTime: the time that a process used shows, sooner or later.
func TestCPUTime(t *testing.T) {
	self := []int{os.Getpid()}
	before, deadline := cpuTime(self), time.Now().Add(patience)
	for cpuTime(self) == before {
		if time.Now().After(deadline) {
			t.Fatal("a busy process used no CPU time")
		}
	}
	if pids := family(os.Getppid()); len(pids) < 2 {
		t.Errorf("the parent's family is %v, want this process in it", pids)
	}
}
