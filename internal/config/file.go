package config

import (
	"errors"
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"
)

// parseFile reads a YAML document into values by key. Every fault is reported, with its line.
func (s *Schema) parseFile(name string, data []byte) (map[string]any, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrFile, name, err)
	}
	values := map[string]any{}
	if len(doc.Content) == 0 {
		return values, nil // empty, or only comments
	}
	w := walker{schema: s, file: name, values: values}
	w.walk("", doc.Content[0])
	if len(w.errs) > 0 {
		return nil, errors.Join(w.errs...)
	}
	return values, nil
}

// walker collects values and faults on the way through a document.
type walker struct {
	schema *Schema
	file   string
	values map[string]any
	errs   []error
}

func (w *walker) fail(n *yaml.Node, format string, args ...any) {
	w.errs = append(w.errs, fmt.Errorf("%s:%d: %w", w.file, n.Line, fmt.Errorf(format, args...)))
}

func (w *walker) walk(prefix string, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		if n.Kind != yaml.ScalarNode || n.Tag != "!!null" {
			w.fail(n, "%s is a section: expected keys below it", strings.TrimSuffix(prefix, "."))
		}
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := prefix + n.Content[i].Value
		value := n.Content[i+1]
		switch {
		case w.schema.byName[name] != nil:
			w.set(name, n.Content[i], value)
		case w.schema.hasPrefix(name):
			w.walk(name+".", value)
		default:
			w.fail(n.Content[i], "%w key %s%s", ErrUnknown, name, didYouMean(name, w.schema.names()))
		}
	}
}

func (w *walker) set(name string, key, value *yaml.Node) {
	if _, twice := w.values[name]; twice {
		w.fail(key, "key %s is given twice", name)
		return
	}
	v, err := plain(value)
	if err != nil {
		w.fail(value, "key %s: %w", name, err)
		return
	}
	if v != nil { // "key:" with nothing behind it leaves the default
		w.values[name] = v
	}
}

// plain turns a node into strings, lists and maps: scalars as written, so that "10MiB" and "250ms"
// and "0x10" mean the same in every spelling.
func plain(n *yaml.Node) (any, error) {
	switch n.Kind {
	case yaml.ScalarNode:
		if n.Tag == "!!null" {
			return nil, nil
		}
		return n.Value, nil
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, c := range n.Content {
			v, err := plain(c)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i].Value
			if _, twice := m[k]; twice {
				return nil, fmt.Errorf("field %s is given twice", k)
			}
			v, err := plain(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			m[k] = v
		}
		return m, nil
	default:
		// Aliases, that is: expanding them needs guards against files that are bombs.
		return nil, errors.New("expected a value, a list or a map")
	}
}
