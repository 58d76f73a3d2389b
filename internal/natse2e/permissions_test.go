package natse2e

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"tandem/client"
)

// allowed is what docs/hub.md says that a user of NATS needs for the hub NAME.
var allowed = server.Permissions{
	Publish: &server.SubjectPermission{Allow: []string{
		"NAME.event.>", "NAME.presence.>", "NAME.owner.>", "_INBOX.>", "$KV.NAME-owners.>",
		"$JS.API.INFO", "$JS.API.STREAM.*.NAME", "$JS.API.STREAM.*.NAME-presence", "$JS.API.STREAM.*.KV_NAME-owners",
		"$JS.API.STREAM.MSG.GET.NAME", "$JS.API.STREAM.MSG.GET.NAME-presence", "$JS.API.STREAM.MSG.GET.KV_NAME-owners",
		"$JS.API.DIRECT.GET.NAME", "$JS.API.DIRECT.GET.NAME-presence", "$JS.API.DIRECT.GET.KV_NAME-owners.>",
	}},
	Subscribe: &server.SubjectPermission{Allow: []string{"NAME.live.>", "NAME.owner.>", "_INBOX.>"}},
}

// With a user who may do no more than that all works, and nobody gets in without a password.
func TestPermissions(t *testing.T) {
	t.Parallel()
	const name = "news"
	mine := server.Permissions{Publish: &server.SubjectPermission{}, Subscribe: &server.SubjectPermission{}}
	for _, s := range allowed.Publish.Allow {
		mine.Publish.Allow = append(mine.Publish.Allow, strings.ReplaceAll(s, "NAME", name))
	}
	for _, s := range allowed.Subscribe.Allow {
		mine.Subscribe.Allow = append(mine.Subscribe.Allow, strings.ReplaceAll(s, "NAME", name))
	}
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
		Users: []*server.User{{Username: "hub", Password: "secret", Permissions: &mine}}})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server doesn't start")
	}
	at := fmt.Sprint("127.0.0.1:", s.Addr().(*net.TCPAddr).Port)
	var hosts []*host
	for range 2 {
		hosts = append(hosts, newHost(t, []string{"nats://hub:secret@" + at}, name, "presence = true\n"))
	}
	for i, h := range hosts {
		r := newReader(t, hosts, i, topics, readStream)
		id := fmt.Sprint("a-", i)
		publish(t, []*host{h}, id, "a", "data")
		until(t, id, func() bool { return r.has(id) })
	}
	if got := stored(t, hosts, 0, 2); len(got) != 2 {
		t.Errorf("stored are %q", got)
	}
	proxy, _ := turns(t, hosts)
	for _, transport := range []string{client.Split, client.Poll} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, err := client.Dial(ctx, proxy.URL+"/hub", &client.Options{Transport: transport})
		if err != nil {
			t.Fatalf("%s: %v", transport, err)
		}
		if _, err := c.Ping(ctx); err != nil {
			t.Errorf("%s: %v", transport, err)
		}
		c.CloseNow()
	}
	stranger := newHost(t, []string{"nats://" + at}, name, "")
	until(t, "the log says that a user is wanted", func() bool {
		return strings.Contains(stranger.log(), "the hub can't work") && strings.Contains(stranger.log(), "Authorization Violation")
	})
	unavailable(t, stranger)
	for _, h := range hosts {
		if log := h.log(); strings.Contains(log, "ermission") || strings.Contains(log, "secret") {
			t.Errorf("the log has refused permissions, or the password:\n%s", log)
		}
	}
}
