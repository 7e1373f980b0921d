package main

import (
	"math"
	"strconv"
	"strings"
)

// appendNumber prints a valid number token: integers keep their digits, all others are doubles.
func appendNumber(out []byte, token string) ([]byte, error) {
	if strings.ContainsAny(token, ".eE") {
		value, err := parseDouble(token)
		if err != nil {
			return nil, err
		}
		return appendDouble(out, value), nil
	}
	if len(strings.TrimPrefix(token, "-")) > integerDigitsMax {
		return nil, integerTooLong
	}
	if token == "-0" {
		token = "0"
	}
	return append(out, token...), nil
}

// parseDouble rounds a token correctly, however long. strconv.ParseFloat stops counting an exponent at five
// digits and takes 0.00…01e200001 for 0, so that it is given a token with one digit before the point.
func parseDouble(token string) (float64, error) {
	mantissa, sign := strings.CutPrefix(token, "-")
	exponentText := ""
	if i := strings.IndexAny(mantissa, "eE"); i >= 0 {
		mantissa, exponentText = mantissa[:i], mantissa[i+1:]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return 0, nil
	}
	exponent := boundedInteger(exponentText) + len(digits) - len(fraction) - 1
	if exponent < -400 {
		return 0, nil
	}
	if exponent > 400 {
		return 0, doubleOverflow
	}
	value, err := strconv.ParseFloat(digits[:1]+"."+digits[1:]+"e"+strconv.Itoa(exponent), 64)
	if err != nil || math.IsInf(value, 0) {
		return 0, doubleOverflow
	}
	if sign {
		value = -value
	}
	return value, nil
}

// boundedInteger reads an exponent; beyond nine digits no text of 256 KiB can bring it back into range.
func boundedInteger(text string) int {
	digits, negative := strings.CutPrefix(text, "-")
	digits = strings.TrimLeft(strings.TrimPrefix(digits, "+"), "0")
	if len(digits) > 9 {
		digits = "999999999"
	}
	value, _ := strconv.Atoi("0" + digits)
	if negative {
		return -value
	}
	return value
}

// appendDouble is ECMAScript's Number::toString.
func appendDouble(out []byte, value float64) []byte {
	if value == 0 {
		return append(out, '0')
	}
	if value < 0 {
		out, value = append(out, '-'), -value
	}
	// The shortest digits that read back as the same double, as d.ddde±xx.
	mantissa, exponentText, _ := strings.Cut(strconv.FormatFloat(value, 'e', -1, 64), "e")
	exponent, _ := strconv.Atoi(exponentText)
	digits := strings.Replace(mantissa, ".", "", 1)
	point := exponent + 1 // the value is 0.digits times ten to the point
	switch {
	case len(digits) <= point && point <= 21:
		return append(append(out, digits...), strings.Repeat("0", point-len(digits))...)
	case 0 < point && point <= 21:
		return append(append(append(out, digits[:point]...), '.'), digits[point:]...)
	case -6 < point && point <= 0:
		return append(append(append(out, "0."...), strings.Repeat("0", -point)...), digits...)
	}
	out = append(out, digits[0])
	if len(digits) > 1 {
		out = append(append(out, '.'), digits[1:]...)
	}
	out = append(out, 'e')
	if point > 0 {
		out = append(out, '+')
	}
	return strconv.AppendInt(out, int64(point-1), 10)
}
