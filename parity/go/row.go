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

func (o *object) optionalInteger(name string, value *int64) {
	if value != nil {
		o.integer(name, *value)
	}
}

// flag writes a key that stands for true alone.
func (o *object) flag(name string, value bool) {
	if value {
		o.key(name)
		o.out = append(o.out, "true"...)
	}
}

// comma separates the elements of an array.
func (o *object) comma(i int) {
	if i > 0 {
		o.out = append(o.out, ',')
	}
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

func (o *object) findings(values *[]finding) error {
	if values == nil {
		return nil
	}
	o.key("findings")
	o.out = append(o.out, '[')
	for i, f := range *values {
		o.comma(i)
		o.out = append(o.out, '{')
		o.text("code", f.Code)
		o.text("path", f.Path)
		o.text("message", f.Message)
		if f.Suggestions != nil {
			o.key("suggestions")
			o.out = append(o.out, '[')
			for j, suggestion := range *f.Suggestions {
				canonical, err := canonicalize([]byte(suggestion))
				if err != nil {
					return refusal{"suggestions", err}
				}
				o.comma(j)
				o.out = append(o.out, canonical...)
			}
			o.out = append(o.out, ']')
		}
		o.out = append(o.out, '}')
	}
	o.out = append(o.out, ']')
	return nil
}

func (o *object) brief(value *brief) error {
	if value == nil {
		return nil
	}
	o.key("brief")
	o.out = append(o.out, '{')
	o.text("grounding", value.Grounding)
	o.optionalInteger("candidates", value.Candidates)
	o.optionalInteger("candidates_total", value.CandidatesTotal)
	o.flag("candidates_total_is_floor", value.CandidatesTotalIsFloor)
	o.flag("infeasible", value.Infeasible)
	o.flag("degraded", value.Degraded)
	if err := o.findings(value.Findings); err != nil {
		return err
	}
	o.optionalText("roster", value.Roster)
	o.integer("brief_ms", value.BriefMS)
	o.out = append(o.out, '}')
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

func (o *object) attempt(value attempt) error {
	o.out = append(o.out, '{')
	o.integer("iteration", value.Iteration)
	o.text("provider", value.Provider)
	o.text("model", value.Model)
	o.text("verdict", value.Verdict)
	o.optionalText("span_id", value.SpanID)
	raw, truncated := cutRaw(string(value.Raw))
	o.text("raw", text(raw))
	o.flag("raw_truncated", truncated)
	if err := o.findings(value.Findings); err != nil {
		return err
	}
	o.fault(value.Error)
	o.integer("input_tokens", value.InputTokens)
	o.integer("output_tokens", value.OutputTokens)
	o.integer("chat_ms", value.ChatMS)
	o.integer("validate_ms", value.ValidateMS)
	o.optionalText("roster", value.Roster)
	if value.Datasets != nil {
		o.key("datasets")
		o.out = append(o.out, '[')
		for i, d := range *value.Datasets {
			o.comma(i)
			o.out = append(o.out, '{')
			o.text("name", d.Name)
			o.text("version", d.Version)
			o.out = append(o.out, '}')
		}
		o.out = append(o.out, ']')
	}
	o.optionalInteger("cost_nano_usd", value.CostNanoUSD)
	o.optionalText("parse_problem", value.ParseProblem)
	o.out = append(o.out, '}')
	return nil
}

// encodeRow gives the session's row, LF-ended, or the refusal of its spec, its artifact or a suggestion.
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
	var inputTokens, outputTokens, costNanoUSD int64
	costKnown := len(s.Attempts) > 0
	for i, a := range s.Attempts {
		o.comma(i)
		if err := o.attempt(a); err != nil {
			return nil, err
		}
		inputTokens += a.InputTokens
		outputTokens += a.OutputTokens
		if a.CostNanoUSD == nil {
			costKnown = false
		} else {
			costNanoUSD += *a.CostNanoUSD
		}
	}
	o.out = append(o.out, ']')
	o.integer("input_tokens", inputTokens)
	o.integer("output_tokens", outputTokens)
	o.integer("duration_ms", s.DurationMS)
	o.optionalText("caller", s.Caller)
	if err := o.brief(s.Brief); err != nil {
		return nil, err
	}
	o.flag("token_budget_spent", s.TokenBudgetSpent)
	o.flag("no_progress", s.NoProgress)
	o.optionalInteger("try", s.Try)
	o.optionalText("request_digest", s.RequestDigest)
	if costKnown {
		o.integer("cost_nano_usd", costNanoUSD)
	}
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
