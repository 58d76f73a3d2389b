package hube2e_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tandem/internal/servertest"
)

// TestUsers: where the web server asks for a password, those may publish who are listed, and nobody by his own word.
func TestUsers(t *testing.T) {
	var lines strings.Builder
	for _, user := range []string{"editor", "reader"} {
		hash, err := exec.Command("openssl", "passwd", "-apr1", "of "+user).Output()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&lines, "%s:%s", user, hash)
	}
	apache := `<LocationMatch "^/\.well-known/mercure">
    AuthType Basic
    AuthName hub
    AuthUserFile $FILE
    <LimitExcept GET>
        Require valid-user
    </LimitExcept>
</LocationMatch>
`
	lighttpd := `server.modules += ( "mod_auth", "mod_authn_file" )
auth.backend = "htpasswd"
auth.backend.htpasswd.userfile = "$FILE"
$HTTP["request-method"] == "POST" {
    auth.require = ( "/.well-known/mercure" => ( "method" => "basic", "realm" => "hub", "require" => "valid-user" ) )
}
`
	for _, tt := range []struct {
		kind          servertest.Kind
		by            string
		path          string
		global, extra string
	}{
		// Beside the location without a password, for those who subscribe.
		{servertest.Nginx, servertest.ByFastCGI, "/publish", "", `location = /publish {
            include tandem.conf;
            auth_basic hub;
            auth_basic_user_file $FILE;
            fastcgi_param REMOTE_USER $remote_user;
            fastcgi_param AUTH_TYPE   Basic;
            fastcgi_param TANDEM_ENDPOINT hub;
        }`},
		{servertest.Apache, servertest.ByFastCGI, "/.well-known/mercure", "", apache},
		{servertest.Apache, servertest.ByCGI, "/.well-known/mercure", "", apache},
		{servertest.Apache, servertest.ByFcgid, "/.well-known/mercure", "", apache},
		{servertest.Lighttpd, servertest.ByFastCGI, "/.well-known/mercure", lighttpd, ""},
		{servertest.Lighttpd, servertest.ByCGI, "/.well-known/mercure", lighttpd, ""},
	} {
		t.Run(fmt.Sprintf("%s-%s", tt.kind, tt.by), func(t *testing.T) {
			s := newSite(t, "publish_users = [\"editor\"]\n")
			file := filepath.Join(s.dir, "passwords")
			if err := os.WriteFile(file, []byte(lines.String()), 0o644); err != nil {
				t.Fatal(err)
			}
			if tt.by == servertest.ByFastCGI {
				s.serve(t, 0)
			}
			text := strings.NewReplacer("$FILE", file)
			srv := s.startWith(t, tt.kind, tt.by, servertest.Config{Global: text.Replace(tt.global), Extra: text.Replace(tt.extra)})
			r := newRoute(t, s, string(tt.kind), srv.URL, "", nil)
			sub := r.listen(t, nil, "news")
			defer sub.close()
			for user, status := range map[string]int{"editor:of editor": 200, "reader:of reader": 403, "editor:of reader": 401, "": 401} {
				req, err := http.NewRequestWithContext(within(t, patience), "POST", srv.URL+tt.path, strings.NewReader(url.Values{"topic": {"news"}, "id": {"by " + user}}.Encode()))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				if name, password, ok := strings.Cut(user, ":"); ok {
					req.SetBasicAuth(name, password)
				}
				resp, err := r.client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != status {
					t.Errorf("%q: %s, expected %d", user, resp.Status, status)
				}
			}
			sub.expect("by editor:of editor")
		})
	}
}
