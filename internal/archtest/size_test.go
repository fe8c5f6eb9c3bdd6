package archtest

import (
	"go/ast"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The bounds of a room: a file that a reader takes in at one sitting, a function that fits a
// screen.
const (
	maxFileLines     = 400
	maxFunctionLines = 60
)

// TestPackagesSayWhatTheyAreFor fails on a package with no doc comment, or with two.
func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	for _, p := range load(t, true) {
		docs := 0
		for _, f := range p.Syntax {
			if f.Doc != nil {
				docs++
			}
		}
		if len(p.Syntax) > 0 {
			require.Equal(t, 1, docs, "%s: package documentation", p.PkgPath)
		}
	}
}

// TestFilesAndFunctionsStaySmall measures every file and function that is not a test.
func TestFilesAndFunctionsStaySmall(t *testing.T) {
	for _, p := range load(t, true) {
		for _, f := range p.Syntax {
			file := p.Fset.File(f.Pos())
			name := file.Name()
			require.LessOrEqual(t, file.LineCount(), maxFileLines, "lines of %s", name)
			for _, d := range f.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok || fn.Body == nil {
					continue
				}
				lines := file.Line(fn.End()) - file.Line(fn.Pos()) + 1
				require.LessOrEqual(t, lines, maxFunctionLines, "lines of %s in %s", fn.Name.Name, name)
			}
		}
	}
}

// TestNoDrawers fails on a package or file whose name says nothing.
func TestNoDrawers(t *testing.T) {
	drawers := []string{"util", "utils", "common", "helpers", "helper", "misc", "types", "base"}
	for _, p := range load(t, false) {
		for _, d := range drawers {
			require.NotEqual(t, d, p.Name, "package %s", p.PkgPath)
			for _, f := range p.GoFiles {
				require.False(t, strings.HasSuffix(f, "/"+d+".go"), "file %s", f)
			}
		}
	}
}
