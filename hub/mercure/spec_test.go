package mercure

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"tandem/hub"
)

// The names of these tests and cases have the sections of draft-dunglas-mercure-08.

// TestSubscribe3: subscription requests.
func TestSubscribe3(t *testing.T) {
	r := withKeys(t, "net/http")
	for name, tt := range map[string]struct {
		query  string
		status int
	}{
		"3 match":                                 {"match=a", 200},
		"3 matchExact":                            {"matchExact=a", 200},
		"3 matchURLPattern":                       {"matchURLPattern=/a/:b", 200},
		"3 any combination":                       {"match=a&match=b&matchURLPattern=/x&unrelated=1", 200},
		"3 none":                                  {"", 400},
		"3 only others":                           {"mat=1&amatch=2", 400},
		"3 names in the match namespace":          {"match=a&matchRegexp=x", 400},
		"3 of another case":                       {"matchurlpattern=x", 400},
		"3 names compared without case":           {"match=a&MATCH=b", 400},
		"3 matchURITemplate is none":              {"matchURITemplate=a", 400},
		"3 the prefix is reserved":                {"match=a&Matchmaker=1", 400},
		"3 UTF-8":                                 {"match=a%ff", 400},
		"3 C0":                                    {"match=a%0a", 400},
		"3 NUL":                                   {"match=a%00", 400},
		"3 C1":                                    {"match=a%c2%85", 400},
		"3 DEL":                                   {"match=a%7f", 400},
		"3 control characters in a pattern":       {"matchURLPattern=/a%01", 400},
		"3 length":                                {"match=" + strings.Repeat("a", hub.MaxPattern+1), 400},
		"3 number":                                {many("match", hub.DefaultMaxMatchers+1), 400},
		"3 the same again is one":                 {strings.Repeat("match=a&", 500), 200},
		"3 a query that can't be read":            {"match=%zz", 400},
		"4.2 a bad pattern":                       {"matchURLPattern=" + url.QueryEscape("/(("), 400},
		"4.2 backtracking: no lookahead":          {"matchURLPattern=" + url.QueryEscape("/((?=a)b)"), 400},
		"4.2 backtracking: too much":              {"matchURLPattern=" + url.QueryEscape("/((a{500}){2})"), 400},
		"7 a Last-Event-ID that is none":          {"match=a&lastEventID=a%0ab", 400},
		"earlier drafts: topic":                   {"topic=a", 200},
		"earlier drafts: topic that is a pattern": {"topic=" + url.QueryEscape("/a/{b}"), 200},
		"earlier drafts: every topic":             {"topic=*", 200},
		"earlier drafts: control characters":      {"topic=a%00", 400},
	} {
		t.Run(name, func(t *testing.T) {
			resp := r.do("GET", "?"+tt.query, "")
			if resp.StatusCode != tt.status {
				t.Fatalf("%s: %s, want %d", tt.query, resp.Status, tt.status)
			}
			if tt.status == 400 {
				checkProblem(t, resp, `error="invalid_request"`)
			}
		})
	}
}

func many(name string, n int) string {
	v := url.Values{}
	for i := range n {
		v.Add(name, strings.Repeat("x", i+1))
	}
	return v.Encode()
}

// checkProblem checks the answer of a refused request.
func checkProblem(t *testing.T, resp *http.Response, challenge string) {
	t.Helper()
	var body struct {
		Title, Detail string
		Status        int
	}
	if err := json.Unmarshal([]byte(text(t, resp)), &body); err != nil || body.Status != resp.StatusCode || body.Detail == "" || resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("the problem is %+v, %v", body, err)
	}
	got := resp.Header.Get("WWW-Authenticate")
	if !strings.Contains(got, challenge) || challenge == "" && got != "" {
		t.Errorf("WWW-Authenticate: %q, want %q", got, challenge)
	}
	if challenge != "" && !strings.Contains(got, `resource_metadata="https://hub.example/.well-known/oauth-protected-resource/.well-known/mercure"`) {
		t.Errorf("6.2: WWW-Authenticate without metadata: %q", got)
	}
}

