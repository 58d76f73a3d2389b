package mercure

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"tandem/hub"
	"tandem/hub/bustest"
	"tandem/internal/gateway"
)

// TestWhoPublishes: closed unless something opens it.
func TestWhoPublishes(t *testing.T) {
	token := access(t, grant("publish", exact("*")))
	for name, tt := range map[string]struct {
		o      Options
		user   string // whom the web server has authenticated
		token  string
		header []string
		status int
	}{
		"closed":                              {status: 403},
		"closed, with a token":                {token: token, status: 401},
		"closed, with a user":                 {user: "ann", status: 403},
		"key":                                 {o: Options{PublisherKeys: secretKeys(t)}, token: token, status: 200},
		"key, no token":                       {o: Options{PublisherKeys: secretKeys(t)}, status: 401},
		"key, only a user":                    {o: Options{PublisherKeys: secretKeys(t)}, user: "ann", status: 401},
		"key, empty Bearer":                   {o: Options{PublisherKeys: secretKeys(t)}, header: []string{"Authorization", "Bearer "}, status: 400},
		"key, Basic":                          {o: Options{PublisherKeys: secretKeys(t)}, header: []string{"Authorization", "Basic YTpi"}, status: 401},
		"key, two headers":                    {o: Options{PublisherKeys: secretKeys(t)}, token: token, header: []string{"Authorization", "Bearer x"}, status: 400},
		"only a subscriber key":               {o: Options{SubscriberKeys: secretKeys(t)}, token: token, status: 401},
		"user":                                {o: Options{PublishUsers: []string{"ann"}}, user: "ann", status: 200},
		"another user":                        {o: Options{PublishUsers: []string{"ann"}}, user: "bob", status: 403},
		"no user":                             {o: Options{PublishUsers: []string{"ann"}}, status: 401},
		"no user is not any":                  {o: Options{PublishUsers: []string{"*"}}, status: 401},
		"any user":                            {o: Options{PublishUsers: []string{"*"}}, user: "bob", status: 200},
		"user, page of another origin":        {o: Options{PublishUsers: []string{"ann"}}, user: "ann", header: []string{"Origin", "https://evil.example"}, status: 403},
		"user, page of the hub's":             {o: Options{PublishUsers: []string{"ann"}}, user: "ann", header: []string{"Origin", "https://hub.example"}, status: 200},
		"user, cross-site without Origin":     {o: Options{PublishUsers: []string{"ann"}}, user: "ann", header: []string{"Sec-Fetch-Site", "cross-site"}, status: 403},
		"key and user, a bad token":           {o: Options{PublisherKeys: secretKeys(t), PublishUsers: []string{"ann"}}, user: "ann", token: "x.y.z", status: 401},
		"key and user, a token of less":       {o: Options{PublisherKeys: secretKeys(t), PublishUsers: []string{"ann"}}, user: "ann", token: access(t), status: 403},
		"anyone":                              {o: Options{PublishAnyone: true}, status: 200},
		"anyone, with a token":                {o: Options{PublishAnyone: true}, token: "x.y.z", status: 200},
		"anyone, but a page of another's":     {o: Options{PublishAnyone: true}, header: []string{"Origin", "https://evil.example"}, status: 403},
		"anyone, and a page that is allowed":  {o: Options{PublishAnyone: true, Origins: []string{"https://app.example"}}, header: []string{"Origin", "https://app.example"}, status: 200},
		"anyone and key, a bad token":         {o: Options{PublishAnyone: true, PublisherKeys: secretKeys(t)}, token: "x.y.z", status: 401},
		"6.1 Bearer in another case":          {o: Options{PublisherKeys: secretKeys(t)}, header: []string{"Authorization", "bearer " + token}, status: 200},
		"6.1 header before cookie":            {o: Options{PublisherKeys: secretKeys(t)}, token: token, header: []string{"Cookie", DefaultCookie + "=x.y.z"}, status: 200},
		"6.1 a bad header is not passed over": {o: Options{PublisherKeys: secretKeys(t)}, token: "x.y.z", header: []string{"Cookie", DefaultCookie + "=" + token, "Origin", "https://hub.example"}, status: 401},
	} {
		t.Run(name, func(t *testing.T) {
			o := tt.o
			o.Hub, o.URL, o.Log = hub.New(new(bustest.Memory).Bus(), nil), testURL, quiet
			h, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest("POST", hub.Reserved, strings.NewReader("topic=t"))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			if tt.token != "" {
				r.Header.Add("Authorization", "Bearer "+tt.token)
			}
			for i := 0; i < len(tt.header); i += 2 {
				r.Header.Add(tt.header[i], tt.header[i+1])
			}
			w := httptest.NewRecorder()
			as(tt.user, h).ServeHTTP(w, r)
			if w.Code != tt.status {
				t.Errorf("%d, want %d: %s", w.Code, tt.status, w.Body)
			}
		})
	}
}

