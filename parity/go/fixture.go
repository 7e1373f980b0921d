package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// text is a string of a fixture, or a long one told in parts: {"parts": [["[", 101], ["]", 101]]}, or bytes
// that are no UTF-8: {"base64": "/w=="}.
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	if data[0] == '"' {
		return json.Unmarshal(data, (*string)(t))
	}
	var long struct {
		Parts  [][2]json.RawMessage
		Base64 *string
	}
	if err := json.Unmarshal(data, &long); err != nil {
		return err
	}
	if long.Base64 != nil {
		decoded, err := base64.StdEncoding.DecodeString(*long.Base64)
		*t = text(decoded)
		return err
	}
	var whole strings.Builder
	for _, part := range long.Parts {
		var piece string
		var times int
		if err := json.Unmarshal(part[0], &piece); err != nil {
			return err
		}
		if err := json.Unmarshal(part[1], &times); err != nil {
			return err
		}
		whole.WriteString(strings.Repeat(piece, times))
	}
	*t = text(whole.String())
	return nil
}

type fault struct {
	Code, Reason, Where, Message text
}

// finding has its suggestions as the JSON texts from outside.
type finding struct {
	Code, Path, Message text
	Suggestions         *[]text
}

type dataset struct {
	Name, Version text
}

// brief has flags that are absent or true.
type brief struct {
	Grounding              text
	Candidates             *int64
	CandidatesTotal        *int64 `json:"candidates_total"`
	CandidatesTotalIsFloor bool   `json:"candidates_total_is_floor"`
	Infeasible             bool
	Degraded               bool
	Findings               *[]finding
	Roster                 *text
	BriefMS                int64 `json:"brief_ms"`
}

type attempt struct {
	Iteration    int64
	Provider     text
	Model        text
	Verdict      text
	SpanID       *text `json:"span_id"`
	Raw          text
	Findings     *[]finding
	Error        *fault
	InputTokens  int64 `json:"input_tokens"`
	OutputTokens int64 `json:"output_tokens"`
	ChatMS       int64 `json:"chat_ms"`
	ValidateMS   int64 `json:"validate_ms"`
	Roster       *text
	Datasets     *[]dataset
	CostNanoUSD  *int64 `json:"cost_nano_usd"`
	ParseProblem *text  `json:"parse_problem"`
}

// session is a session as a writer gets it: raw uncut, spec and artifact as the JSON text from outside.
// A key that is absent is nil.
type session struct {
	SessionID        text  `json:"session_id"`
	TraceID          text  `json:"trace_id"`
	CallerTrace      *text `json:"caller_trace"`
	Kind             text
	Provider         text
	Model            text
	Prompt           text
	Spec             *text
	MaxIterations    int64 `json:"max_iterations"`
	FinalVerdict     text  `json:"final_verdict"`
	Error            *fault
	Artifact         *text
	GroundedInRoster *bool `json:"grounded_in_roster"`
	Attempts         []attempt
	DurationMS       int64 `json:"duration_ms"`
	Caller           *text
	Brief            *brief
	TokenBudgetSpent bool `json:"token_budget_spent"`
	NoProgress       bool `json:"no_progress"`
	Try              *int64
	RequestDigest    *text `json:"request_digest"`
}

func readFile(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