// TestStream3: the events, and what they come with.
func TestStream3(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		r := withKeys(t, engine)
		s := r.subscribe("match=" + url.QueryEscape("https://example.com/foo") + "&match=bar&matchURLPattern=" + url.QueryEscape("https://example.com/bar/:id"))
		for name, want := range map[string]string{"Content-Type": "text/event-stream", "X-Accel-Buffering": "no", "Last-Event-ID": ""} {
			if got := s.resp.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		for _, want := range []string{"no-store", "private"} { // 6.1.3
			if got := s.resp.Header.Get("Cache-Control"); !strings.Contains(got, want) {
				t.Errorf("Cache-Control: %q, want %s", got, want)
			}
		}
		r.update(hub.Event{ID: "1", Topic: "https://example.com/foo", Data: "a"})
		r.update(hub.Event{ID: "2", Topic: "https://example.com/other", Data: "b"})
		r.update(hub.Event{ID: "3", Topic: "bar", Type: "t", Retry: 1500, Data: "c\nd"})
		r.update(hub.Event{ID: "4", Topic: "https://example.com/bar/7"})
		s.want("id: 1\ndata: a\n", "id: 3\nevent: t\nretry: 1500\ndata: c\ndata: d\n", "id: 4\ndata: \n")
	})
}

// TestPublish5: the form, and what comes of it.
func TestPublish5(t *testing.T) {
	r := withKeys(t, "net/http")
	token := access(t, grant("publish", exact("*")))
	s := r.subscribe("match=t")
	for name, tt := range map[string]struct {
		pairs  []string
		status int
	}{
		"5 no topic":                            {[]string{"data", "x"}, 400},
		"5 an empty topic":                      {[]string{"topic", ""}, 400},
		"5 several topics":                      {[]string{"topic", "t", "topic", "u"}, 400},
		"2 control characters in a topic":       {[]string{"topic", "t\n"}, 400},
		"2 C1 in a topic":                       {[]string{"topic", "t\u0080"}, 400},
		"2 UTF-8 in a topic":                    {[]string{"topic", "t\xff"}, 400},
		"4 the topic *":                         {[]string{"topic", "*"}, 400},
		"5 reserved":                            {[]string{"topic", "/.well-known/mercure"}, 403},
		"5 reserved, below":                     {[]string{"topic", "/.well-known/mercure/subscriptions/x"}, 403},
		"5 reserved, absolute":                  {[]string{"topic", "https://hub.example/.well-known/mercure/subscriptions/x"}, 403},
		"5 reserved, another authority":         {[]string{"topic", "http://other.example/.well-known/mercure/x"}, 403},
		"5 reserved, relative to the hub's URL": {[]string{"topic", "mercure/x"}, 403},
		"5 reserved, with dots":                 {[]string{"topic", "/x/../.well-known/./mercure/x"}, 403},
		"5 UTF-8 in data":                       {[]string{"topic", "t", "data", "\xff"}, 400},
		"5 UTF-8 in any field":                  {[]string{"topic", "t", "x", "\xff"}, 400},
		"5 id with #":                           {[]string{"topic", "t", "id", "#1"}, 400},
		"5 id with LF":                          {[]string{"topic", "t", "id", "1\n"}, 400},
		"5 id with CR":                          {[]string{"topic", "t", "id", "1\r"}, 400},
		"5 id with NUL":                         {[]string{"topic", "t", "id", "1\x00"}, 400},
		"7 the id earliest":                     {[]string{"topic", "t", "id", "earliest"}, 400},
		"5 type with LF":                        {[]string{"topic", "t", "type", "x\ndata: y"}, 400},
		"5 type with CR":                        {[]string{"topic", "t", "type", "x\ry"}, 400},
		"5 retry, signed":                       {[]string{"topic", "t", "retry", "-1"}, 400},
		"5 retry, other digits":                 {[]string{"topic", "t", "retry", "\u0661"}, 400},
		"5 retry, too large":                    {[]string{"topic", "t", "retry", "99999999999999999999"}, 400},
		"5 a field twice":                       {[]string{"topic", "t", "data", "x", "data", "y"}, 400},
		"5 the size of a field":                 {[]string{"topic", "t", "data", strings.Repeat("x", hub.DefaultMaxData+1)}, 413},
		"5 the size of the topic":               {[]string{"topic", strings.Repeat("x", hub.MaxTopic+1)}, 413},
		"5 the size of the body":                {[]string{"topic", "t", "data", strings.Repeat("x", DefaultMaxBody)}, 413},
	} {
		t.Run(name, func(t *testing.T) {
			resp := r.post(token, tt.pairs...)
			if resp.StatusCode != tt.status {
				t.Fatalf("%s, want %d", resp.Status, tt.status)
			}
			checkProblem(t, resp, map[int]string{400: `error="invalid_request"`, 403: `error="insufficient_scope"`}[tt.status])
		})
	}
	for name, body := range map[string]string{"5 a form that is none": "topic=%zz", "5 semicolons": "topic=t;data=x"} {
		if resp := r.do("POST", "", body, "Content-Type", "application/x-www-form-urlencoded", "Authorization", "Bearer "+token); resp.StatusCode != 400 {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
	if resp := r.do("POST", "", `{"topic":"t"}`, "Content-Type", "application/json", "Authorization", "Bearer "+token); resp.StatusCode != 400 {
		t.Errorf("5 another type: %s", resp.Status)
	}
	t.Run("5 success", func(t *testing.T) {
		resp := r.post(token, "topic", "t", "id", "urn:x:1", "type", "y", "retry", "10", "data", "z")
		if got := text(t, resp); resp.StatusCode != 200 || got != "urn:x:1" {
			t.Errorf("%s: %q", resp.Status, got)
		}
		resp = r.do("POST", "", "topic=t", "Content-Type", "application/x-www-form-urlencoded; charset=UTF-8", "Authorization", "Bearer "+token)
		id := text(t, resp)
		if resp.StatusCode != 200 || !strings.HasPrefix(id, "urn:uuid:") {
			t.Errorf("%s: %q", resp.Status, id)
		}
		s.want("id: urn:x:1\nevent: y\nretry: 10\ndata: z\n", "id: "+id+"\ndata: \n") // nothing of what was refused
	})
}

// TestPrivate5: the field alone makes an update private, whatever it says.
func TestPrivate5(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		r := withKeys(t, engine)
		anybody := r.subscribe("match=*")
		other := r.subscribe("match=*", "Authorization", "Bearer "+access(t, grant("subscribe", exact("u")), grant("publish", exact("*"))))
		reader := r.subscribe("match=*", "Authorization", "Bearer "+access(t, grant("subscribe", exact("t"))))
		token := access(t, grant("publish", exact("*")))
		for i, v := range []string{"on", "off", "", "false", "0"} {
			if resp := r.post(token, "topic", "t", "id", "p"+string(rune('0'+i)), "private", v); resp.StatusCode != 200 {
				t.Fatal(resp.Status)
			}
		}
		r.post(token, "topic", "t", "id", "public")
		for i := range 5 {
			reader.want("id: p" + string(rune('0'+i)) + "\ndata: \n")
		}
		for _, s := range []*sub{anybody, other, reader} {
			s.want("id: public\ndata: \n")
		}
	})
}

