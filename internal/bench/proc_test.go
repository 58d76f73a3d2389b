package bench

import (
	"os"
	"syscall"
	"testing"
	"time"
)

// TestCPUTime: the time that a process used shows, sooner or later.
func TestCPUTime(t *testing.T) {
	self := []int{os.Getpid()}
	before, deadline := CPUTime(self), time.Now().Add(Patience)
	for CPUTime(self) == before {
		if time.Now().After(deadline) {
			t.Fatal("a busy process used no CPU time")
		}
	}
	if pids := Family(os.Getppid()); len(pids) < 2 {
		t.Errorf("the parent's family is %v, want this process in it", pids)
	}
}

// TestRSS: memory that a process holds shows.
func TestRSS(t *testing.T) {
	self := []int{os.Getpid()}
	before := RSS(self)
	held, err := syscall.Mmap(-1, 0, 64<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE) // the heap may have room
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(held)
	for i := range held {
		held[i] = 1
	}
	if grown := RSS(self) - before; before == 0 || grown < 32<<20 {
		t.Errorf("%d bytes, and %d more with 64 MiB more", before, grown)
	}
	if held[len(held)-1] != 1 || RSS([]int{0}) != 0 {
		t.Error("process 0 has memory")
	}
}
