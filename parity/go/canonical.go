package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	bytesMax         = 256 * 1024
	depthMax         = 100
	integerDigitsMax = 1000
)

// breach is the kind of a broken rule, the same word in all three languages.
type breach string

func (b breach) Error() string { return string(b) }

const (
	tooLarge       breach = "too_large"
	notUTF8        breach = "not_utf8"
	tooDeep        breach = "too_deep"
	badSyntax      breach = "syntax"
	integerTooLong breach = "integer_too_long"
	doubleOverflow breach = "double_overflow"
	duplicateName  breach = "duplicate_name"
)

// canonicalize gives the canonical text of a JSON text from outside, or the kind of its first breach:
// size, UTF-8, depth and grammar of the whole, then numbers and names in reading order (an object's names
// when it closes).
func canonicalize(text []byte) ([]byte, error) {
	if len(text) > bytesMax {
		return nil, tooLarge
	}
	if !utf8.Valid(text) {
		return nil, notUTF8
	}
	if bytes.HasPrefix(text, []byte("\ufeff")) {
		return nil, badSyntax
	}
	if deeperThan(text, depthMax) {
		return nil, tooDeep
	}
	if !json.Valid(text) {
		return nil, badSyntax
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	canonical, err := appendNext(nil, decoder)
	if err != nil {
		return nil, err
	}
	if len(canonical) > bytesMax {
		return nil, tooLarge
	}
	return canonical, nil
}

// deeperThan counts the brackets outside strings. Up to the first syntax error it sees the strings that a
// parser sees, so that no parser recurses deeper than allowed.
func deeperThan(text []byte, limit int) bool {
	depth, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '[' || c == '{':
			if depth++; depth > limit {
				return true
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return false
}

// appendNext reads one value of a text that is known to be valid and appends its canonical text.
func appendNext(out []byte, decoder *json.Decoder) ([]byte, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, badSyntax
	}
	switch token := token.(type) {
	case nil:
		return append(out, "null"...), nil
	case bool:
		return strconv.AppendBool(out, token), nil
	case string:
		return appendString(out, token), nil
	case json.Number:
		return appendNumber(out, token.String())
	case json.Delim:
		if token == '{' {
			return appendObject(out, decoder)
		}
		return appendArray(out, decoder)
	}
	return nil, badSyntax
}

func appendArray(out []byte, decoder *json.Decoder) ([]byte, error) {
	out = append(out, '[')
	for first := true; decoder.More(); first = false {
		if !first {
			out = append(out, ',')
		}
		var err error
		if out, err = appendNext(out, decoder); err != nil {
			return nil, err
		}
	}
	_, err := decoder.Token()
	return append(out, ']'), err
}

type member struct {
	name  string
	order []uint16
	value []byte
}

func appendObject(out []byte, decoder *json.Decoder) ([]byte, error) {
	var members []member
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, badSyntax
		}
		value, err := appendNext(nil, decoder)
		if err != nil {
			return nil, err
		}
		text := name.(string)
		members = append(members, member{text, utf16.Encode([]rune(text)), value})
	}
	if _, err := decoder.Token(); err != nil {
		return nil, badSyntax
	}
	slices.SortFunc(members, func(a, b member) int { return slices.Compare(a.order, b.order) })
	out = append(out, '{')
	for i, m := range members {
		if i > 0 {
			if members[i-1].name == m.name {
				return nil, duplicateName
			}
			out = append(out, ',')
		}
		out = append(appendString(out, m.name), ':')
		out = append(out, m.value...)
	}
	return append(out, '}'), nil
}

const lowerHex = "0123456789abcdef"

// appendString escapes `"`, `\` and U+0000-U+001F alone. A decoded Go string holds U+FFFD for each lone
// surrogate already.
func appendString(out []byte, text string) []byte {
	out = append(out, '"')
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c >= 0x20:
			out = append(out, c)
		case strings.IndexByte("\b\t\n\f\r", c) >= 0:
			out = append(out, '\\', "btn_fr"[c-'\b'])
		default:
			out = append(out, '\\', 'u', '0', '0', lowerHex[c>>4], lowerHex[c&0xf])
		}
	}
	return append(out, '"')
}
