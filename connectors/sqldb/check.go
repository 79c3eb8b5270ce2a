package sqldb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lethe-gdpr/lethe/connectors"
	"github.com/lethe-gdpr/lethe/dsr"
)

// Codes of what Check finds. They are stable: people silence them in CI and link to them.
const (
	// FindReplica: the connection goes to a standby or a read-only server, where nothing can be deleted and a search
	// may miss what the primary has.
	FindReplica = "replica"
	// FindLogsBindValues: the server writes statements with their values into its log, and so identifiers.
	FindLogsBindValues = "logs-bind-values"

	// FindUnmappedColumn: a column of a mapped entity is neither declared nor said to hold nothing personal.
	FindUnmappedColumn = "unmapped-column"
	// FindUndeclaredReference: a foreign key to an entity whose rows are deleted is not among the map's references.
	FindUndeclaredReference = "undeclared-reference"
	// FindStaleIgnore: the map ignores a table that is not there.
	FindStaleIgnore = "stale-ignore"
	// FindViewMapped: an entity is a view; rows are deleted and searched in tables.
	FindViewMapped = "view-mapped"
	// FindPartitionMapped: an entity is a partition of another table.
	FindPartitionMapped = "partition-mapped"
	// FindMaterializedView: a stored view keeps a copy of personal data until somebody refreshes it.
	FindMaterializedView = "materialized-view"
	// FindTenantColumn: the map has tenants and an entity has neither a tenant column nor `shared: true`.
	FindTenantColumn = "tenant-column-missing"
	// FindNoPrimaryKey: rows cannot be told apart, so an interrupted deletion cannot be settled exactly.
	FindNoPrimaryKey = "no-primary-key"
	// FindNotTransactional: the table's storage engine ignores transactions.
	FindNotTransactional = "not-transactional"
	// FindTrigger: triggers run when Lethe deletes or changes rows and may copy or refuse them.
	FindTrigger = "trigger-on-entity"

	// FindCompositeAsText: several column names were written as one string where a list was meant.
	FindCompositeAsText = "composite-as-text"
	// FindWrongReference: a reference does not fit the table that it points at.
	FindWrongReference = "wrong-reference"
	// FindReferenceType: the types on both ends of a reference cannot be compared.
	FindReferenceType = "reference-type-mismatch"
	// FindIdentifierType: a column cannot hold values of the identifier that the map says it has.
	FindIdentifierType = "identifier-type-mismatch"
	// FindUnindexedReference: no index serves a reference, so that every deletion reads the whole table.
	FindUnindexedReference = "unindexed-reference"
	// FindUnindexedIdentifier: no index serves the search for an identifier.
	FindUnindexedIdentifier = "unindexed-identifier"
	// FindUnknownDiscriminator: a polymorphic reference has rows of a type that the map does not list.
	FindUnknownDiscriminator = "unknown-discriminator"

	// FindNoOwner: an entity with personal fields cannot be reached from any subject.
	FindNoOwner = "no-owner"
	// FindNullableOnlyPath: every path from an entity to a subject may be NULL, so that rows can be lost from sight.
	FindNullableOnlyPath = "nullable-only-path"
	// FindKeptWithoutAnchor: a row that stays would refer to a row that is deleted.
	FindKeptWithoutAnchor = "kept-without-anchor"
	// FindBlockedDeletion: a foreign key that only gives access keeps the row that it refers to from being deleted, or
	// would be deleted with it.
	FindBlockedDeletion = "blocked-deletion"
	// FindBlockedRule: rows that stay keep a deletion rule from deleting those that they refer to, and no rule ends them.
	FindBlockedRule = "blocked-rule"
	// FindCycle: tables refer to each other in a circle that can be opened nowhere.
	FindCycle = "cycle-without-break"
	// FindMaskUnproven: whether a mask's values satisfy a CHECK constraint cannot be told beforehand.
	FindMaskUnproven = "mask-unproven"
	// FindUnmaskedField: a row stays after an erasure and one of its personal fields is not masked.
	FindUnmaskedField = "unmasked-field"

	// FindUnindexedStart: no index serves a deletion rule's starting point, so that a sweep reads the table again and again.
	FindUnindexedStart = "unindexed-start"
	// FindNullStart: a deletion rule's starting point may be NULL and the rule does not say what that means.
	FindNullStart = "null-start"
	// FindStartType: a deletion rule starts at a column that cannot be compared with a day.
	FindStartType = "start-type-mismatch"
	// FindConditionValue: a deletion rule's condition asks for a value that its column cannot hold.
	FindConditionValue = "condition-value"

	// FindRowSecurity: row security hides rows from Lethe's database user.
	FindRowSecurity = "row-security"
	// FindUnusableMap: the map cannot be carried out for a reason that no other code names.
	FindUnusableMap = "unusable-map"
)

// checker collects findings about one database.
type checker struct {
	d        *DB
	c        *catalogue
	found    []connectors.Finding
	entities []*checked
	byName   map[string]*checked
	byTable  map[string]*checked
	owned    map[*checked]bool // entities that an owner's path connects with a subject
	rule     string            // the deletion rule that findings are about; empty when they are about everything
}

// checked is one entity of the map and its table, nil when there is none.
type checked struct {
	*connectors.Entity
	table *connectors.EntitySchema
	facts *tableFacts
}

