package sqldb

import (
	"context"
	"fmt"
)

// Codes of what Check finds about the pace of Sweeps. They are warnings: a Sweep works on without what it cannot see.
const (
	// FindLagUnseen: sweeps are to pause for replicas, and how far those are behind cannot be looked at.
	FindLagUnseen = "lag-unseen"
	// FindLoadUnseen: sweeps are to pause for active sessions or lock waits, and those of others cannot be looked at.
	FindLoadUnseen = "load-unseen"
)

// checkPace reports what of the configured pace cannot be looked at.
func (k *checker) checkPace(ctx context.Context) error {
	pace := k.d.pace
	if k.d.dialect.name == sqlite || pace.Lag == 0 && pace.Sessions == 0 && pace.LockWaits == 0 {
		return nil
	}
	if pace.Lag > 0 {
		if err := k.checkReplicas(ctx); err != nil {
			return err
		}
	}
	r, release, err := k.d.reader(ctx)
	if err != nil {
		return err
	}
	defer release()
	if k.d.dialect.name == mariadb {
		k.checkMariaDBPace(ctx, r)
		return nil
	}
	sees, standbys := true, int64(0)
	err = r.run(ctx, &call{
		text: `SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')::text, (SELECT count(*) FROM pg_stat_replication)::text`,
		row:  func(v [][]byte) error { sees, standbys = string(v[0]) == "true", parseInt(v[1]); return nil },
	})
	if err != nil || sees {
		return err
	}
	const hint = "Give Lethe's user the role pg_read_all_stats (pg_monitor has it)"
	if pace.Lag > 0 && len(k.d.replicas) == 0 {
		seen := "Lethe's user may not see how far replicas are behind, so sweeps do not wait for them"
		if standbys > 0 {
			seen += fmt.Sprintf("; there are %d now", standbys)
		}
		k.warn(FindLagUnseen, "", "", seen, hint+", or name the replicas under replicas.")
	}
	if pace.Sessions > 0 {
		k.warn(FindLoadUnseen, "", "", "Lethe's user may not see whether others' sessions are active, so sweeps do not wait for them", hint+".")
	}
	return nil
}

func (k *checker) checkMariaDBPace(ctx context.Context, r session) {
	pace := k.d.pace
	ignore := func([][]byte) error { return nil }
	if pace.Lag > 0 && len(k.d.replicas) == 0 {
		logs := false
		err := r.run(ctx, &call{text: "SELECT @@global.log_bin", row: func(v [][]byte) error { logs = string(v[0]) == "1"; return nil }})
		if logs || err != nil {
			k.warn(FindLagUnseen, "", "", "the server does not know how far its replicas are behind, so sweeps do not wait for them",
				"Name the replicas under replicas.")
		}
	}
	if pace.Sessions == 0 && pace.LockWaits == 0 {
		return
	}
	// Without the privilege the list of sessions is short and says nothing of it; this one is refused.
	if err := r.run(ctx, &call{text: "SELECT count(*) FROM information_schema.innodb_trx", row: ignore}); err != nil {
		k.warn(FindLoadUnseen, "", "", "Lethe's user may not see others' sessions and lock waits, so sweeps do not wait for them",
			"GRANT PROCESS ON *.* to Lethe's user.")
	}
}

// checkReplicas asks each replica that the map names, as a Sweep will.
func (k *checker) checkReplicas(ctx context.Context) error {
	for i, r := range k.d.replicas {
		var follows bool
		var err error
		if r.dialect.name == postgres {
			_, _, follows, err = r.replayed(ctx)
		} else {
			_, follows, err = r.secondsBehind(ctx)
		}
		name := fmt.Sprintf("replica %d of replicas", i+1)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case codeIs(err, CodePermission):
			k.warn(FindLagUnseen, "", "", name+" does not tell Lethe's user how far it is behind, so sweeps fail",
				"GRANT REPLICA MONITOR ON *.* to the user, on the replica; before MariaDB 10.5 and on MySQL: REPLICATION CLIENT.")
		case err != nil:
			k.warn(FindLagUnseen, "", "", name+" cannot be asked how far it is behind, so sweeps fail: "+err.Error(), hintOf(err))
		case !follows:
			k.warn(FindLagUnseen, "", "", name+" replicates nothing", "Name replicas only, by addresses of their own.")
		}
	}
	return nil
}
