package main

import (
	"strconv"
	"time"
	"unicode/utf8"
)

const (
	daemon   = "iterate-go"
	rawBytes = 256 * 1024
)

// refusal tells which JSON of a session broke a rule.
type refusal struct {
	key  string
	kind error
}

func (r refusal) Error() string { return r.key + ": " + r.kind.Error() }

// object writes the members of one JSON object in the order in which they are given.
type object struct{ out []byte }

func (o *object) key(name string) {
	if o.out[len(o.out)-1] != '{' {
		o.out = append(o.out, ',')
	}
	o.out = append(appendString(o.out, name), ':')
}

func (o *object) text(name string, value text) {
	o.key(name)
	o.out = appendString(o.out, string(value))
}

func (o *object) optionalText(name string, value *text) {
	if value != nil {
		o.text(name, *value)
	}
}

func (o *object) integer(name string, value int64) {
	o.key(name)
	o.out = strconv.AppendInt(o.out, value, 10)
}

func (o *object) embedded(name string, value *text) error {
	if value == nil {
		return nil
	}
	canonical, err := canonicalize([]byte(*value))
	if err != nil {
		return refusal{name, err}
	}
	o.key(name)
	o.out = append(o.out, canonical...)
	return nil
}

func (o *object) fault(value *fault) {
	if value == nil {
		return
	}
	o.key("error")
	o.out = append(o.out, '{')
	o.text("code", value.Code)
	o.text("reason", value.Reason)
	o.text("where", value.Where)
	o.text("message", value.Message)
	o.out = append(o.out, '}')
}

func (o *object) attempt(value attempt) {
	o.out = append(o.out, '{')
	o.integer("iteration", value.Iteration)
	o.text("provider", value.Provider)
	o.text("model", value.Model)
	o.text("verdict", value.Verdict)
	o.optionalText("span_id", value.SpanID)
	raw, truncated := cutRaw(string(value.Raw))
	o.text("raw", text(raw))
	if truncated {
		o.key("raw_truncated")
		o.out = append(o.out, "true"...)
	}
	if value.Findings != nil {
		o.key("findings")
		o.out = append(o.out, '[')
		for i, f := range *value.Findings {
			if i > 0 {
				o.out = append(o.out, ',')
			}
			o.out = append(o.out, '{')
			o.text("code", f.Code)
			o.text("path", f.Path)
			o.text("message", f.Message)
			o.out = append(o.out, '}')
		}
		o.out = append(o.out, ']')
	}
	o.fault(value.Error)
	o.integer("input_tokens", value.InputTokens)
	o.integer("output_tokens", value.OutputTokens)
	o.integer("chat_ms", value.ChatMS)
	o.integer("validate_ms", value.ValidateMS)
	o.optionalText("roster", value.Roster)
	o.out = append(o.out, '}')
}

// encodeRow gives the session's row, LF-ended, or the refusal of its spec or artifact.
func encodeRow(s session, now time.Time) ([]byte, error) {
	o := object{out: []byte{'{'}}
	o.text("schema", "session.iterate.v1")
	o.text("session_id", s.SessionID)
	o.text("timestamp", text(now.UTC().Format("2006-01-02T15:04:05.000000Z")))
	o.text("daemon", daemon)
	o.text("trace_id", s.TraceID)
	o.optionalText("caller_trace", s.CallerTrace)
	o.text("kind", s.Kind)
	o.text("provider", s.Provider)
	o.text("model", s.Model)
	o.text("prompt", s.Prompt)
	if err := o.embedded("spec", s.Spec); err != nil {
		return nil, err
	}
	o.integer("max_iterations", s.MaxIterations)
	o.integer("iterations", int64(len(s.Attempts)))
	o.text("final_verdict", s.FinalVerdict)
	o.fault(s.Error)
	if err := o.embedded("artifact", s.Artifact); err != nil {
		return nil, err
	}
	if s.GroundedInRoster != nil {
		o.key("grounded_in_roster")
		o.out = strconv.AppendBool(o.out, *s.GroundedInRoster)
	}
	o.key("attempts")
	o.out = append(o.out, '[')
	var inputTokens, outputTokens int64
	for i, a := range s.Attempts {
		if i > 0 {
			o.out = append(o.out, ',')
		}
		o.attempt(a)
		inputTokens += a.InputTokens
		outputTokens += a.OutputTokens
	}
	o.out = append(o.out, ']')
	o.integer("input_tokens", inputTokens)
	o.integer("output_tokens", outputTokens)
	o.integer("duration_ms", s.DurationMS)
	return append(o.out, '}', '\n'), nil
}

// cutRaw keeps at most rawBytes bytes, whole characters.
func cutRaw(raw string) (string, bool) {
	if len(raw) <= rawBytes {
		return raw, false
	}
	end := rawBytes
	for !utf8.RuneStart(raw[end]) {
		end--
	}
	return raw[:end], true
}