func (k *checker) add(code string, severity connectors.Severity, entity, field, message, hint string) {
	f := connectors.Finding{Code: code, Severity: severity, Entity: entity, Field: field, Rule: k.rule, Message: message, Hint: hint}
	if !slices.Contains(k.found, f) {
		k.found = append(k.found, f)
	}
}

// fail adds a finding of severity Error; message and hint are complete.
func (k *checker) fail(code, entity, field, message, hint string) {
	k.add(code, connectors.Error, entity, field, message, hint)
}

func (k *checker) warn(code, entity, field, message, hint string) {
	k.add(code, connectors.Warning, entity, field, message, hint)
}

// Check compares the map with the database, its data model, its settings and the privileges of Lethe's user. When the
// database cannot be reached it returns the finding [connectors.FindUnreachable], and also an error while trying again may help.
func (d *DB) Check(ctx context.Context) ([]connectors.Finding, error) {
	c, err := d.readCatalogue(ctx)
	if err != nil {
		return d.unreachable(classify(d.dialect, err))
	}
	k := newChecker(d, c)
	k.checkTables()
	k.checkColumns()
	k.checkReferences()
	k.checkUnmapped()
	k.checkIgnored()
	k.checkOwnership()
	k.checkKept()
	k.checkCycles()
	k.checkMasks(ctx)
	for _, check := range []func(context.Context) error{
		k.checkDiscriminators, k.checkRules, k.checkServer, k.checkPrivileges, k.checkPace, k.checkUsable,
	} {
		if err := check(ctx); err != nil {
			return nil, classify(d.dialect, err)
		}
	}
	slices.SortStableFunc(k.found, func(a, b connectors.Finding) int {
		return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Rule, b.Rule))
	})
	return k.found, nil
}

func newChecker(d *DB, c *catalogue) *checker {
	k := &checker{d: d, c: c, byName: make(map[string]*checked), byTable: make(map[string]*checked)}
	for i := range d.System.Entities {
		e := &checked{Entity: &d.System.Entities[i]}
		if e.table, e.facts = findTable(c, e.From()); e.table != nil {
			k.byTable[e.table.Name] = e
		}
		k.entities = append(k.entities, e)
		k.byName[e.Name] = e
	}
	k.owned = k.reach(func(*checked, connectors.Owner) bool { return true })
	return k
}

// failed reports an Error that stops everything or, where a rule is being looked at, that rule.
func (k *checker) failed() bool {
	return slices.ContainsFunc(k.found, func(f connectors.Finding) bool {
		return f.Severity == connectors.Error && (f.Rule == "" || f.Rule == k.rule)
	})
}

// checkUsable builds what the verbs work with, and looks with it at what rules start with. What the verbs would refuse and
// nothing else found is a finding too.
func (k *checker) checkUsable(ctx context.Context) error {
	m, err := newModel(k.d, k.c)
	if err != nil {
		if !k.failed() {
			k.fail(FindUnusableMap, "", "", err.Error(), hintOf(err))
		}
		return nil
	}
	if _, err := m.erasureMarks(connectors.Holds{}); err != nil && !k.failed() {
		k.fail(FindUnusableMap, "", "", err.Error(), hintOf(err))
	}
	var failed error
	k.eachRule(func(e *checked, r *connectors.Rule, after []*connectors.Rule) {
		cut := connectors.Cut{Before: k.d.now(), Zone: time.UTC}
		for _, a := range after {
			cut.After = append(cut.After, connectors.Bound{Rule: *a, Before: cut.Before})
		}
		u, err := m.newSweepRule(e.Name, *r, cut, connectors.Holds{})
		switch {
		case err == nil:
			failed = cmp.Or(failed, k.checkStarts(ctx, u))
		case !k.failed():
			k.fail(FindUnusableMap, e.Name, "", err.Error(), hintOf(err))
		}
	})
	return failed
}

// unreachable turns a failure to connect into a finding.
func (d *DB) unreachable(err error) ([]connectors.Finding, error) {
	if errors.Is(err, context.Canceled) {
		return nil, err
	}
	var reason *dsr.Error
	f := connectors.Finding{
		Code: connectors.FindUnreachable, Severity: connectors.Error, Message: "the catalogue cannot be read: " + err.Error(),
		Hint: "Check the system's dsn, the network between Lethe and the database, and the database user.",
	}
	if errors.As(err, &reason) {
		f.Message = "the catalogue cannot be read: " + reason.Msg
		if reason.Err != nil {
			f.Message += " (" + reason.Err.Error() + ")"
		}
		if connectors.IsPermanent(err) && reason.Hint != "" {
			f.Hint = reason.Hint
		}
	}
	if connectors.IsPermanent(err) {
		return []connectors.Finding{f}, nil
	}
	return []connectors.Finding{f}, err
}

func hintOf(err error) string {
	var e *dsr.Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}

// list writes names for a person: "a, b and c".
func list(names []string) string {
	switch len(names) {
	case 0:
		return ""
	case 1:
		return names[0]
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// nearest returns a hint with the candidate that a misspelt name may have meant.
func nearest(name string, candidates []string, otherwise string) string {
	best, distance := "", 3
	for _, c := range candidates {
		if d := editDistance(strings.ToLower(name), strings.ToLower(c)); d < distance {
			best, distance = c, d
		}
	}
	if best == "" {
		return otherwise
	}
	return fmt.Sprintf("Did you mean %s?", best)
}

// editDistance is Levenshtein's distance.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
