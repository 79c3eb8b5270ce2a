package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/gin-gonic/gin"

	"github.com/lethe-gdpr/lethe/api/gen"
	"github.com/lethe-gdpr/lethe/dsr"
)

// validate holds a call against the contract before a handler sees it: parameters, content type, size, JSON, schema.
// What is wrong is named by its field in our own words; the validator's messages are not used, since they may repeat
// what was sent.
func (s *server) validate(g *gin.Context) {
	r := s.contract.of(g)
	body, err := s.readBody(g, r)
	if err != nil {
		s.fail(g, err)
		return
	}
	params := map[string]string{}
	for _, p := range g.Params {
		params[p.Key] = p.Value
	}
	in := &openapi3filter.RequestValidationInput{
		Request: g.Request, PathParams: params, Route: &r.Route,
		Options: &openapi3filter.Options{
			MultiError: true, KeepValidatedValue: true, SkipSettingDefaults: true,
			SchemaValidationOptions: []openapi3.SchemaValidationOption{
				openapi3.EnableFormatValidation(),
				openapi3.WithStringFormatValidator("date-time", timestamp{}),
			},
		},
	}
	var wrong []gen.FieldError
	for _, p := range r.parameters {
		if err := openapi3filter.ValidateParameter(g.Request.Context(), in, p.Value); err != nil {
			wrong = append(wrong, gen.FieldError{Field: p.Value.Name, Message: parameterMessage(err, p.Value)})
		}
	}
	for name := range g.Request.URL.Query() {
		if r.parameters.GetByInAndName(openapi3.ParameterInQuery, name) == nil {
			wrong = append(wrong, gen.FieldError{Field: safeName(name, "query"), Message: "is not a known parameter"})
		}
	}
	if op := r.Operation.RequestBody; op != nil && len(wrong) == 0 {
		g.Request.Body = io.NopCloser(bytes.NewReader(body))
		if err := openapi3filter.ValidateRequestBody(g.Request.Context(), in, op.Value); err != nil {
			wrong = append(wrong, bodyErrors(err)...)
		}
	}
	if len(wrong) > 0 {
		slices.SortStableFunc(wrong, func(a, b gen.FieldError) int { return strings.Compare(a.Field, b.Field) })
		sameField := func(a, b gen.FieldError) bool { return a.Field == b.Field }
		s.fail(g, &invalidFields{errs: slices.CompactFunc(wrong, sameField)})
		return
	}
	g.Set(bodyKey, body)
	g.Next()
}

const (
	bodyKey    = "lethe.body"
	maxReading = 30 * time.Second
)

// readBody returns the whole body when the operation takes one, after everything that can be said without the schema.
func (s *server) readBody(g *gin.Context, r *route) ([]byte, error) {
	// A body that drips must not hold a connection for ever; afterwards the work may take its time. Not every writer has
	// deadlines.
	conn := http.NewResponseController(g.Writer)
	_ = conn.SetReadDeadline(time.Now().Add(maxReading))
	raw, err := io.ReadAll(http.MaxBytesReader(g.Writer, g.Request.Body, s.MaxBody))
	_ = conn.SetReadDeadline(time.Time{})
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, err
		}
		return nil, malformed("body", "could not be read to its end")
	}
	if r.Operation.RequestBody == nil {
		if len(raw) > 0 {
			return nil, malformed("body", "this operation takes none")
		}
		return nil, nil
	}
	if len(raw) == 0 {
		return nil, malformed("body", "is missing")
	}
	media, params, err := mime.ParseMediaType(g.GetHeader("Content-Type"))
	charset, has := params["charset"]
	if err != nil || media != "application/json" || has && !strings.EqualFold(charset, "utf-8") {
		return nil, &dsr.Error{Code: CodeContentType, Field: "Content-Type", Msg: "send application/json in UTF-8"}
	}
	g.Request.Header.Set("Content-Type", "application/json") // parameters have had their say
	if !utf8.Valid(raw) {
		return nil, malformed("body", "is not UTF-8")
	}
	if err := oneValue(raw); err != nil {
		return nil, err
	}
	return raw, nil
}

// oneValue refuses what is not JSON, more than one value, and a member that is given twice, of which two readers may
// take different ones.
func oneValue(raw []byte) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	type level struct {
		object bool
		key    bool // a member's name is next
		seen   map[string]bool
	}
	var stack []level
	closed := func() {
		if n := len(stack); n > 0 && stack[n-1].object {
			stack[n-1].key = true
		}
	}
	for {
		t, err := dec.Token()
		if err != nil {
			return malformed("body", fmt.Sprintf("is not valid JSON near byte %d", dec.InputOffset()))
		}
		switch v := t.(type) {
		case json.Delim:
			switch v {
			case '{':
				stack = append(stack, level{object: true, key: true, seen: map[string]bool{}})
			case '[':
				stack = append(stack, level{})
			default:
				stack = stack[:len(stack)-1]
				closed()
			}
			if len(stack) > 64 {
				return malformed("body", "is nested too deeply")
			}
		case string:
			n := len(stack)
			if n > 0 && stack[n-1].object && stack[n-1].key {
				if stack[n-1].seen[v] {
					return malformed(safeName(v, "body"), "is given twice")
				}
				stack[n-1].seen[v] = true
				stack[n-1].key = false
				continue
			}
			closed()
		default:
			closed()
		}
		if len(stack) == 0 {
			break
		}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return malformed("body", "has something after its end")
	}
	return nil
}

