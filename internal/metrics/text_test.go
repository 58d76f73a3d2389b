package metrics

import "testing"

func TestText(t *testing.T) {
	x := new(text)
	x.one("a_total", counter, "All a.", 12345678901)
	x.head("b", gauge, "Of each b.")
	x.sample(0.25, "name", "a\\b\"c\nd", "n", "1")
	const want = "# HELP a_total All a.\n# TYPE a_total counter\na_total 12345678901\n" +
		"# HELP b Of each b.\n# TYPE b gauge\nb{name=\"a\\\\b\\\"c\\nd\",n=\"1\"} 0.25\n"
	if x.String() != want {
		t.Errorf("got %q, want %q", x.String(), want)
	}
}
