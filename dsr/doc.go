// Package dsr is the domain of data-subject requests: what a Request is, which states it passes through, when it is
// due, what a Plan, a Receipt and a Residue say. It imports nothing but the standard library; every other package of
// Lethe speaks its words (see the table of words in docs/ARCHITECTURE.md).
package dsr
