// The Go writer of session rows: encoding/json reads, its own writer prints.
//
//	parity print FIXTURE...                    the row of each fixture, or {"refused":KEY,"kind":KIND}
//	parity append [--times N] LOG FIXTURE...   appends the rows to LOG, N times over
//	parity canon CASES...                      "ok TEXT" or "refused KIND" for each text of each file
package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "parity:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: parity print|append|canon ...")
	}
	switch args[0] {
	case "print":
		return printRows(args[1:])
	case "append":
		return appendRows(args[1:])
	case "canon":
		return printCanonical(args[1:])
	}
	return fmt.Errorf("unknown command %q: use print, append or canon", args[0])
}

func printRows(paths []string) error {
	out := bufio.NewWriter(os.Stdout)
	for _, path := range paths {
		var s session
		if err := readFile(path, &s); err != nil {
			return err
		}
		row, err := encodeRow(s, time.Now())
		var refused refusal
		if errors.As(err, &refused) {
			row = fmt.Appendf(nil, "{\"refused\":%q,\"kind\":%q}\n", refused.key, refused.kind.Error())
		} else if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		out.Write(row)
	}
	return out.Flush()
}

func appendRows(args []string) error {
	times := 1
	if len(args) > 1 && args[0] == "--times" {
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return fmt.Errorf("--times takes a number: %w", err)
		}
		times, args = n, args[2:]
	}
	if len(args) < 2 {
		return errors.New("usage: parity append [--times N] LOG FIXTURE...")
	}
	target := log{path: args[0], fd: -1}
	defer target.close()
	sessions := make([]session, len(args)-1)
	for i, path := range args[1:] {
		if err := readFile(path, &sessions[i]); err != nil {
			return err
		}
	}
	for range times {
		for _, s := range sessions {
			row, err := encodeRow(s, time.Now())
			if err != nil {
				return err
			}
			if err := target.append(row); err != nil {
				return err
			}
		}
	}
	return nil
}

func printCanonical(paths []string) error {
	out := bufio.NewWriter(os.Stdout)
	for _, path := range paths {
		var cases []text
		if err := readFile(path, &cases); err != nil {
			return err
		}
		for _, c := range cases {
			if canonical, err := canonicalize([]byte(c)); err != nil {
				fmt.Fprintf(out, "refused %s\n", err)
			} else {
				fmt.Fprintf(out, "ok %s\n", canonical)
			}
		}
	}
	return out.Flush()
}
