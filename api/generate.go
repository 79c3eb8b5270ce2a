package api

// The server is generated from the contract; run `go generate ./api ./client` after a change of openapi.yaml.
//go:generate sh -c "cd gen && go tool -modfile=../../tools/go.mod oapi-codegen -config config.yaml ../../openapi.yaml"
