package hub

import "time"

// Rights are what somebody may do at a hub, as its token, its user or the configuration says.
type Rights struct {
	ID        string               // of the subscriber in presence; "": a random one
	Readable  []Matcher            // topics whose private events it may have
	Publish   []Matcher            // topics that it may publish
	Present   bool                 // it may know who is there
	Payload   func(Matcher) string // see SubscriberOptions
	Expires   time.Time            // zero: never
	NoPublish string               // why it may not publish all, and what to do: for people
}

// MayPublish tells whether Publish has topic.
func (r *Rights) MayPublish(topic string) bool {
	for _, m := range r.Publish {
		if m.Match(topic) {
			return true
		}
	}
	return false
}

// All selects all topics.
var All = Matcher{typ: Exact, pattern: Everything}
