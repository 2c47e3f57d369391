package arch

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// goPackage is what 'go list' says of a package.
type goPackage struct {
	ImportPath, Dir, Doc string
	GoFiles, CgoFiles    []string
	TestGoFiles          []string
	XTestGoFiles         []string
	Imports              []string
}

// list runs 'go list -json' from the root of the repository.
func list(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-tags=seccomp", "-json=ImportPath,Dir,Doc,GoFiles,CgoFiles,TestGoFiles,XTestGoFiles,Imports"}, args...)...)
	cmd.Dir = "../.."
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	var packages []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// product lists the packages of all modules but the tests' own.
func product(t *testing.T) []goPackage {
	t.Helper()
	var patterns []string
	for _, m := range modules {
		if m != "test" {
			patterns = append(patterns, "./"+m+"/...")
		}
	}
	return list(t, patterns...)
}

// matches tells whether path is pattern, or lies below a pattern that ends in "/...".
func matches(path, pattern string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == prefix || strings.HasPrefix(path, prefix+"/")
	}
	return path == pattern
}

func matchesAny(path string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(path, p) })
}

func module(path string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(path, "hardway/"), "/")
	return name
}

func TestModulesImportOnlyShared(t *testing.T) {
	for _, p := range append(product(t), list(t, "./test/...")...) {
		for _, imported := range p.Imports {
			if strings.HasPrefix(imported, "hardway/") && module(imported) != module(p.ImportPath) && module(imported) != "shared" {
				t.Errorf("%s imports %s: modules share only hardway/shared", p.ImportPath, imported)
			}
		}
	}
}

func TestDoors(t *testing.T) {
	for _, p := range product(t) {
		for _, imported := range p.Imports {
			for _, d := range doors {
				if matches(imported, d.library) && !matchesAny(p.ImportPath, d.users) {
					t.Errorf("%s imports %s, but %s (allowed: %s)", p.ImportPath, imported, d.why, strings.Join(d.users, ", "))
				}
			}
		}
	}
}

func TestDoorsAreUsed(t *testing.T) {
	for _, d := range doors {
		used := slices.ContainsFunc(product(t), func(p goPackage) bool {
			return slices.ContainsFunc(p.Imports, func(i string) bool { return matches(i, d.library) })
		})
		if !used {
			t.Errorf("nobody imports %s: the rule for it is out of date", d.library)
		}
	}
}

func TestBannedLibraries(t *testing.T) {
	for _, program := range programs {
		for _, p := range list(t, "-deps", "./"+program) {
			for _, b := range bans {
				excused := matchesAny(p.ImportPath, b.except) && (len(b.in) == 0 || slices.Contains(b.in, program))
				if matches(p.ImportPath, b.library) && !excused {
					t.Errorf("hardway-%s contains %s: %s", program, p.ImportPath, b.why)
				}
			}
		}
	}
}

func TestPurePackages(t *testing.T) {
	for _, p := range product(t) {
		if !matchesAny(p.ImportPath, pure) || slices.Contains(impure, p.ImportPath) {
			continue
		}
		for _, imported := range p.Imports {
			if matchesAny(imported, outside) {
				t.Errorf("%s decides and must stay pure, but imports %s", p.ImportPath, imported)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range append(product(t), list(t, "./test/...")...) {
		if p.Doc == "" && len(p.GoFiles)+len(p.CgoFiles) > 0 {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

func TestLoggersAreMadeInOnePlace(t *testing.T) {
	for _, p := range product(t) {
		if p.ImportPath == "hardway/shared/logging" || !slices.Contains(p.Imports, "go.uber.org/zap") {
			continue
		}
		for _, name := range p.GoFiles {
			for _, use := range uses(t, filepath.Join(p.Dir, name), "go.uber.org/zap", loggerSetup, true) {
				t.Errorf("%s: a logger is passed in", use)
			}
		}
	}
}

// TestNobodySleeps: a test waits for a condition. Sleeping between two looks at it is fine, and where the clock is fake,
// sleeping is how it is moved.
func TestNobodySleeps(t *testing.T) {
	for _, p := range append(product(t), list(t, "./test/...")...) {
		for _, name := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
			path := filepath.Join(p.Dir, name)
			if text, err := os.ReadFile(path); err != nil {
				t.Fatal(err)
			} else if strings.Contains(string(text), `"testing/synctest"`) {
				continue
			}
			for _, use := range uses(t, path, "time", []string{"Sleep"}, false) {
				t.Errorf("%s outside of a loop: wait for a condition, or use testing/synctest", use)
			}
		}
	}
}

// uses finds where a file uses one of the names of an imported package; those within loops only if loops is set.
func uses(t *testing.T, file, imported string, names []string, loops bool) []string {
	t.Helper()
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	local := importName(parsed, imported)
	var found []string
	ast.Inspect(parsed, func(n ast.Node) bool {
		switch n.(type) {
		case *ast.ForStmt, *ast.RangeStmt:
			if !loops {
				return false
			}
		}
		if s, ok := n.(*ast.SelectorExpr); ok && slices.Contains(names, s.Sel.Name) {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == local {
				found = append(found, fmt.Sprintf("%s uses %s.%s", files.Position(s.Pos()), imported, s.Sel.Name))
			}
		}
		return true
	})
	return found
}

// importName is the name that a file gives to an imported package; empty when it does not import it.
func importName(file *ast.File, imported string) string {
	for _, i := range file.Imports {
		if unquoted, err := strconv.Unquote(i.Path.Value); err != nil || unquoted != imported {
			continue
		}
		if i.Name != nil {
			return i.Name.Name
		}
		return path.Base(imported)
	}
	return ""
}

func TestMatches(t *testing.T) {
	for _, row := range []struct {
		path, pattern string
		want          bool
	}{
		{"a/b", "a/b", true},
		{"a/b/c", "a/b", false},
		{"a/b", "a/b/...", true},
		{"a/b/c", "a/b/...", true},
		{"a/bc", "a/b/...", false},
	} {
		if got := matches(row.path, row.pattern); got != row.want {
			t.Errorf("matches(%q, %q) = %v", row.path, row.pattern, got)
		}
	}
}
