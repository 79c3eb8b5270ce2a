// Package auth says who calls and what they may do: principals (persons and systems), their API keys, the roles and
// the one table of permissions, the rate limit and the lockout. It knows no HTTP and no database; what it needs of
// the latter it declares in store.go.
package auth
