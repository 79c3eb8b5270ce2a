package store

import (
	"context"
	"log/slog"
	"time"

	"gorm.io/gorm/logger"
)

// slowLog tells of slow statements, without their parameters. Errors are not logged here but returned: a driver's
// message may repeat a value.
type slowLog struct {
	log  *slog.Logger
	slow time.Duration
}

var _ logger.Interface = slowLog{}

func (l slowLog) LogMode(logger.LogLevel) logger.Interface    { return l }
func (slowLog) Info(context.Context, string, ...interface{})  {}
func (slowLog) Warn(context.Context, string, ...interface{})  {}
func (slowLog) Error(context.Context, string, ...interface{}) {}

// ParamsFilter leaves placeholders in the statements that Trace is given.
func (slowLog) ParamsFilter(_ context.Context, sql string, _ ...interface{}) (string, []interface{}) {
	return sql, nil
}

func (l slowLog) Trace(ctx context.Context, begin time.Time, fc func() (string, int64), _ error) {
	if took := time.Since(begin); took > l.slow {
		sql, rows := fc()
		l.log.WarnContext(ctx, "slow statement", "took", took, "rows", rows, "sql", sql)
	}
}
