package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// A field is one key of the file, as the struct's tags describe it.
type field struct {
	key   string // "mail.max_recipients"
	name  string // "max_recipients"
	doc   string
	table bool // a [table]; value is a struct
	value reflect.Value
	min   string // limits as they are written, both or none
	max   string
	oneOf []string
}

// walk calls visit for every table and every key of c in the file's order.
func walk(c *Config, visit func(field)) {
	walkStruct("", reflect.ValueOf(c).Elem(), visit)
}

func walkStruct(prefix string, v reflect.Value, visit func(field)) {
	t := v.Type()
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		f := field{name: tag.Get("toml"), doc: tag.Get("doc"), value: v.Field(i)}
		f.key = prefix + f.name
		f.table = f.value.Kind() == reflect.Struct && f.value.Type() != reflect.TypeFor[Duration]()
		f.min, f.max, _ = strings.Cut(tag.Get("range"), "..")
		if s := tag.Get("oneof"); s != "" {
			f.oneOf = strings.Split(s, "|")
		}
		visit(f)
		if f.table {
			walkStruct(f.key+".", f.value, visit)
		}
	}
}

// fieldOf returns the field with the key, or false.
func fieldOf(c *Config, key string) (found field, ok bool) {
	walk(c, func(f field) {
		if strings.EqualFold(f.key, key) {
			found, ok = f, true
		}
	})
	return found, ok
}

// literal returns the field's value as TOML.
func (f field) literal() string {
	switch v := f.value.Interface().(type) {
	case string:
		return quote(v)
	case bool:
		return strconv.FormatBool(v)
	case Duration:
		return quote(v.String())
	case []string:
		parts := make([]string, len(v))
		for i, s := range v {
			parts[i] = quote(s)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	default:
		return fmt.Sprint(v) // int, int64
	}
}

// outOfRange says whether the value breaks the field's own limits.
func (f field) outOfRange() bool {
	switch v := f.value.Interface().(type) {
	case int, int64:
		n := f.value.Int()
		return n < number(f.min) || n > number(f.max)
	case Duration:
		return v.bad || v.Duration < duration(f.min) || v.Duration > duration(f.max)
	case string:
		if f.oneOf == nil {
			return false
		}
		for _, s := range f.oneOf {
			if v == s {
				return false
			}
		}
		return true
	}
	return false
}

// expected tells the reader of an error what to write.
func (f field) expected() string {
	switch f.value.Interface().(type) {
	case bool:
		return "write true or false, without quotes"
	case Duration:
		return fmt.Sprintf("write a duration in quotes from %q to %q, such as %s", f.min, f.max, f.example())
	case []string:
		return "write a list of texts in quotes, such as " + f.example()
	case string:
		if f.oneOf != nil {
			return `write "` + strings.Join(f.oneOf, `" or "`) + `"`
		}
		return "write a text in quotes"
	case int, int64:
		return fmt.Sprintf("write a whole number from %s to %s, without quotes", f.min, f.max)
	}
	return "write it as a [" + f.key + "] section"
}

func (f field) example() string {
	d := Default("", "", DefaultPortBase)
	if f, ok := fieldOf(&d, f.key); ok {
		return f.literal()
	}
	return ""
}

// number and duration read a limit of the struct's tags, which a test checks
// all of.
func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic("config: range tag: " + err.Error())
	}
	return n
}

func duration(s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		panic("config: range tag: " + err.Error())
	}
	return d
}

// quote returns s as a TOML basic string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