// TestErrors6_2: the answers to who may not.
func TestErrors6_2(t *testing.T) {
	r := withKeys(t, "net/http")
	for name, tt := range map[string]struct {
		token     string
		status    int
		challenge string
	}{
		"no token":                        {"", 401, "Bearer resource_metadata"},
		"a bad token":                     {"x.y.z", 401, `error="invalid_token"`},
		"6.4 no details":                  {access(t), 403, `error="insufficient_scope"`},
		"6.5 only subscribe":              {access(t, grant("subscribe", exact("*"))), 403, `error="insufficient_scope"`},
		"6.5 another topic":               {access(t, grant("publish", exact("u"))), 403, `error="insufficient_scope"`},
		"6.4 another type of details":     {access(t, map[string]any{"type": "payment", "actions": []string{"publish"}, "topics": []any{exact("*")}}), 403, `error="insufficient_scope"`},
		"6.4 no actions":                  {access(t, grant("publish", exact("*")), map[string]any{"type": "mercure", "topics": []any{exact("*")}}), 401, `error="invalid_token"`},
		"6.4 no topics":                   {access(t, grant("publish", exact("*")), grant("publish")), 401, `error="invalid_token"`},
		"6.4 an unknown action":           {access(t, grant("publish", exact("*")), grant("read", exact("t"))), 401, `error="invalid_token"`},
		"6.4 a payload that is no object": {access(t, map[string]any{"type": "mercure", "actions": []string{"publish"}, "topics": []any{exact("*")}, "payload": 1}), 401, `error="invalid_token"`},
		"6.4 details that are no array":   {sign(t, jwt.SigningMethodHS256, []byte(testSecret), map[string]any{"typ": "at+jwt"}, jwt.MapClaims{"aud": testURL, "exp": time.Now().Add(time.Hour).Unix(), "authorization_details": "x"}), 401, `error="invalid_token"`},
		"6.4 a detail that is no object":  {access(t, grant("publish", exact("*")), "x"), 401, `error="invalid_token"`},
		"6.7 a topic that is a string":    {access(t, grant("publish", exact("*"), "t")), 401, `error="invalid_token"`},
		"6.7 a topic without match":       {access(t, grant("publish", exact("*"), map[string]any{"matchType": "Exact"})), 401, `error="invalid_token"`},
		"6.7 another matchType":           {access(t, grant("publish", exact("*"), map[string]any{"match": "a", "matchType": "exact"})), 401, `error="invalid_token"`},
		"6.7 the matchType URITemplate":   {access(t, grant("publish", exact("*"), map[string]any{"match": "a", "matchType": "URITemplate"})), 401, `error="invalid_token"`},
		"6.7 a bad pattern":               {access(t, grant("publish", exact("*"), pattern("/(("))), 401, `error="invalid_token"`},
		"6.4 too many topics":             {access(t, tooMany()), 401, `error="invalid_token"`},
	} {
		t.Run(name, func(t *testing.T) {
			resp := r.post(tt.token, "topic", "t")
			if resp.StatusCode != tt.status {
				t.Fatalf("%s, want %d", resp.Status, tt.status)
			}
			if tt.token == "" && strings.Contains(resp.Header.Get("WWW-Authenticate"), "error") {
				t.Error("an error code where there is no token")
			}
			checkProblem(t, resp, tt.challenge)
		})
	}
}

