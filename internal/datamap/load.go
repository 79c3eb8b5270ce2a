package datamap

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"regexp"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
	"github.com/lethe-gdpr/lethe/retention"
)

// Load reads a data map. env resolves the ${VARIABLES} of system settings (os.LookupEnv), kinds are the connectors
// that a map may name. The error is Faults.
func Load(text []byte, env func(string) (string, bool), kinds []connectors.Kind) (*Map, error) {
	r := &reader{env: env, places: map[string]*yaml.Node{}}
	root, ok := r.document(text)
	if !ok {
		return nil, r.faults
	}
	m := &Map{
		Identifiers: map[string]dsr.IdentifierKind{}, Classes: map[string]retention.Class{}, places: map[string]map[string]string{},
	}
	systems := &systemReader{reader: r, m: m, kinds: kinds, identified: map[string]bool{}, flat: map[string]bool{}, ruleNames: map[string]bool{}}
	r.mapping(
		root, "",
		key{"version", true, func(n *yaml.Node, path string) {
			if n.Value != "1" {
				r.fault(n, path, "must be 1", "this is the only version of the format")
			}
		}},
		key{"controller", true, r.controller(&m.Controller)},
		key{"processor", false, r.processor(&m.Instruction)},
		key{"tenants", false, func(n *yaml.Node, path string) {
			r.mapping(n, path, key{"identifier", true, r.text(&m.Tenants)})
		}},
		key{"identifiers", true, r.identifiers(m.Identifiers)},
		key{"deletion_classes", false, r.classes(m.Classes)},
		key{"art15", false, r.art15(&m.Art15)},
		key{"systems", true, systems.read},
	)
	for _, s := range m.Systems {
		s.Zone = m.Controller.Zone
	}
	if len(r.faults) == 0 {
		validate(r, m, systems)
	}
	if len(r.faults) > 0 {
		slices.SortStableFunc(r.faults, func(a, b Fault) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		return nil, r.faults
	}
	return m, nil
}

func (r *reader) document(text []byte) (*yaml.Node, bool) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			r.fault(nil, "", "the map is empty", "`lethe init` drafts one from a database")
			return nil, false
		}
		r.syntax(err)
		return nil, false
	}
	var more yaml.Node
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		r.fault(&more, "", "a map is one document", "remove the --- and what follows it")
		return nil, false
	}
	return doc.Content[0], true
}

var yamlLine = regexp.MustCompile(`line (\d+)`)

// syntax reports what the YAML parser found. Its own text may repeat a value, so only its line is used.
func (r *reader) syntax(err error) {
	line := 1
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		line, _ = strconv.Atoi(m[1])
	}
	r.fault(&yaml.Node{Line: line, Column: 1}, "", "this is not YAML", "look for a tab, an unclosed quote or a wrong indent near this line")
}

var countryCode = regexp.MustCompile(`^[A-Z]{2}$`)

func (r *reader) controller(c *Controller) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		r.mapping(
			n, path,
			key{"name", true, r.text(&c.Name)},
			key{"country", true, func(n *yaml.Node, path string) {
				r.text(&c.Country)(n, path)
				if !countryCode.MatchString(c.Country) {
					r.fault(n, path, "must be a country code of ISO 3166", "write SE, DE or FR")
				}
			}},
			key{"time_zone", true, func(n *yaml.Node, path string) {
				var name string
				r.text(&name)(n, path)
				zone, err := time.LoadLocation(name)
				if err != nil || name == "Local" || name == "" {
					r.fault(n, path, "is not a time zone of the IANA database", "write Europe/Stockholm")
					return
				}
				c.Zone = zone
			}},
		)
	}
}

func (r *reader) processor(instruction *bool) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		r.mapping(n, path, key{"instruction", true, func(n *yaml.Node, path string) {
			*instruction = n.Value == "required"
			if n.Value != "required" && n.Value != "not_required" {
				r.fault(n, path, "must be required or not_required", "")
			}
		}})
	}
}

// IdentifierKinds lists the kinds that the map may declare.
func IdentifierKinds() []dsr.IdentifierKind {
	return []dsr.IdentifierKind{
		dsr.KindEmail, dsr.KindInteger, dsr.KindIP, dsr.KindOpaque, dsr.KindPhone, dsr.KindUUID,
	}
}

func (r *reader) identifiers(to map[string]dsr.IdentifierKind) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		r.each(n, path, func(name string, _, v *yaml.Node) {
			at := join(path, name)
			r.mapping(v, at, key{"kind", true, func(n *yaml.Node, path string) {
				if k := dsr.IdentifierKind(n.Value); slices.Contains(IdentifierKinds(), k) {
					to[name] = k
					return
				}
				r.fault(n, path, "is not a kind of identifier", nearest(n.Value, texts(IdentifierKinds())))
			}})
		})
		if len(n.Content) == 0 {
			r.fault(n, path, "declares nothing", "a person is found by at least one identifier")
		}
	}
}

func texts[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}

func (r *reader) classes(to map[string]retention.Class) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		r.each(n, path, func(name string, _, v *yaml.Node) {
			c := retention.Class{Name: name}
			at, before := join(path, name), len(r.faults)
			r.mapping(
				v, at,
				key{"period", true, r.period(&c.Period)},
				key{"from", true, func(n *yaml.Node, path string) {
					c.Start = retention.Start(n.Value)
					if !slices.Contains(retention.Starts(), c.Start) {
						r.fault(n, path, "is not a starting point", nearest(n.Value, texts(retention.Starts())))
					}
				}},
				key{"fiscal_year_end", false, func(n *yaml.Node, path string) {
					d, err := time.Parse("01-02", n.Value)
					if err != nil {
						r.fault(n, path, "must be a month and a day", "write 06-30")
						return
					}
					c.FiscalYear = retention.MonthDay{Month: d.Month(), Day: d.Day()}
				}},
				key{"minimum", false, r.period(&c.Minimum)},
				key{"grace", false, r.period(&c.Grace)},
			)
			if err := c.Validate(); err != nil && len(r.faults) == before {
				r.refuse(r.places[at+".minimum"], at+".minimum", err)
			}
			to[name] = c
		})
	}
}

func (r *reader) period(to *retention.Period) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		var err error
		if *to, err = retention.ParsePeriod(n.Value); err != nil {
			r.refuse(n, path, err)
		}
	}
}

// refuse reports a domain error.
func (r *reader) refuse(n *yaml.Node, path string, err error) {
	var e *dsr.Error
	if errors.As(err, &e) {
		r.fault(n, path, e.Msg, e.Hint)
		return
	}
	r.fault(n, path, err.Error(), "")
}

func (r *reader) art15(a *Art15) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		var keys []key
		for _, c := range a.Clauses() {
			keys = append(keys, key{name: c.Name, read: func(n *yaml.Node, path string) {
				switch n.Kind {
				case yaml.MappingNode:
					r.mapping(n, path, key{"not_applicable", true, r.flag(&c.NotApplicable)})
				case yaml.SequenceNode:
					r.names(&c.Text)(n, path)
				default:
					var s string
					r.text(&s)(n, path)
					c.Text = []string{s}
				}
			}})
		}
		r.mapping(n, path, keys...)
	}
}
