-- +goose Up

-- A worker is at the sweep until its lease ends: sweeps of one system take turns.
ALTER TABLE sweeps ADD COLUMN works boolean NOT NULL DEFAULT false;

-- +goose Down
ALTER TABLE sweeps DROP COLUMN works;
