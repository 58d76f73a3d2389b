package web_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// tool runs a program that must be installed and must succeed.
func tool(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed: scripts/setup --install", name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s %v: %v\n%s", name, args, err, out)
	}
}

// The module, in Node.js, against answers that servers seldom give.
func TestModule(t *testing.T) {
	t.Parallel()
	tool(t, ".", "node", "--test", "testdata/")
}

// The modules are well typed, and their .d.ts say what they are.
func TestTypes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for from, to := range map[string]string{"tandem.js": "impl.js", "tandem.d.ts": "tandem.d.ts", "testdata/types.ts": "types.ts",
		"hub.js": "hubimpl.js", "hub.d.ts": "hub.d.ts", "testdata/hubtypes.ts": "hubtypes.ts"} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tool(t, dir, "tsc", "--noEmit", "--skipDefaultLibCheck", "--allowJs", "--checkJs", "--strict", "--target", "es2022", "--module", "es2022",
		"--moduleResolution", "node", "--lib", "es2022,dom,dom.iterable", "types.ts", "impl.js", "tandem.d.ts",
		"hubtypes.ts", "hubimpl.js", "hub.d.ts")
}