func tooMany() map[string]any {
	list := make([]any, maxGrants+1)
	for i := range list {
		list[i] = map[string]string{"match": "a"}
	}
	return grant("publish", list...)
}

// TestPublish6_5: what a token lets publish.
func TestPublish6_5(t *testing.T) {
	r := withKeys(t, "net/http")
	for name, tt := range map[string]struct {
		token  string
		topic  string
		status int
	}{
		"exact":                      {access(t, grant("publish", exact("t"))), "t", 200},
		"6.7 explicitly":             {access(t, grant("publish", map[string]any{"match": "t", "matchType": "Exact"})), "t", 200},
		"6.7 everything":             {access(t, grant("publish", exact("*"))), "t", 200},
		"6.7 everything, as pattern": {access(t, grant("publish", pattern("*"))), "t", 200},
		"pattern":                    {access(t, grant("publish", pattern("https://example.com/:id"))), "https://example.com/1", 200},
		"not the pattern":            {access(t, grant("publish", pattern("https://example.com/:id"))), "https://example.com/1/2", 403},
		"4.1 byte for byte":          {access(t, grant("publish", exact("t"))), "T", 403},
		"one of several":             {access(t, grant("subscribe", exact("t")), grant("publish", exact("u"), exact("t"))), "t", 200},
		"both actions":               {access(t, map[string]any{"type": "mercure", "actions": []string{"subscribe", "publish"}, "topics": []any{exact("t")}}), "t", 200},
		"not the reserved ones":      {access(t, grant("publish", exact("*"))), "/.well-known/mercure/subscriptions/Exact/a/b", 403},

		"earlier drafts: everything":          {claim(t, map[string]any{"publish": []string{"*"}}), "t", 200},
		"earlier drafts: a topic":             {claim(t, map[string]any{"publish": []string{"t"}}), "t", 200},
		"earlier drafts: a template":          {claim(t, map[string]any{"publish": []string{"https://example.com/{id}"}}), "https://example.com/1", 200},
		"earlier drafts: another topic":       {claim(t, map[string]any{"publish": []string{"u"}}), "t", 403},
		"earlier drafts: an empty list":       {claim(t, map[string]any{"publish": []string{}}), "t", 403},
		"earlier drafts: only subscribe":      {claim(t, map[string]any{"subscribe": []string{"*"}}), "t", 403},
		"earlier drafts: the long name":       {claim(t, nil, map[string]any{"https://mercure.rocks/": map[string]any{"publish": []string{"t"}}}), "t", 200},
		"earlier drafts: objects":             {claim(t, map[string]any{"publish": []any{pattern("/:a")}}), "/x", 200},
		"earlier drafts: another aud":         {claim(t, map[string]any{"publish": []string{"*"}}, map[string]any{"aud": "https://other.example"}), "t", 401},
		"earlier drafts: this aud":            {claim(t, map[string]any{"publish": []string{"*"}}, map[string]any{"aud": []string{"x", testURL}}), "t", 200},
		"earlier drafts: expired":             {claim(t, map[string]any{"publish": []string{"*"}}, map[string]any{"exp": time.Now().Add(-time.Second).Unix()}), "t", 401},
		"earlier drafts: no list":             {claim(t, map[string]any{"publish": "*"}), "t", 401},
		"earlier drafts: not beside details":  {claim(t, map[string]any{"publish": []string{"*"}}, map[string]any{"authorization_details": []any{}}), "t", 401},
		"earlier drafts: neither claim (typ)": {claim(t, nil, map[string]any{"aud": testURL, "exp": time.Now().Add(time.Hour).Unix()}), "t", 401},
	} {
		t.Run(name, func(t *testing.T) {
			if resp := r.post(tt.token, "topic", tt.topic); resp.StatusCode != tt.status {
				t.Errorf("%s, want %d: %s", resp.Status, tt.status, text(t, resp))
			}
		})
	}
}

