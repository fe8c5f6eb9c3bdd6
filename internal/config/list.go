package config

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// Options are the mappers that every parser of this program needs: byte sizes under the name
// "bytes", and lists of structs of the given slice types, which are YAML lists in the file and JSON
// lists in a flag or a variable.
func Options(lists ...reflect.Type) []kong.Option {
	os := []kong.Option{kong.NamedMapper("bytes", kong.MapperFunc(decodeBytes))}
	for _, t := range lists {
		os = append(os, kong.TypeMapper(t, kong.MapperFunc(decodeList)))
	}
	return os
}

// decodeList reads a list of structs. Giving a flag twice replaces the list: there is no order of
// merging that everyone would expect.
func decodeList(ctx *kong.DecodeContext, target reflect.Value) error {
	t, err := ctx.Scan.PopValue("list")
	if err != nil {
		return err
	}
	var items []any
	switch v := t.Value.(type) {
	case []any:
		items = v
	case string:
		d := json.NewDecoder(strings.NewReader(v))
		d.UseNumber()
		if err := d.Decode(&items); err != nil {
			return fmt.Errorf(`not a JSON list such as [{"name":"a"}]: %w`, err)
		}
		if d.More() {
			return errors.New("data after the JSON list")
		}
	default:
		return fmt.Errorf("expected a list but got %v", v)
	}
	list := reflect.MakeSlice(target.Type(), len(items), len(items))
	for i, item := range items {
		m, ok := item.(map[string]any)
		if !ok {
			return fmt.Errorf("item %d is not a map of fields", i+1)
		}
		if err := decodeStruct(m, list.Index(i)); err != nil {
			return fmt.Errorf("item %d: %w", i+1, err)
		}
	}
	target.Set(list)
	return nil
}

// fields maps a struct's dotted key names to its fields, embedded ones included.
func fields(v reflect.Value, prefix string, out map[string]field) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() || f.Tag.Get("kong") == "-" {
			continue
		}
		if _, embed := f.Tag.Lookup("embed"); embed || f.Anonymous {
			fields(v.Field(i), prefix+f.Tag.Get("prefix"), out)
			continue
		}
		if name := f.Tag.Get("name"); name != "" {
			out[prefix+name] = field{value: v.Field(i), tag: f.Tag}
		}
	}
}

type field struct {
	value reflect.Value
	tag   reflect.StructTag
}

func decodeStruct(m map[string]any, v reflect.Value) error {
	fs := map[string]field{}
	fields(v, "", fs)
	var errs []error
	for name, f := range fs {
		if d, ok := f.tag.Lookup("default"); ok {
			if err := setField(f, d); err != nil {
				errs = append(errs, fmt.Errorf("default of %s: %w", name, err))
			}
		}
	}
	flat := map[string]any{}
	flatten("", m, fs, flat)
	for _, name := range slices.Sorted(maps.Keys(flat)) {
		f, ok := fs[name]
		if !ok {
			errs = append(errs, fmt.Errorf("%w field %s%s", ErrUnknown, name, didYouMean(name, slices.Sorted(maps.Keys(fs)))))
			continue
		}
		if err := setField(f, flat[name]); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// flatten joins nested names with dots, down to where a field is.
func flatten(prefix string, m map[string]any, known map[string]field, out map[string]any) {
	for k, v := range m {
		name := prefix + k
		if sub, ok := v.(map[string]any); ok {
			if _, leaf := known[name]; !leaf {
				flatten(name+".", sub, known, out)
				continue
			}
		}
		if v != nil {
			out[name] = v
		}
	}
}

func setField(f field, value any) error {
	if list, ok := value.([]any); ok {
		return setStrings(f.value, list)
	}
	return setScalar(f.value, f.tag.Get("type"), fmt.Sprint(value))
}

func setStrings(v reflect.Value, list []any) error {
	if v.Kind() != reflect.Slice || v.Type().Elem().Kind() != reflect.String {
		return errors.New("does not take a list")
	}
	ss := reflect.MakeSlice(v.Type(), len(list), len(list))
	for i, item := range list {
		ss.Index(i).SetString(fmt.Sprint(item))
	}
	v.Set(ss)
	return nil
}

func setScalar(v reflect.Value, typ, s string) error {
	if v.Type() == reflect.TypeFor[time.Duration]() {
		d, err := time.ParseDuration(s)
		v.SetInt(int64(d))
		return err
	}
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		return u.UnmarshalText([]byte(s))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		b, err := strconv.ParseBool(s)
		v.SetBool(b)
		return err
	case reflect.Int, reflect.Int32, reflect.Int64:
		n, err := parseInt(typ, s, v.Type().Bits())
		v.SetInt(n)
		return err
	case reflect.Uint, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(s, 0, v.Type().Bits())
		v.SetUint(n)
		return err
	case reflect.Float64:
		n, err := strconv.ParseFloat(s, 64)
		v.SetFloat(n)
		return err
	case reflect.Slice:
		parts := strings.Split(s, ",")
		list := make([]any, 0, len(parts))
		for _, p := range parts {
			if p = strings.TrimSpace(p); p != "" {
				list = append(list, p)
			}
		}
		return setStrings(v, list)
	default:
		return fmt.Errorf("fields of type %s are not supported", v.Type())
	}
	return nil
}

func parseInt(typ, s string, bits int) (int64, error) {
	if typ == "bytes" {
		return ParseBytes(s)
	}
	return strconv.ParseInt(s, 0, bits)
}

// formatList writes a list of structs as JSON with the key names, secrets masked.
func formatList(v reflect.Value) string {
	items := make([]map[string]string, v.Len())
	for i := range items {
		fs := map[string]field{}
		fields(v.Index(i), "", fs)
		items[i] = map[string]string{}
		for name, f := range fs {
			if f.value.IsZero() && f.tag.Get("default") == "" {
				continue
			}
			_, secret := f.tag.Lookup("secret")
			items[i][name] = mask(formatValue(f.value, f.tag.Get("type")), secret)
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(items) // maps of strings
	return strings.TrimSpace(b.String())
}