// TestOwnHost13: without the hub's URL, its pages are those of the host that a request is for, if that can be known.
func TestOwnHost13(t *testing.T) {
	h, err := New(Options{Hub: hub.New(nil, nil), Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		iface, host, origin string
		ok                  bool
	}{
		{gateway.FastCGI, "example.org", "https://example.org", true},
		{gateway.FastCGI, "example.org", "https://evil.example", false},
		{gateway.FastCGI, "example.org:8443", "https://example.org", false},
		{gateway.HTTP, "localhost:8080", "http://localhost:8080", true},
		{gateway.HTTP, "127.0.0.1:8080", "http://127.0.0.1:8080", true},
		{gateway.HTTP, "[::1]:8080", "http://[::1]:8080", true},
		{gateway.HTTP, "evil.example:8080", "http://evil.example:8080", false}, // DNS rebinding
		{gateway.HTTP, "127.0.0.1", "null", false},
	} {
		r := httptest.NewRequest("POST", hub.Reserved, nil)
		r.Host = tt.host
		r.Header.Set("Origin", tt.origin)
		r = r.WithContext(gateway.NewContext(r.Context(), &gateway.Info{Interface: tt.iface}))
		if got := h.forged(r, true) == nil; got != tt.ok {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

// TestRights: a session may what its token and its user may.
func TestRights(t *testing.T) {
	all := []string{"*"}
	token := claim(t, map[string]any{"publish": all, "subscribe": []string{"t"}}, map[string]any{"sub": "me"})
	keys := Options{PublisherKeys: secretKeys(t), SubscriberKeys: secretKeys(t)}
	for name, tt := range map[string]struct {
		o              Options
		user, token    string
		fails          bool
		publish, reads bool
		present        bool
		id             string
	}{
		"nothing":              {},
		"a user":               {user: "ann", id: "ann#"},
		"a user who may":       {o: Options{PublishUsers: all}, user: "ann", publish: true, present: true, id: "ann#"},
		"anyone":               {o: Options{PublishAnyone: true}, publish: true, present: true},
		"a token":              {o: keys, token: token, publish: true, reads: true, id: "me#"},
		"no token":             {o: keys},
		"a bad token":          {o: keys, token: token + "x", fails: true},
		"only a publisher key": {o: Options{PublisherKeys: keys.PublisherKeys}, token: token, publish: true},
		"only a subscriber's":  {o: Options{SubscriberKeys: keys.SubscriberKeys}, token: token, reads: true, id: "me#"},
		"a token is needed":    {o: Options{SubscriberKeys: keys.SubscriberKeys, RequireToken: true}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			header := http.Header{}
			if tt.token != "" {
				header.Set("Authorization", "Bearer "+tt.token)
			}
			r, err := verifier(t, tt.o).Rights(header, tt.user)
			if tt.fails {
				if err == nil {
					t.Errorf("it may %+v", r)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.MayPublish("t") != tt.publish || r.Present != tt.present || matches(r.Readable, "t") != tt.reads || matches(r.Readable, "u") || !strings.HasPrefix(r.ID, tt.id) || tt.id == "" && r.ID != "" {
				t.Errorf("got %+v", r)
			}
		})
	}
}

// TestCookie13: a cookie publishes only for pages that may.
func TestCookie13(t *testing.T) {
	token := access(t, grant("publish", exact("*")), grant("subscribe", exact("*")))
	r := newRig(t, "net/http", Options{PublisherKeys: secretKeys(t), SubscriberKeys: secretKeys(t), Origins: []string{"https://app.example", "*"}}, hub.Options{})
	for name, tt := range map[string]struct {
		cookie string
		header []string
		status int
	}{
		"the hub's origin":              {DefaultCookie, []string{"Origin", "https://hub.example"}, 200},
		"an allowed one":                {DefaultCookie, []string{"Origin", "https://app.example"}, 200},
		"another":                       {DefaultCookie, []string{"Origin", "https://evil.example"}, 403},
		"another, of this host":         {DefaultCookie, []string{"Origin", "http://hub.example"}, 403},
		"one that begins alike":         {DefaultCookie, []string{"Origin", "https://hub.example.evil.example"}, 403},
		"null":                          {DefaultCookie, []string{"Origin", "null"}, 403},
		"Referer":                       {DefaultCookie, []string{"Referer", "https://hub.example/page?x"}, 200},
		"Referer of another":            {DefaultCookie, []string{"Referer", "https://evil.example/https://hub.example"}, 403},
		"Referer with a user":           {DefaultCookie, []string{"Referer", "https://hub.example@evil.example/"}, 403},
		"Origin goes first":             {DefaultCookie, []string{"Origin", "https://evil.example", "Referer", "https://hub.example/"}, 403},
		"neither":                       {DefaultCookie, nil, 403},
		"earlier drafts: cookie":        {legacyCookie, []string{"Origin", "https://hub.example"}, 200},
		"earlier drafts: cookie, other": {legacyCookie, []string{"Origin", "https://evil.example"}, 403},
		"another cookie":                {"x", []string{"Origin", "https://hub.example"}, 401},
	} {
		t.Run(name, func(t *testing.T) {
			header := append([]string{"Content-Type", "application/x-www-form-urlencoded", "Cookie", tt.cookie + "=" + token}, tt.header...)
			if resp := r.do("POST", "", "topic=t", header...); resp.StatusCode != tt.status {
				t.Errorf("%s, want %d: %s", resp.Status, tt.status, text(t, resp))
			}
		})
	}
	s := r.subscribe("match=t", "Cookie", DefaultCookie+"="+token) // reading forges nothing
	r.update(hub.Event{ID: "1", Topic: "t", Private: true})
	s.want("id: 1\ndata: \n")
}

// TestPresented6_1: where a subscriber's token may be.
func TestPresented6_1(t *testing.T) {
	r := withKeys(t, "net/http")
	token := access(t, grant("subscribe", exact("*")))
	for name, tt := range map[string]struct {
		query  string
		header []string
		status int
		reads  bool
	}{
		"6.1.1 header":                           {"", []string{"Authorization", "Bearer " + token}, 200, true},
		"6.1.2 cookie":                           {"", []string{"Cookie", DefaultCookie + "=" + token}, 200, true},
		"6.1.3 query":                            {"&access_token=" + token, nil, 200, true},
		"earlier drafts: query":                  {"&authorization=" + token, nil, 200, true},
		"earlier drafts: cookie":                 {"", []string{"Cookie", legacyCookie + "=" + token}, 200, true},
		"earlier drafts: claim":                  {"&access_token=" + claim(t, map[string]any{"subscribe": []string{"{x}"}}), nil, 200, true},
		"6.1 the header before the query":        {"&access_token=x.y.z", []string{"Authorization", "Bearer " + token}, 200, true},
		"6.1 the query before the cookie":        {"&access_token=x.y.z", []string{"Cookie", DefaultCookie + "=" + token}, 401, false},
		"6.1 a Basic header is the web server's": {"", []string{"Authorization", "Basic YTpi", "Cookie", DefaultCookie + "=" + token}, 200, true},
		"6 none":                                 {"", nil, 200, false},
		"6.2 a bad one":                          {"&access_token=x.y.z", nil, 401, false},
		"6.1.3 two":                              {"&access_token=a&access_token=b", nil, 400, false},
	} {
		t.Run(name, func(t *testing.T) {
			r.t = t
			if tt.status != 200 {
				if resp := r.do("GET", "?match=t"+tt.query, "", tt.header...); resp.StatusCode != tt.status {
					t.Errorf("%s, want %d", resp.Status, tt.status)
				}
				return
			}
			s := r.subscribe("match=t"+tt.query, tt.header...)
			private := r.update(hub.Event{Topic: "t", Private: true})
			public := r.update(hub.Event{Topic: "t"})
			if tt.reads {
				s.want("id: " + private + "\ndata: \n")
			}
			s.want("id: " + public + "\ndata: \n")
		})
	}
}

func TestRequireToken(t *testing.T) {
	r := newRig(t, "net/http", Options{SubscriberKeys: secretKeys(t), RequireToken: true}, hub.Options{})
	if resp := r.do("GET", "?match=t", ""); resp.StatusCode != 401 {
		t.Errorf("no token: %s", resp.Status)
	}
	r.subscribe("match=t", "Authorization", "Bearer "+access(t))
}

func TestCORS(t *testing.T) {
	r := newRig(t, "net/http", Options{Origins: []string{"https://app.example"}}, hub.Options{})
	for origin, allowed := range map[string]bool{"https://app.example": true, "https://evil.example": false, "null": false} {
		for _, resp := range []*http.Response{r.do("OPTIONS", "", "", "Origin", origin), r.do("GET", "?match=t", "", "Origin", origin), r.do("GET", "", "", "Origin", origin)} {
			want, credentials := "", ""
			if allowed {
				want, credentials = origin, "true"
			}
			if got := resp.Header.Get("Access-Control-Allow-Origin"); got != want || resp.Header.Get("Access-Control-Allow-Credentials") != credentials || resp.Header.Get("Vary") != "Origin" {
				t.Errorf("%s %s: %q", resp.Request.Method, origin, resp.Header)
			}
			if preflight := resp.Request.Method == "OPTIONS"; preflight && (resp.StatusCode != 204 || allowed != strings.Contains(resp.Header.Get("Access-Control-Allow-Headers"), "Authorization")) {
				t.Errorf("preflight of %s: %s %v", origin, resp.Status, resp.Header)
			}
		}
	}
	all := newRig(t, "net/http", Options{Origins: []string{"*"}}, hub.Options{})
	resp := all.do("OPTIONS", "", "", "Origin", "https://anybody.example")
	if resp.Header.Get("Access-Control-Allow-Origin") != "*" || resp.Header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("all: %v", resp.Header)
	}
}

// TestPaths: the hub is at its URL's path, or where whoever routes requests has put it.
func TestPaths(t *testing.T) {
	h := verifier(t, Options{})
	for path, want := range map[string]string{
		"/.well-known/mercure":                                            hubPath,
		"/.well-known/mercure/":                                           hubPath,
		"/cgi-bin/tandem":                                                 hubPath,
		"/cgi-bin/subscriptions.cgi":                                      hubPath,
		"/.well-known/mercure/subscriptions":                              "/subscriptions",
		"/.well-known/mercure/subscriptions/":                             "/subscriptions",
		"/cgi-bin/tandem/subscriptions/Exact/a":                           "/subscriptions/Exact/a",
		"/.well-known/mercure/subscriptions/Exact/%2Fsubscriptions%2Fx/a": "/subscriptions/Exact/%2Fsubscriptions%2Fx/a",
		"/.well-known/oauth-protected-resource/.well-known/mercure":       metadataPath,
		"/.well-known/mercure/other":                                      "",
		"/.well-known/mercurex":                                           "",
		"/.well-known/mercure/subscriptionsx":                             "",
	} {
		u, err := url.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := h.below(&http.Request{URL: u})
		if ok && got == "" {
			got = hubPath
		}
		if got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	r := withKeys(t, "net/http")
	for _, method := range []string{"PUT", "DELETE", "HEAD"} {
		if resp := r.do(method, "", ""); resp.StatusCode != 405 || resp.Header.Get("Allow") == "" {
			t.Errorf("%s: %s", method, resp.Status)
		}
	}
}

const hubPath = "the hub"