// TestRead6_6: routing does not widen what may be read, live and from the history.
func TestRead6_6(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		r := withKeys(t, engine)
		token := access(t, grant("subscribe", exact("https://example.com/books/1"), pattern("https://example.com/books/:id/notes")), grant("publish", exact("https://example.com/books/2")))
		query := "matchURLPattern=" + url.QueryEscape("https://example.com/books/*")
		events := []string{"id: a\ndata: \n", "id: c\ndata: \n", "id: d\ndata: \n"}
		send := func(prefix string) {
			r.update(hub.Event{ID: prefix + "a", Topic: "https://example.com/books/1", Private: true})
			r.update(hub.Event{ID: prefix + "b", Topic: "https://example.com/books/2", Private: true})
			r.update(hub.Event{ID: prefix + "c", Topic: "https://example.com/books/2/notes", Private: true})
			r.update(hub.Event{ID: prefix + "d", Topic: "https://example.com/books/2"})
		}
		s := r.subscribe(query, "Authorization", "Bearer "+token)
		send("")
		s.want(events...)
		again := r.subscribe(query+"&lastEventID=earliest", "Authorization", "Bearer "+token)
		again.want(events...)
		nobody := r.subscribe(query + "&lastEventID=earliest")
		nobody.want(events[2])
	})
}

