//go:build !linux

package fcgi

// pollers are for Linux: elsewhere each connection keeps the goroutine that reads it.
type pollers struct{}

type poller struct{}

func (*pollers) choose(*conn) bool { return false }
func (*pollers) add(*conn) bool    { return false }
func (*pollers) remove(*conn)      {}
func (*pollers) close()            {}

func (*poller) forget(int) {}
