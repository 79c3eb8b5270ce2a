-- +goose Up

-- A worker is at the sweep until its lease ends: sweeps of one system take turns.
ALTER TABLE sweeps ADD COLUMN works BOOLEAN NOT NULL DEFAULT FALSE;

-- +goose Down
ALTER TABLE sweeps DROP COLUMN works;