// TestExpiry6_6: a connection ends with its token.
func TestExpiry6_6(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		r := withKeys(t, engine)
		exp := time.Now().Add(2 * time.Second).Truncate(time.Second)
		c := accessClaims(grant("subscribe", exact("*")))
		c["exp"] = exp.Unix()
		s := r.subscribe("match=t", "Authorization", "Bearer "+sign(t, jwt.SigningMethodHS256, []byte(testSecret), map[string]any{"typ": "at+jwt"}, c))
		r.update(hub.Event{ID: "1", Topic: "t"})
		s.want("id: 1\ndata: \n")
		s.ended()
		if late := time.Since(exp); late < 0 || late > time.Second {
			t.Errorf("it ended %v after the token", late)
		}
	})
}

// TestHistory7: Last-Event-ID.
func TestHistory7(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		r := withKeys(t, engine)
		for _, id := range []string{"1", "2", "3"} {
			r.update(hub.Event{ID: id, Topic: "t"})
		}
		event := func(id string) string { return "id: " + id + "\ndata: \n" }
		for name, tt := range map[string]struct {
			query  string
			header []string
			answer string
			want   []string
		}{
			"the parameter":                  {"&lastEventID=1", nil, "1", []string{"2", "3"}},
			"the header":                     {"", []string{"Last-Event-ID", "2"}, "2", []string{"3"}},
			"the header goes first":          {"&lastEventID=1", []string{"Last-Event-ID", "2"}, "2", []string{"3"}},
			"the newest":                     {"&lastEventID=3", nil, "3", nil},
			"earliest":                       {"&lastEventID=earliest", nil, "earliest", []string{"1", "2", "3"}},
			"earliest, header":               {"", []string{"Last-Event-ID", "earliest"}, "earliest", []string{"1", "2", "3"}},
			"an id that is not there":        {"&lastEventID=gone", nil, "earliest", []string{"1", "2", "3"}},
			"none":                           {"", nil, "", nil},
			"earlier drafts: Last-Event-ID":  {"&Last-Event-ID=2", nil, "2", []string{"3"}},
			"earlier drafts: last-event-id":  {"&last-event-id=2", nil, "2", []string{"3"}},
			"earlier drafts: both (Symfony)": {"&lastEventID=1&Last-Event-ID=1", nil, "1", []string{"2", "3"}},
		} {
			t.Run(name, func(t *testing.T) {
				r.t = t
				s := r.subscribe("match=t"+tt.query, tt.header...)
				if got := s.resp.Header.Get("Last-Event-ID"); got != tt.answer {
					t.Errorf("Last-Event-ID: %q, want %q", got, tt.answer)
				}
				for _, id := range tt.want {
					s.want(event(id))
				}
			})
		}
		s := r.subscribe("match=t&lastEventID=3")
		r.update(hub.Event{ID: "4", Topic: "t"})
		s.want(event("4"))
	})
}

// TestLoss7: where the history doesn't reach back, the answer says so; so does one of a subscriber that may
// not read what is there.
func TestLoss7(t *testing.T) {
	r := withKeys(t, "net/http")
	r.memory.Keep = 2
	for _, id := range []string{"1", "2", "3"} {
		r.update(hub.Event{ID: id, Topic: "t", Private: id == "2"})
	}
	s := r.subscribe("match=t&lastEventID=1")
	if got := s.resp.Header.Get("Last-Event-ID"); got != "earliest" {
		t.Errorf("Last-Event-ID: %q", got)
	}
	s.want("id: 3\ndata: \n")
}

