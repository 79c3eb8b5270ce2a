package auth

import (
	"slices"

	"github.com/lethe-gdpr/lethe/dsr"
)

// Permission says who may call one operation of openapi.yaml.
type Permission struct {
	Operation string   // operationId
	Roles     []string // any of them; none and not Open is nobody
	// PersonsOnly keeps systems out whatever their roles: the decision is a person's (Art. 22 and four eyes).
	PersonsOnly bool
	// Open operations need no key: a one-time link is its own authority.
	Open bool
}

// Permissions is the one table of who may do what. It names every operation of the API; openapi.yaml repeats it in
// x-roles for its readers, and a test holds the two together. Roles say which operations; what of the answers is shown
// to whom (a portal's own requests, a tenant's) is the engine's to decide by the Actor.
func Permissions() []Permission {
	const (
		dpo      = dsr.RoleDPO
		operator = dsr.RoleOperator
		auditor  = dsr.RoleAuditor
		portal   = dsr.RolePortal
	)
	return []Permission{
		{Operation: "fileRequest", Roles: []string{dpo, operator, portal}},
		{Operation: "listRequests", Roles: []string{dpo, operator, auditor, portal}},
		// An auditor sees no identifiers, and a search would confirm guesses.
		{Operation: "searchRequests", Roles: []string{dpo, operator, portal}},
		{Operation: "getRequest", Roles: []string{dpo, operator, auditor, portal}},
		// What the organisation holds where is not a portal's to know.
		{Operation: "getPlan", Roles: []string{dpo, operator, auditor}},
		{Operation: "listTasks", Roles: []string{dpo, operator, auditor}},
		{Operation: "listEvents", Roles: []string{dpo, operator, auditor}},

		{Operation: "confirmIdentity", Roles: []string{dpo, operator, portal}},
		{Operation: "instructRequest", Roles: []string{dpo}},
		{Operation: "approveRequest", Roles: []string{dpo}, PersonsOnly: true},
		{Operation: "refuseRequest", Roles: []string{dpo}, PersonsOnly: true},
		{Operation: "extendRequest", Roles: []string{dpo}, PersonsOnly: true},
		{Operation: "pauseRequest", Roles: []string{dpo, operator}},
		{Operation: "resumeRequest", Roles: []string{dpo, operator}},
		{Operation: "cancelRequest", Roles: []string{dpo, operator, portal}},
		{Operation: "retryRequest", Roles: []string{dpo, operator}},
		{Operation: "completeTask", Roles: []string{dpo, operator}},

		{Operation: "getPackage", Roles: []string{dpo, operator, auditor, portal}},
		// The package is personal data in the clear: not the operator's, not the auditor's.
		{Operation: "createPackageLink", Roles: []string{dpo, portal}},
		{Operation: "downloadPackage", Open: true},

		{Operation: "listRules", Roles: []string{dpo, operator, auditor}},
		{Operation: "getRule", Roles: []string{dpo, operator, auditor}},
		{Operation: "forecastRetention", Roles: []string{dpo, operator, auditor}},
		{Operation: "simulateRetention", Roles: []string{dpo, operator}},
		// What is deleted without anybody asking is a person's decision; stopping it is everybody's who runs the house.
		{Operation: "approveRule", Roles: []string{dpo}, PersonsOnly: true},
		{Operation: "pauseRule", Roles: []string{dpo, operator}},
		{Operation: "resumeRule", Roles: []string{dpo, operator}},
		{Operation: "stopSweeps", Roles: []string{dpo, operator}},
		{Operation: "startSweeps", Roles: []string{dpo, operator}},
		{Operation: "startSweep", Roles: []string{dpo, operator}},
		{Operation: "listSweeps", Roles: []string{dpo, operator, auditor}},
		{Operation: "getSweep", Roles: []string{dpo, operator, auditor}},
		{Operation: "approveSweep", Roles: []string{dpo}, PersonsOnly: true},

		// A case-management system may place a hold; lifting one lets deletion go on.
		{Operation: "placeHold", Roles: []string{dpo}},
		{Operation: "listHolds", Roles: []string{dpo, operator, auditor}},
		{Operation: "searchHolds", Roles: []string{dpo}},
		{Operation: "getHold", Roles: []string{dpo, operator, auditor}},
		{Operation: "liftHold", Roles: []string{dpo}, PersonsOnly: true},
		{Operation: "reviewHold", Roles: []string{dpo}, PersonsOnly: true},

		{Operation: "previewPlan", Roles: []string{dpo, operator}},
		{Operation: "listSystems", Roles: []string{dpo, operator, auditor}},
		{Operation: "checkSystem", Roles: []string{dpo, operator}},

		{Operation: "createApiKey", Roles: []string{operator}},
		{Operation: "listApiKeys", Roles: []string{operator, auditor}},
		{Operation: "revokeApiKey", Roles: []string{operator}},
	}
}

// Roles lists every role.
func Roles() []string {
	return []string{dsr.RoleDPO, dsr.RoleOperator, dsr.RoleAuditor, dsr.RolePortal}
}

// Allow returns nil when the actor may call the operation; CodeForbidden otherwise.
func (p Permission) Allow(a dsr.Actor) error {
	switch {
	case p.Open:
		return nil
	case !slices.ContainsFunc(p.Roles, a.Has):
		return &dsr.Error{Code: dsr.CodeForbidden, Msg: "this key may not do that", Hint: "ask an operator for another role"}
	case p.PersonsOnly && a.System:
		return &dsr.Error{
			Code: dsr.CodeForbidden, Msg: "this is a person's decision", Hint: "use the key of a person, not of a system",
		}
	}
	return nil
}
