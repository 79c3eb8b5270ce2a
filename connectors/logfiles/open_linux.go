package logfiles

import "github.com/lethe-gdpr/lethe/connectors"

func open(s *connectors.System, o connectors.Options) (connectors.Connector, error) {
	return newFolder(s, o)
}