// TestSubscriptions8: events and API.
func TestSubscriptions8(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		r := withKeys(t, engine)
		all := access(t, grant("subscribe", pattern("/.well-known/mercure/subscriptions{/*}?")))
		watch := r.subscribe("matchURLPattern="+url.QueryEscape("/.well-known/mercure/subscriptions/:type/:match/:subscriber"), "Authorization", "Bearer "+all)
		stranger := r.subscribe("match=*")
		own, everybody := event(t, watch), event(t, watch) // the answer to who subscribes comes before its event
		if own["matchType"] == "Exact" {
			own, everybody = everybody, own
		}
		if own["matchType"] != "URLPattern" || everybody["matchType"] != "Exact" {
			t.Fatalf("the first events are %v and %v", own, everybody)
		}
		c := accessClaims(
			map[string]any{"type": "mercure", "actions": []string{"subscribe"}, "topics": []any{pattern("https://example.com/:selector")}, "payload": map[string]any{"foo": "bar"}},
			map[string]any{"type": "mercure", "actions": []string{"subscribe"}, "topics": []any{exact("*")}, "payload": map[string]any{"rest": true}})
		c["sub"] = "https://example.com/users/1"
		token := sign(t, jwt.SigningMethodHS256, []byte(testSecret), map[string]any{"typ": "at+jwt"}, c)
		s := r.subscribe("matchURLPattern="+url.QueryEscape("https://example.com/:selector"), "Authorization", "Bearer "+token)
		began := event(t, watch)
		subscriber, _ := began["subscriber"].(string)
		id := "/.well-known/mercure/subscriptions/URLPattern/https%3A%2F%2Fexample.com%2F%3Aselector/" + strings.ReplaceAll(url.QueryEscape(subscriber), "+", "%20")
		for k, want := range map[string]any{"@context": "https://mercure.rocks/", "id": id, "type": "Subscription", "matchType": "URLPattern", "match": "https://example.com/:selector", "active": true} {
			if began[k] != want {
				t.Errorf("8.1: %s: %v, want %v", k, began[k], want)
			}
		}
		if !strings.HasPrefix(subscriber, "https://example.com/users/1#") {
			t.Errorf("8.1: the subscriber is %q, want it to be made of sub", subscriber)
		}
		if p, _ := began["payload"].(map[string]any); p["foo"] != "bar" {
			t.Errorf("6.8: the payload is %v", began["payload"])
		}

		get := func(path, token string) (int, map[string]any) {
			t.Helper()
			header := []string{"Authorization", "Bearer " + token}
			if token == "" {
				header = nil
			}
			resp := r.do("GET", path, "", header...)
			body := text(t, resp)
			var doc map[string]any
			if resp.StatusCode == 200 {
				if ct := resp.Header.Get("Content-Type"); ct != "application/ld+json" {
					t.Errorf("8.2: Content-Type: %s", ct)
				}
				if err := json.Unmarshal([]byte(body), &doc); err != nil {
					t.Errorf("%v: %s", err, body)
				}
			}
			return resp.StatusCode, doc
		}
		rel := func(id string) string { return strings.TrimPrefix(id, hub.Reserved) }
		if status, doc := get("/subscriptions", all); status != 200 || doc["id"] != "/.well-known/mercure/subscriptions" || doc["type"] != "Subscriptions" || len(doc["subscriptions"].([]any)) != 3 || doc["lastEventID"] == nil {
			t.Errorf("8.2 collection: %d %v", status, doc)
		}
		ofMatcher := strings.TrimSuffix(id, id[strings.LastIndex(id, "/"):])
		if status, doc := get(rel(ofMatcher), all); status != 200 || doc["id"] != ofMatcher || len(doc["subscriptions"].([]any)) != 1 {
			t.Errorf("8.2 of a matcher: %d %v", status, doc)
		}
		if status, doc := get("/subscriptions/Exact/nobody", all); status != 200 || len(doc["subscriptions"].([]any)) != 0 {
			t.Errorf("8.2 of nobody: %d %v", status, doc)
		}
		if status, doc := get(rel(id), all); status != 200 || doc["id"] != id || doc["active"] != true || doc["lastEventID"] == nil || doc["@context"] == nil {
			t.Errorf("8.2 single: %d %v", status, doc)
		}
		if status, doc := get(rel(id), access(t, grant("subscribe", exact(id)))); status != 200 || doc["id"] != id {
			t.Errorf("8.2 with an exact grant: %d %v", status, doc)
		}
		for what, tt := range map[string]struct {
			path, token string
			status      int
		}{
			"none there":          {rel(id) + "x", all, 404},
			"no such path":        {"/subscriptions/Exact", all, 404},
			"nor such":            {"/subscriptions/a/b/c/d", all, 404},
			"no token":            {"/subscriptions", "", 401},
			"another grant":       {"/subscriptions", access(t, grant("subscribe", exact(id))), 403},
			"publish is not read": {"/subscriptions", access(t, grant("publish", exact("*"))), 403},
			"a bad token":         {"/subscriptions", "x.y.z", 401},
		} {
			if status, _ := get(tt.path, tt.token); status != tt.status {
				t.Errorf("8.2 %s: %d, want %d", what, status, tt.status)
			}
		}
		if resp := r.do("POST", "/subscriptions", "", "Authorization", "Bearer "+all); resp.StatusCode != 405 {
			t.Errorf("8.2 POST: %s", resp.Status)
		}

		s.resp.Body.Close()
		ended := event(t, watch)
		if ended["id"] != id || ended["active"] != false {
			t.Errorf("8.1: after the end: %v", ended)
		}
		if status, _ := get(rel(id), all); status != 404 {
			t.Errorf("8.2: after the end: %d", status)
		}
		r.update(hub.Event{ID: "public", Topic: "x"})
		stranger.want("id: public\ndata: \n") // 8.1: the events are private
		if everybody["match"] != "*" || everybody["payload"] != nil {
			t.Errorf("8.1: a subscriber without a token: %v", everybody)
		}
	})
}