// safeName returns a field's name when it can be nothing but one, and what it is in otherwise: a caller might have
// put a person's address where a name belongs.
func safeName(name, otherwise string) string {
	if len(name) <= 40 && fieldName.MatchString(name) {
		return name
	}
	return otherwise
}

var fieldName = regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)

type timestamp struct{}

func (timestamp) Validate(v string) error {
	_, err := time.Parse(time.RFC3339Nano, v)
	return err
}

func parameterMessage(err error, p *openapi3.Parameter) string {
	var se *openapi3.SchemaError
	switch {
	case errors.Is(err, openapi3filter.ErrInvalidRequired), errors.Is(err, openapi3filter.ErrInvalidEmptyValue):
		return "is missing"
	case errors.As(err, &se):
		return message(se)
	case p.Schema != nil && p.Schema.Value.Type != nil:
		return "must be " + article(p.Schema.Value.Type)
	}
	return "is not valid"
}

// bodyErrors flattens the validator's errors to fields.
func bodyErrors(err error) []gen.FieldError {
	var (
		many openapi3.MultiError
		req  *openapi3filter.RequestError
		se   *openapi3.SchemaError
	)
	switch e := err.(type) { //nolint:errorlint // the order of wrapping matters: from the outside inwards
	case openapi3.MultiError:
		many = e
	case *openapi3filter.RequestError:
		req = e
	case *openapi3.SchemaError:
		se = e
	}
	switch {
	case many != nil:
		var out []gen.FieldError
		for _, e := range many {
			out = append(out, bodyErrors(e)...)
		}
		return out
	case req != nil && req.Err != nil:
		return bodyErrors(req.Err)
	case se != nil:
		return schemaErrors(se)
	}
	return []gen.FieldError{{Field: "body", Message: "does not have the shape that openapi.yaml asks for"}}
}

func schemaErrors(e *openapi3.SchemaError) []gen.FieldError {
	object, _ := e.Value.(map[string]any)
	var out []gen.FieldError
	switch e.SchemaField {
	case "properties": // of an object that has unknown ones
		parent := e.JSONPointer()
		for name := range object {
			if _, known := e.Schema.Properties[name]; !known {
				field := fieldPath(parent)
				if n := safeName(name, ""); n != "" {
					field = fieldPath(append(slices.Clone(parent), n))
				}
				out = append(out, gen.FieldError{Field: field, Message: "is not a known field"})
			}
		}
	case "required":
		parent := e.JSONPointer()
		if n := len(parent); n > 0 && object[parent[n-1]] == nil && slices.Contains(e.Schema.Required, parent[n-1]) {
			parent = parent[:n-1] // the pointer names the missing field itself
		}
		for _, name := range e.Schema.Required {
			if _, there := object[name]; !there {
				out = append(out, gen.FieldError{Field: fieldPath(append(slices.Clone(parent), name)), Message: "is missing"})
			}
		}
	}
	if len(out) == 0 {
		out = append(out, gen.FieldError{Field: fieldPath(e.JSONPointer()), Message: message(e)})
	}
	return out
}

// fieldPath writes ["identifiers", "0", "value"] as identifiers[0].value. Every part is a name that the contract
// knows, or an index.
func fieldPath(pointer []string) string {
	var b strings.Builder
	for _, part := range pointer {
		if _, err := strconv.Atoi(part); err == nil {
			b.WriteString("[" + part + "]")
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(safeName(part, "?"))
	}
	if b.Len() == 0 {
		return "body"
	}
	return b.String()
}

// message says what is asked for, in terms of the schema alone.
func message(e *openapi3.SchemaError) string {
	s := e.Schema
	switch e.SchemaField {
	case "type", "nullable":
		return "must be " + article(s.Type)
	case "enum":
		return fmt.Sprintf("must be one of %v", s.Enum)
	case "pattern":
		return "must match " + s.Pattern
	case "format":
		return "must be a " + s.Format
	case "minLength":
		return fmt.Sprintf("must have at least %d characters", s.MinLength)
	case "maxLength":
		return fmt.Sprintf("must have at most %d characters", *s.MaxLength)
	case "minItems":
		return fmt.Sprintf("must have at least %d items", s.MinItems)
	case "maxItems":
		return fmt.Sprintf("must have at most %d items", *s.MaxItems)
	case "uniqueItems":
		return "must not repeat an item"
	case "minimum":
		return fmt.Sprintf("must be at least %v", *s.Min)
	case "maximum":
		return fmt.Sprintf("must be at most %v", *s.Max)
	case "required":
		return "is missing"
	case "properties":
		return "has a field that is not known"
	}
	return "is not valid"
}

func article(t *openapi3.Types) string {
	if t == nil || len(t.Slice()) == 0 {
		return "of another type"
	}
	name := t.Slice()[0]
	if strings.ContainsRune("aeiou", rune(name[0])) {
		return "an " + name
	}
	return "a " + name
}
