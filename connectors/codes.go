package connectors

import "github.com/lethe-gdpr/lethe/dsr"

// Codes that more than one connector uses, for the same thing. Those of one connector alone are declared with it.
const (
	// CodeStart is of what a deletion rule leaves because its start is there and is not a time. It is a Finding's code too.
	CodeStart dsr.Code = "unreadable-start"

	// FindUnreachable: the System cannot be reached, or does not accept Lethe.
	FindUnreachable = "unreachable"
	// FindUnknownTable: the map names a table that is not there.
	FindUnknownTable = "unknown-table"
	// FindUnknownColumn: the map names a column that is not there.
	FindUnknownColumn = "unknown-column"
	// FindUnmappedTable: a table that refers to a mapped entity, or whose columns look personal, is not in the map.
	FindUnmappedTable = "unmapped-table"
	// FindTwoEntities: an object, a file or a log stream belongs to two entities, so that one takes what is the other's.
	FindTwoEntities = "two-entities"
	// FindMask: a mask cannot hold in its column.
	FindMask = "mask-cannot-hold"
	// FindPrivilege: Lethe lacks a privilege that an entity's method needs.
	FindPrivilege = "missing-privilege"
)
