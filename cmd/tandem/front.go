package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/user"
	"strconv"

	"tandem/fcgi"
	"tandem/internal/config"
	"tandem/internal/problem"
)

// front passes every request on to the daemon that the configuration names.
func front(c *config.Config, log *slog.Logger) http.Handler {
	return &fcgi.Relay{Socket: c.Relay, Log: log, Unreachable: func(w http.ResponseWriter, _ *http.Request, err error) {
		w.Header().Set("Retry-After", "5")
		problem.Write(w, http.StatusServiceUnavailable, fmt.Sprintf(
			"No daemon can be reached at relay = \"unix:%s\" (%v). Start it, or correct relay in Tandem's configuration.", c.Relay, err))
	}}
}

// relayUsers are the users whose word about the interface counts on the FastCGI
// sockets: this process's, and those of relay_users.
func relayUsers(c *config.Config) ([]uint32, error) {
	ids := []uint32{uint32(os.Geteuid())}
	for _, name := range c.FastCGI.RelayUsers {
		id, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			u, err := user.Lookup(name)
			if err != nil {
				return nil, c.BlameTop("fastcgi.relay_users", fmt.Errorf("%w: expected names or numbers of users", err))
			}
			if id, err = strconv.ParseUint(u.Uid, 10, 32); err != nil {
				return nil, c.BlameTop("fastcgi.relay_users", err)
			}
		}
		ids = append(ids, uint32(id))
	}
	return ids, nil
}
