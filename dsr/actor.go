package dsr

import "slices"

// Actor is who calls a use case. ID is the person or system, not its key: two keys of one person share it, which is
// what four eyes count. Tenants nil is every tenant.
type Actor struct {
	ID      string
	Roles   []string
	Tenants []string
	System  bool // a machine, not a person
}

// Roles of an Actor.
const (
	RoleDPO      = "dpo"      // decides: approves, refuses, extends
	RoleOperator = "operator" // runs the house: systems, retries, keys
	RoleAuditor  = "auditor"  // reads everything but identifiers
	RolePortal   = "portal"   // files requests, sees only what it filed
)

// Engine is the Actor of what Lethe does by itself.
var Engine = Actor{ID: "lethe", Roles: []string{RoleOperator}, System: true}

// Has reports whether the actor has a role.
func (a Actor) Has(role string) bool { return slices.Contains(a.Roles, role) }

// OnlyOwn reports whether the actor may see no Request but those it filed.
func (a Actor) OnlyOwn() bool {
	return a.Has(RolePortal) && !a.Has(RoleDPO) && !a.Has(RoleOperator) && !a.Has(RoleAuditor)
}

// MayReach reports whether the actor works for a tenant.
func (a Actor) MayReach(tenant string) bool {
	return a.Tenants == nil || slices.Contains(a.Tenants, tenant)
}