// event is the JSON of the next event.
func event(t *testing.T, s *sub) map[string]any {
	t.Helper()
	select {
	case b := <-s.blocks:
		_, data, _ := strings.Cut(b, "data: ")
		var doc map[string]any
		if err := json.Unmarshal([]byte(data), &doc); err != nil {
			t.Fatalf("%v: %q", err, b)
		}
		return doc
	case <-time.After(patience):
		t.Fatal("no event")
		return nil
	}
}

// TestMetadata10: discovery.
func TestMetadata10(t *testing.T) {
	r := newRig(t, "net/http", Options{Issuers: []string{"https://as.example"}}, hub.Options{})
	if got := r.h.Link(); got != `<https://hub.example/.well-known/mercure>; rel="mercure"` {
		t.Errorf("10.1: Link: %s", got)
	}
	r.url = strings.TrimSuffix(r.url, hub.Reserved)
	resp := r.do("GET", "/.well-known/oauth-protected-resource/.well-known/mercure", "")
	var doc map[string]any
	if err := json.Unmarshal([]byte(text(t, resp)), &doc); err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]any{"resource": testURL, "mercure_cookie": true, "mercure_version": 8.0} {
		if doc[k] != want {
			t.Errorf("10.2: %s: %v, want %v", k, doc[k], want)
		}
	}
	if servers, _ := doc["authorization_servers"].([]any); len(servers) != 1 || servers[0] != "https://as.example" {
		t.Errorf("10.2: authorization_servers: %v", doc["authorization_servers"])
	}
}

// TestInjection13: nothing that a publisher sends makes fields of its own.
func TestInjection13(t *testing.T) {
	r := newRig(t, "net/http", Options{PublishAnyone: true}, hub.Options{})
	s := r.subscribe("match=t")
	evil := "x\nid: evil\r\nevent: evil\rretry: 1\n\ndata: evil\n\n"
	if resp := r.post("", "topic", "t", "id", "1", "data", evil); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	s.want("id: 1\ndata: x\ndata: id: evil\ndata: event: evil\ndata: retry: 1\ndata: \ndata: data: evil\ndata: \ndata: \n")
	for _, field := range []string{"id", "type", "retry", "topic"} {
		for _, bad := range []string{"a\nb", "a\rb", "a\r\nb"} {
			pairs := []string{field, bad}
			if field != "topic" {
				pairs = append(pairs, "topic", "t")
			}
			if resp := r.post("", pairs...); resp.StatusCode != 400 {
				t.Errorf("%s %q: %s", field, bad, resp.Status)
			}
		}
	}
}
