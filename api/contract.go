package api

import (
	"fmt"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
	"github.com/gin-gonic/gin"

	"github.com/lethe-gdpr/lethe/api/gen"
	"github.com/lethe-gdpr/lethe/internal/auth"
)

// contract is openapi.yaml by gin's routes.
type contract struct {
	routes map[string]*route // by method, space, gin path
}

type route struct {
	routers.Route
	permission auth.Permission
	parameters openapi3.Parameters // of the path and the operation
	idempotent bool                // takes an Idempotency-Key
}

func readContract() (*contract, error) {
	spec, err := gen.GetSpec()
	if err != nil {
		return nil, fmt.Errorf("api: read the contract: %w", err)
	}
	permissions := map[string]auth.Permission{}
	for _, p := range auth.Permissions() {
		permissions[p.Operation] = p
	}
	c := &contract{routes: map[string]*route{}}
	for path, item := range spec.Paths.Map() {
		for method, op := range item.Operations() {
			if len(op.Tags) > 0 && op.Tags[0] == "operations" {
				continue // the application's own
			}
			// The generator embeds the contract with its own capitals.
			op.OperationID = strings.ToLower(op.OperationID[:1]) + op.OperationID[1:]
			p, ok := permissions[op.OperationID]
			if !ok {
				return nil, fmt.Errorf("api: nobody may call %s: it is missing in the table of permissions", op.OperationID)
			}
			r := &route{
				Route:      routers.Route{Spec: spec, Path: path, PathItem: item, Method: method, Operation: op},
				permission: p, parameters: append(append(openapi3.Parameters{}, item.Parameters...), op.Parameters...),
			}
			r.idempotent = r.parameters.GetByInAndName(openapi3.ParameterInHeader, "Idempotency-Key") != nil
			c.routes[method+" "+ginPath(path)] = r
		}
	}
	return c, nil
}

// ginPath writes "/v1/requests/{id}" as "/v1/requests/:id".
func ginPath(path string) string {
	return strings.NewReplacer("{", ":", "}", "").Replace(path)
}

func (c *contract) of(g *gin.Context) *route { return c.routes[g.Request.Method+" "+g.FullPath()] }
