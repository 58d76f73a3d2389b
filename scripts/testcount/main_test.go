package main

import (
	"strings"
	"testing"
)

func TestCount(t *testing.T) {
	for _, c := range []struct {
		name, in string
		ok       bool
		want     []string
	}{
		{"pass", `{"Action":"run","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Test":"A","Output":"hidden\n"}
{"Action":"pass","Package":"p","Test":"A"}
{"Action":"pass","Package":"p","Elapsed":1.5}
`, true, []string{"pass p 1.5s\n1 passed, 0 failed, 0 skipped\n"}},
		{"fail shows its output", `{"Action":"output","Package":"p","Test":"A","Output":"shown\n"}
{"Action":"fail","Package":"p","Test":"A"}
{"Action":"skip","Package":"p","Test":"B"}
{"Action":"fail","Package":"p"}
`, false, []string{"shown\n", "0 passed, 1 failed, 1 skipped\n"}},
		{"build failure", "{\"ImportPath\":\"p\",\"Action\":\"build-output\",\"Output\":\"p.go:1: no\\n\"}\n{\"Action\":\"build-fail\"}\n{\"Action\":\"pass\",\"Package\":\"q\",\"Test\":\"A\"}\n",
			false, []string{"p.go:1: no\n", "1 passed"}},
		{"plain lines pass through", "go: no such tool\n", false, []string{"go: no such tool\n", "no test ran\n"}},
		{"a test that never ended", "{\"Action\":\"output\",\"Package\":\"p\",\"Test\":\"A\",\"Output\":\"last words\\n\"}\n{\"Action\":\"fail\",\"Package\":\"p\"}\n",
			false, []string{"p A did not end:\nlast words\n", "0 passed, 1 failed, 0 skipped\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			ok, err := count(strings.NewReader(c.in), &out)
			if err != nil || ok != c.ok {
				t.Errorf("ok %v, error %v, expected %v", ok, err, c.ok)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("output %q lacks %q", out.String(), want)
				}
			}
		})
	}
}
