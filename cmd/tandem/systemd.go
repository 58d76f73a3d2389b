package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// systemdSockets takes the sockets that systemd passes: those whose
// FileDescriptorName= is "http" are for HTTP, all others for FastCGI. Call it
// once: it unsets LISTEN_* so that programs don't inherit them (docs/servers.md trap 13).
func systemdSockets() (http, fastcgi []net.Listener, err error) {
	for _, f := range activation.Files(true) {
		l, err := net.FileListener(f)
		f.Close()
		if err != nil {
			return nil, nil, fmt.Errorf("the socket %s that systemd passes can't be listened on: %w; it must be ListenStream= with Accept=no", f.Name(), err)
		}
		if f.Name() == "http" {
			http = append(http, l)
		} else {
			fastcgi = append(fastcgi, l)
		}
	}
	return http, fastcgi, nil
}

// notify tells systemd, if it is there, that state holds.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd can't be notified", "state", state, "error", err)
	}
}

// watchdog tells systemd that the process is alive, twice in each interval that
// it asks for, until ctx is done.
func watchdog(ctx context.Context, log *slog.Logger) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("the watchdog's interval can't be read", "error", err)
	}
	if err != nil || interval == 0 {
		return
	}
	t := time.NewTicker(interval / 2)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			notify(log, daemon.SdNotifyWatchdog)
		}
	}
}
